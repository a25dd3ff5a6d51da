"""Scenarios played as a regression suite: each some times, and every time it has to end as it says."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from jepsen_blk.controller import run_test
from jepsen_blk.errors import EXIT_FAIL, EXIT_PASS, LabError, UserError
from jepsen_blk.expect import misses
from jepsen_blk.lab.choose import run_in_time_of
from jepsen_blk.report.scenarios import Played, print_left_out, print_played, scenario_table
from jepsen_blk.scenarios import scenario
from jepsen_blk.spec import Spec


def play_scenarios(names: Sequence[str], times: int, store: Path, seed: int = 0, lab: str = "local") -> int:
    """Play each `times` times, a line a run, then the table; return 0 if every run ended as expected, else 1.

    Each time has a seed of its own, from `seed` on. What `lab` cannot do is left out, with the reason; raises
    UserError if that is all. After Ctrl-C the table of what was played comes first.
    """
    console = Console(highlight=False)
    specs = {name: scenario(name, lab=lab) for name in names}
    runs: list[Played] = []
    left_out: dict[str, UserError] = {}
    try:
        for name in names:
            for number in range(times):
                try:
                    runs.append(_play(scenario(name, seed + number, lab), store))
                except UserError as error:
                    left_out[name] = error
                    del specs[name]
                    if len(names) > 1:
                        print_left_out(name, str(error), console)
                    break
                print_played(runs[-1], number + 1, times, console)
    finally:
        if specs:
            console.print(scenario_table(list(specs.values()), runs, times))
    if not specs:
        raise left_out[names[0]]
    good = len(runs) == times * len(specs) and not any(run.missed for run in runs)
    return EXIT_PASS if good else EXIT_FAIL


def _play(spec: Spec, store: Path) -> Played:
    """Play it once; a lab that fails is no end that was expected. Raises UserError for what it cannot do."""
    began = time.monotonic()
    try:
        outcome = run_in_time_of(spec, run_test(spec, store))
    except LabError as error:
        return Played(spec.name, "unknown", (f"there was no lab: {error}",), time.monotonic() - began, None)
    missed = misses(spec.expect, outcome.results) if spec.expect else []
    if missed:
        missed += outcome.results["reasons"]
    took_s = time.monotonic() - began
    return Played(spec.name, outcome.verdict, tuple(missed), took_s, outcome.run_dir)
