"""A test on the simulated lab, from a specification to its outcome."""

from pathlib import Path
from typing import Any

from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.lab.choose import run_in_time_of
from jepsen_blk.spec import make_spec


def simulate(store: Path, **spec: Any) -> Outcome:
    """Run the specification with lab = "sim"."""
    made = make_spec({"lab": "sim", **spec})
    return run_in_time_of(made, run_test(made, store))


def kinds(outcome: Outcome) -> set[str]:
    """Return the kinds of the anomalies that were found."""
    return {anomaly["kind"] for anomaly in outcome.results["anomalies"]}
