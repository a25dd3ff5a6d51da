"""The terminal's view of a test: a live panel on a TTY, plain lines anywhere else.

A log file or a CI job must read as well as a terminal, so both show the same events in the same
words; only the panel redraws. All text of the test is treated as text, never as markup.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from jepsen_blk import clock
from jepsen_blk.checker.wording import show_ms
from jepsen_blk.history.events import Event
from jepsen_blk.report.again import how_to_repeat
from jepsen_blk.report.panel import Panel

if TYPE_CHECKING:
    from jepsen_blk.spec import Spec

VERDICT_STYLES = {
    "pass": "bold white on green",
    "fail": "bold white on red",
    "unknown": "bold black on yellow",
}
_SHOWN_EVENTS = 8
_SOURCE_STYLES = {"fault": "red", "migration": "magenta", "handoff": "cyan", "checker": "bold red"}
_RATE_WINDOW_S = 1.0
_QUIET = ("setup", "over")


class _SimulatedTime:
    """The time of a simulated test in s; who is not in it, as what redraws the panel, is told the last."""

    _last_s = 0.0

    def __call__(self) -> float:
        if clock.is_simulated():
            self._last_s = clock.monotonic()
        return self._last_s


class LiveView:
    """Implements report.view.View on a rich console."""

    def __init__(self, console: Console | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        self._panel = Panel(console or Console(), self.render, now_s)
        self._now_s = now_s
        self._name = ""
        self._steps: tuple[str, ...] = ()
        self._phase_lines: list[tuple[str, float]] = []
        self._events: list[Text] = []
        self._marked = now_s()
        self._completed = self._marked_ops = 0
        self._per_s = 0.0
        self._checked = Text()
        self._verdict = ""

    def start(self, name: str, steps: Sequence[str]) -> None:
        """Begin a test: open the panel, or print one line."""
        self.close()
        self._name, self._steps, self._verdict = name, tuple(steps), ""
        self._phase_lines, self._events = [], []
        self._panel.begin()
        self._marked = self._now_s()
        self._completed = self._marked_ops = 0
        self._per_s = 0.0
        self._checked = Text()
        self._panel.open()
        if not self._panel.is_open:
            self._panel.line(Text(f"test {name}"))

    def phase(self, text: str) -> None:
        """Enter a phase."""
        self._phase_lines.append((text, self._now_s()))
        if not self._panel.is_open:
            self._panel.line(Text(text))

    def event(self, event: Event) -> None:
        """Show an event: the last few in the panel, every one as a plain line."""
        if event.phase in _QUIET or (event.source == "test" and event.phase in ("begin", "end")):
            return
        line = describe(event)
        self._events = [*self._events[-(_SHOWN_EVENTS - 1) :], self._panel.dated(line)]
        if not self._panel.is_open:
            self._panel.line(line)

    def operations(self, completed: int) -> None:
        """Update the counters; the rate is that of the last second."""
        now = self._now_s()
        self._completed = completed
        if now - self._marked >= _RATE_WINDOW_S:
            self._per_s = (completed - self._marked_ops) / (now - self._marked)
            self._marked, self._marked_ops = now, completed

    def checked(self, operations: int, anomaly: str) -> None:
        """Update what the check of the running test has seen."""
        found = (anomaly, "bold red") if anomaly else ("no anomaly so far", "green")
        self._checked = Text.assemble(f"   {operations:,} checked, ", found)

    def unchecked(self, operations: int, why: str) -> None:
        """Say how far the check of the running test went."""
        self._checked = Text.assemble(f"   {operations:,} checked, ", (f"none since {why}", "yellow"))

    def finish(self, verdict: str) -> None:
        """Close the panel; without one, say how much was done."""
        self._verdict = verdict
        if not self._panel.is_open and self._name:
            self._panel.line(Text(f"{self._completed:,} operations; verdict {verdict}"))
        self.close()

    def close(self) -> None:
        """Give the terminal back."""
        self._panel.close()

    def render(self) -> RenderableType:
        """Return the panel as it is now."""
        head = Text.assemble(
            (f" {self._verdict.upper() or 'TEST'} ", VERDICT_STYLES.get(self._verdict, "bold white on blue")),
            (f" {self._name}", "bold"),
            (f"   {self._panel.elapsed_s:.1f} s", "dim"),
        )
        counters = Text.assemble(
            (f"{self._completed:,}", "bold"),
            " operations   ",
            (f"{self._per_s:,.0f}", "bold"),
            "/s",
            self._checked,
        )
        return Group(head, *self._phases(), counters, *self._events)

    def _phases(self) -> list[Text]:
        """One line a step: done, now, to come; phases that no step announced stand where they fell."""
        begun = tuple(self._phase_lines)  # the panel is redrawn by a thread of its own
        lines = []
        for i, (name, at) in enumerate(begun):
            now = i == len(begun) - 1
            end = self._now_s() if now else begun[i + 1][1]
            mark, style = ("●", "bold cyan") if now else ("✓", "green")
            lines.append(Text.assemble((f" {mark} {name}", style), (f"  {end - at:.1f} s", "dim")))
        names = [name for name, _ in begun]
        return lines + [Text(f"   {step}", style="dim") for step in self._steps if step not in names]


def describe(event: Event) -> Text:
    """One line for an event: what, where, and the proof or the reason."""
    what = f"{event.source} {event.name}"
    if event.source == "fault":
        what = f"{event.name} #{event.number}" if event.number else event.name
    line = Text.assemble((what, _SOURCE_STYLES.get(event.source, "blue")), " ", (event.phase, "bold"))
    if event.node:
        line.append(f" on {event.node}")
    if event.data.get("destination", event.node) != event.node:
        line.append(f" to {event.data['destination']}")
    for key in ("step", "cue", "saw", "proof", "why"):
        if event.data.get(key):
            line.append(f": {event.data[key]}", style="yellow" if key == "why" else "")
    return line


@contextlib.contextmanager
def show_test(spec: Spec, console: Console | None = None) -> Iterator[LiveView]:
    """Give a live view of one test; the terminal is given back however the test ends."""
    view = LiveView(console, _SimulatedTime() if spec.lab == "sim" else time.monotonic)
    view.start(spec.name, ())
    try:
        yield view
    finally:
        view.close()


def print_verdict(results: Mapping[str, Any], run_dir: Path | None, console: Console) -> None:
    """Print the verdict, its anomalies and reasons, the migrations, and where the report is."""
    verdict = str(results.get("verdict", "unknown"))
    console.print(
        Text.assemble(
            (f" {verdict.upper()} ", VERDICT_STYLES.get(verdict, "bold")),
            f"  {int(results.get('ops') or 0):,} operations",
            f" in {results['duration_s']:.1f} s" if results.get("duration_s") else "",
        )
    )
    for anomaly in list(results.get("anomalies", ()))[:_SHOWN_EVENTS]:
        doubt = (" (undetermined)", "bold yellow") if anomaly.get("could_be") else ""
        console.print(
            Text.assemble((f"{anomaly.get('kind')}", "bold red"), doubt, f"  {anomaly.get('text', '')}")
        )
        if anomaly.get("blame"):
            console.print(Text(f"  {anomaly['blame']}"))
    more = len(results.get("anomalies", ())) - _SHOWN_EVENTS
    if more > 0:
        console.print(Text(f"{more} more anomalies are in the report"))
    for reason in results.get("reasons", ()):
        console.print(Text.assemble(("because ", "dim"), str(reason)))
    for note in results.get("notes", ()):
        console.print(Text.assemble(("note ", "dim"), str(note)))
    if results.get("migrations") is not None:
        console.print(Text(_migrations_line(results)))
    if run_dir is None:
        return
    report = run_dir / "report.html"
    console.print(Text(f"report  {report if report.exists() else run_dir}"), soft_wrap=True)
    again = how_to_repeat(results, run_dir)
    if again:
        console.print(Text.assemble(f"again   {again.command}", (f"  ({again.same})", "dim")), soft_wrap=True)


def summary_table(
    rows: Sequence[tuple[str, str, Mapping[str, Any], float]], shows: Mapping[str, str] | None = None
) -> Table:
    """Make the closing table of several tests: rows of (name, expected verdict, results, seconds).

    The column "in flight" has the writes in flight at each migration's switch-over. `shows` says in a few
    words what each test, by name, is there to show.
    """
    table = Table(title=None, header_style="bold", expand=False, pad_edge=False, show_lines=bool(shows))
    table.add_column("test", no_wrap=True)
    table.add_column("what it shows")
    for column in ("verdict", "anomaly"):
        table.add_column(column, no_wrap=True)
    table.add_column("in flight", justify="right")
    table.add_column("time", justify="right", no_wrap=True)
    for name, expected, results, seconds in rows:
        verdict = str(results.get("verdict", "unknown"))
        shown = Text(f" {verdict} ", style=VERDICT_STYLES.get(verdict, "bold"))
        if expected and expected != verdict:
            shown = Text.assemble(shown, (f"\nexpected {expected}", "bold yellow"))
        kinds = list(dict.fromkeys(str(item.get("kind")) for item in results.get("anomalies", ())))
        moves = results.get("migrations", ())
        flying = ", ".join(str(move.get("in_flight") or 0) for move in moves)
        table.add_row(
            Text(name),
            Text((shows or {}).get(name, "")),
            shown,
            Text(", ".join(kinds) or "none"),
            Text(flying or "-"),
            f"{seconds:.1f} s",
        )
    return table


def _migrations_line(results: Mapping[str, Any]) -> str:
    moves = list(results.get("migrations", ()))
    if not moves:
        return "no migration"
    flying = ", ".join(str(move.get("in_flight", 0)) for move in moves[:20])
    again, beside = (sum(int(move.get(key) or 0) for move in moves) for key in ("reissued", "overlap"))
    unsure = max(int(move.get("indeterminate") or 0) for move in moves)  # one stays so at all later ones
    what = "1 migration" if len(moves) == 1 else f"{len(moves)} migrations"
    stalls = [float(move["stall_ms"]) for move in moves if move.get("stall_ms") is not None]
    still = f"; writes stood still for {show_ms(max(stalls))}" if stalls else ""
    return (
        f"{what}; writes in flight at switch-over: {flying}; re-issued: {again}; still in flight when the "
        f"destination's first write came: {beside}; operations left indeterminate: at most {unsure}{still}"
    )
