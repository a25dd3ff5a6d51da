"""The terminal's view of a comparison: a line for each cell that is decided, and how far it is.

On a TTY what goes on is redrawn below the lines; elsewhere a plain line says it now and then.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jepsen_blk.campaign.rows import Cell, Row
from jepsen_blk.campaign.summary import CellSummary
from jepsen_blk.report.panel import Panel

_PLAIN_EVERY_S = 15.0
_STYLES = {"unsafe": "bold red", "safe": "bold green", "unknown": "bold yellow", "undecided": "yellow"}
_MOST_SKIPPED = 8


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a comparison is: runs that are known from before, and that may yet come at most."""

    name: str
    cells: int
    seeds: int
    skipped: Sequence[tuple[Cell, str]]
    known: int


class CompareView:
    """Shows a comparison; `most_left` says how many runs may come yet."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._panel = Panel(console, self.render, clock)
        self._told_s = 0.0
        self._most_left: Callable[[], int] = lambda: 0
        self._cells = self._decided = self._runs = 0
        self._verdicts: Counter[str] = Counter()
        self._last = ""

    def begin(self, extent: Extent, most_left: Callable[[], int]) -> None:
        """It begins, or goes on."""
        self._panel.begin()
        self._cells, self._most_left = extent.cells, most_left
        before = f"; {extent.known} runs are there from before" if extent.known else ""
        head = f"comparing {extent.name}: {_many(extent.cells, 'cell')} of {_many(extent.seeds, 'run')} each"
        self._panel.line(Text(f"{head}, fewer where that is enough{before}"))
        for line in skipped_lines(extent.skipped):
            self._panel.line(Text(line, style="dim"))
        self._panel.open()

    def row(self, row: Row) -> None:
        """A run has ended; the first of a cell that could not be made is a line of its own."""
        self._runs += 1
        self._verdicts[row.verdict] += 1
        if row.error and row.error != self._last:
            self._last = row.error
            self._panel.line(Text(f"{row.cell}, seed {row.seed}: {row.error}", style="yellow"))
        if not self._panel.is_open and self._panel.elapsed_s - self._told_s >= _PLAIN_EVERY_S:
            self._told_s = self._panel.elapsed_s
            self._panel.line(Text(self._progress()))

    def decided(self, cell: Cell, why: str) -> None:
        """A cell needs no more runs."""
        self._decided += 1
        judgement, _, rest = why.partition(":")
        self._panel.line(Text.assemble((f"{judgement:<9}", _STYLES.get(judgement, "")), f" {cell}:{rest}"))

    def close(self) -> None:
        """Give the terminal back."""
        self._panel.close()

    def render(self) -> Text:
        """Return what is shown under the lines."""
        return Text.assemble((" COMPARE ", "bold white on blue"), f"  {self._progress()}")

    def _progress(self) -> str:
        took_s, left = self._panel.elapsed_s, self._most_left()
        rate = self._runs / took_s if took_s > 0 else 0.0
        said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(self._verdicts.items()))
        eta = f" at most, {duration(left / rate)}" if rate else " at most"
        return (
            f"{self._decided} of {_many(self._cells, 'cell')} decided; "
            f"{_many(self._runs, 'run')} ({said or 'none yet'}), "
            f"{rate:.1f} a second; {left} left{eta}"
        )


@contextlib.contextmanager
def show_comparing(console: Console) -> Iterator[CompareView]:
    """Give a view of a comparison; the terminal is given back however it ends."""
    view = CompareView(console)
    try:
        yield view
    finally:
        view.close()


def duration(seconds: float) -> str:
    """Say how long something takes, in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def skipped_lines(skipped: Sequence[tuple[Cell, str]]) -> Iterator[str]:
    """Say which cells are left out: a line for each reason, with its first cell."""
    whys: dict[str, list[Cell]] = {}
    for cell, why in skipped:
        whys.setdefault(why, []).append(cell)
    for why, cells in list(whys.items())[:_MOST_SKIPPED]:
        others = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        yield f"left out: {cells[0]}{others}: {why}"
    if len(whys) > _MOST_SKIPPED:
        yield f"left out for {len(whys) - _MOST_SKIPPED} more reasons: see comparison.json"


def print_comparison(summaries: Sequence[CellSummary], console: Console) -> None:
    """Print a table for each lab, frontend and nemesis: policies by storages, and what each cell came to."""
    groups: dict[tuple[str, str, str], list[CellSummary]] = {}
    for summary in summaries:
        cell = summary.cell
        groups.setdefault((cell.lab, cell.frontend, cell.nemesis), []).append(summary)
    for (lab, frontend, nemesis), members in groups.items():
        storages = list(dict.fromkeys(summary.cell.storage for summary in members))
        console.print(Text(f"\n{nemesis} on {lab}, {frontend}", style="bold"), soft_wrap=True)
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("policy", no_wrap=True)
        for storage in storages:
            table.add_column(_two_lines(storage), no_wrap=True)
        for policy in dict.fromkeys(summary.cell.policy for summary in members):
            found = {s.cell.storage: s for s in members if s.cell.policy == policy}
            table.add_row(policy, *(_told(found.get(storage)) for storage in storages))
        console.print(table)
    counts = Counter(summary.judgement for summary in summaries)
    runs = sum(summary.runs for summary in summaries)
    said = ", ".join(f"{count} {judgement}" for judgement, count in sorted(counts.items()))
    console.print(Text(f"{_many(len(summaries), 'cell')}: {said}; {_many(runs, 'run')}"), soft_wrap=True)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _two_lines(name: str) -> str:
    """Break a long name at its last hyphen, so that five columns fit a terminal of 80."""
    first, hyphen, second = name.rpartition("-")
    return f"{first}-\n{second}" if hyphen else name


def _told(summary: CellSummary | None) -> Text:
    if summary is None:
        return Text("-", style="dim")
    failed = summary.failed
    text = Text(summary.judgement, style=_STYLES[summary.judgement])
    if failed.of:
        text.append(f" {failed.count}/{failed.of}", style="dim")
    return text
