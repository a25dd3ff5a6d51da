"""The terminal's view of a shrinking: a line for each candidate, and on a TTY what is run now below them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from jepsen_blk.report.panel import Panel
from jepsen_blk.report.terminal import VERDICT_STYLES
from jepsen_blk.report.view import NullView

_MOST_SPEC_LINES = 40
"""A longer specification is not shown but named."""


class ShrinkView(NullView):
    """Shows how far a shrinking is; each of its tests tells it its phases as any View."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._panel = Panel(console, self.render, clock)
        self._runs = 0
        self._budget = ""
        self._doing = ""
        self._phase = ""
        self._smallest = ""

    def begin(self, run: str, kinds: Sequence[str], planned: int, budget: str, known: int) -> None:
        """Shrinking begins, or goes on if runs are known."""
        self._panel.begin()
        self._budget = budget
        before = f"; {known} runs are known from before" if known else ""
        self._panel.line(Text(f"shrinking {run}"))
        self._panel.line(
            Text(f"failed by {', '.join(kinds)}; faults planned: {planned}; budget: {budget}{before}")
        )
        self._panel.open()

    def trying(self, what: str, faults: str, attempt: int, attempts: int) -> None:
        """A run of a candidate begins."""
        self._runs += 1
        self._doing = f"{what}: {faults}; attempt {attempt} of {attempts}"

    def tried(self, what: str, faults: str, outcome: str, *, kept: bool, known: bool) -> None:
        """It is known how a candidate fares; what is known from before is a line only if it is kept."""
        self._doing = self._phase = ""
        if known and not kept:
            return
        mark = ("✓ ", "bold green") if kept else ("- ", "dim")
        line = Text.assemble(mark, (what, "bold" if kept else ""))
        if faults != self._smallest:
            line.append(f": {faults}")
        line.append(f"; {outcome}", style="red" if kept else "dim")
        if known:
            line.append(" (known from before)", style="dim")
        if kept:
            self._smallest = faults
        self._panel.line(line)

    def confirming(self, number: int, of: int) -> None:
        """The smallest is run again."""
        self._runs += 1
        self._doing = f"the smallest again, to see how often it fails: {number} of {of}"

    def phase(self, text: str) -> None:
        """Enter a phase of the test that is running."""
        self._phase = text

    def close(self) -> None:
        """Give the terminal back."""
        self._panel.close()

    def render(self) -> Text:
        """Return what is shown under the lines."""
        return Text.assemble(
            (" SHRINK ", "bold white on blue"),
            (f" run {self._runs}", "bold"),
            (f"   {self._panel.elapsed_s:.0f} s   budget: {self._budget}", "dim"),
            f"\n ● {self._doing}" if self._doing else "",
            (f"   {self._phase}" if self._phase else "", "dim"),
            f"\n   smallest so far: {self._smallest}" if self._smallest else "",
        )


@contextlib.contextmanager
def show_shrinking(console: Console) -> Iterator[ShrinkView]:
    """Give a view of a shrinking; the terminal is given back however it ends."""
    view = ShrinkView(console)
    try:
        yield view
    finally:
        view.close()


def print_shrunk(
    head: str, specification: str, ended: str, out: Path, run_dir: Path, console: Console
) -> None:
    """Print what a shrinking has come to: a line, the specification, and where it and its report are."""
    console.print(Text.assemble((" SHRUNK ", VERDICT_STYLES["fail"]), f"  {head}"), soft_wrap=True)
    lines = specification.splitlines()
    if len(lines) <= _MOST_SPEC_LINES:
        for line in lines:
            console.print(Text(f"    {line}".rstrip()), soft_wrap=True)
    console.print(Text(ended), soft_wrap=True)
    report = run_dir / "report.html"
    for name, value in (
        ("report", report if report.exists() else run_dir),
        ("specification", out),
        ("run it", f"jepsen-blk test {out}"),
    ):
        console.print(Text(f"{name:<13}  {value}"), soft_wrap=True)
