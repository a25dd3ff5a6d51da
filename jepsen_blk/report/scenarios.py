"""Scenarios on the terminal: which there are, how each run of them ended, and the table of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jepsen_blk.report.terminal import VERDICT_STYLES
from jepsen_blk.spec import Spec


@dataclass(frozen=True, slots=True)
class Played:
    """One run of a scenario; `missed` says what was not as expected, nothing if all was."""

    name: str
    verdict: str
    missed: tuple[str, ...]
    took_s: float
    run_dir: Path | None


def print_scenarios(specs: Sequence[Spec], console: Console) -> None:
    """List them with what each shows and the end that it has to have."""
    for spec in specs:
        console.print(Text.assemble((f"{spec.name:<26}", "bold"), _expected(spec)))
        console.print(Padding(Text(spec.about), (0, 0, 0, 4)))
    console.print("\n`jepsen-blk scenarios NAME...` plays some, `--all` every one; `--print NAME` shows one")


def print_played(played: Played, number: int, times: int, console: Console) -> None:
    """Print a line of one run, and under it what was not as expected."""
    mark = ("missed ", "bold yellow") if played.missed else ("as expected ", "green")
    verdict = (f" {played.verdict} ", VERDICT_STYLES.get(played.verdict, "bold"))
    console.print(
        Text.assemble(f"{played.name:<26}", f"{number:>3}/{times}  ", verdict, "  ", mark),
        Text(f"{played.took_s:5.1f} s", style="dim"),
    )
    for why in played.missed:
        console.print(Text(f"    {why}"), soft_wrap=True)
    if played.missed and played.run_dir:
        console.print(Text(f"    {played.run_dir}"), soft_wrap=True)


def print_left_out(name: str, why: str, console: Console) -> None:
    """Print the line of one that the lab cannot do."""
    console.print(Text.assemble(f"{name:<26}", ("left out ", "bold yellow"), f" {why}"), soft_wrap=True)


def scenario_table(specs: Sequence[Spec], runs: Sequence[Played], times: int) -> Table:
    """Make the closing table: how often of how many each ended as it has to."""
    table = Table(header_style="bold", expand=False, pad_edge=False)
    table.add_column("scenario", no_wrap=True)
    table.add_column("has to end as")
    table.add_column("did", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for spec in specs:
        own = [run for run in runs if run.name == spec.name]
        good = sum(not run.missed for run in own)
        mean_s = sum(run.took_s for run in own) / len(own) if own else 0.0
        table.add_row(
            spec.name,
            _expected(spec),
            Text(f"{good} of {times}", style="bold green" if good == times else "bold yellow"),
            f"{mean_s:.1f} s" if own else "",
        )
    return table


def _expected(spec: Spec) -> Text:
    """Return the expected end: the verdict, its anomalies, and the verdicts that another deadline changes."""
    if spec.expect is None:
        return Text("-")
    verdict = spec.expect.verdict
    kinds = " " + ", ".join(spec.expect.anomalies)
    other = [f"{found} under {name}" for name, found in spec.expect.deadlines.items() if found != verdict]
    under = f" ({', '.join(other)})" if other else ""
    return Text.assemble((f" {verdict} ", VERDICT_STYLES.get(verdict, "bold")), kinds, under)
