"""A test on the simulated lab, from specification to outcome; or a script beside a guest at work."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from jepsen_blk import virtual_time
from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.history.journal import JournalWriter
from jepsen_blk.lab.choose import run_in_time_of
from jepsen_blk.lab.sim.lab import SimLab, prepare_sim_lab
from jepsen_blk.spec import make_spec
from workloads.guest import GuestLink


def simulate(store: Path, **spec: Any) -> Outcome:
    """Run the specification with lab = "sim"."""
    made = make_spec({"lab": "sim", **spec})
    return run_in_time_of(made, run_test(made, store))


def kinds(outcome: Outcome) -> set[str]:
    """Return the kinds of the anomalies that were found."""
    return {anomaly["kind"] for anomaly in outcome.results["anomalies"]}


def play(folder: Path, script: Callable[[SimLab, GuestLink], Awaitable[None]]) -> None:
    """Run the script beside a guest that does a little work on x."""
    few = {"workload": {"queue_depth": 4}, "storage": {"write_latency_ms": 20}}
    spec = make_spec({"lab": "sim", **few})

    async def whole() -> None:
        prepared = await prepare_sim_lab(spec)
        journal = JournalWriter(folder / "history.blk")
        guest = GuestLink(journal)
        lab = await prepared.up(folder, guest)
        try:
            await guest.hello(5)
            await guest.reset(boot=0, run=prepared.new_run(), seed=spec.seed)
            await guest.run(spec.workload.model_dump(mode="json"))
            await asyncio.sleep(0.1)
            await script(lab, guest)
        finally:
            await guest.close()
            await lab.down()
            journal.close()

    virtual_time.run(whole())


async def progress(guest: GuestLink, for_s: float) -> int:
    """Return how many operations the guest completes in that time."""
    before = guest.operations
    await asyncio.sleep(for_s)
    return guest.operations - before
