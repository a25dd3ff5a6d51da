"""The demonstration: three tests that show what a verdict means, on real guests or simulated.

A control that must pass, the founding case that must fail, and the same failure on a stock server.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from jepsen_blk.controller import run_test
from jepsen_blk.errors import EXIT_FAIL, EXIT_PASS, UserError
from jepsen_blk.expect import misses
from jepsen_blk.lab.choose import run_in_time_of
from jepsen_blk.report.terminal import print_verdict, show_test, summary_table
from jepsen_blk.spec import Spec, load_spec

_HERE = Path(__file__).parent


TESTS = ("control", "case-2006", "no-policy")


def demo_spec(name: str, seed: int = 0, lab: str = "local") -> Spec:
    """Return the specification of one test of the demonstration."""
    return load_spec(_HERE / f"{name}.toml", {"seed": seed, "lab": lab})


def run_demo(store: Path, seed: int = 0, lab: str = "local") -> int:
    """Run the three tests, but those that `lab` cannot do, and print the summary.

    Returns 0 if each ended as it must, else 1.
    """
    console = Console(highlight=False)
    rows: list[tuple[str, str, Mapping[str, Any], float]] = []
    shows = {}
    reports = []
    as_told = True
    begun = time.monotonic()
    for name in TESTS:
        spec = demo_spec(name, seed, lab)
        started = time.monotonic()
        try:
            with show_test(spec, console) as view:
                outcome = run_in_time_of(spec, run_test(spec, store, view=view))
        except UserError as error:
            if lab == "local":
                raise
            console.print(f"left out: {error}\n", soft_wrap=True)
            continue
        print_verdict(outcome.results, outcome.run_dir, console)
        console.print()
        as_told = as_told and is_as_told(spec, outcome.results)
        shows[name] = spec.about
        expected = spec.expect.verdict if spec.expect else ""
        rows.append((name, expected, outcome.results, time.monotonic() - started))
        reports.append(outcome.run_dir / "report.html")
    console.print(summary_table(rows, shows))
    console.print("in flight: writes that the storage had in flight when each migration stopped the guest")
    for report in reports:
        console.print(f"report  {report}", soft_wrap=True)
    ending = "every verdict is as it must be" if as_told else "NOT every verdict is as it must be"
    console.print(f"{len(rows)} tests in {time.monotonic() - begun:.1f} s: {ending}")
    return EXIT_PASS if as_told else EXIT_FAIL


def is_as_told(spec: Spec, results: Mapping[str, Any]) -> bool:
    """Tell whether a test of the demonstration ended as it says itself."""
    return spec.expect is not None and not misses(spec.expect, results)
