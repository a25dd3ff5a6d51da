"""Real QEMU that connects to its storage again by itself: faults that prove themselves by that."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.history.events import read_events
from jepsen_blk.spec import make_spec

pytestmark = pytest.mark.lab


def run(store: Path, delay_s: int, **spec: Any) -> Outcome:
    return asyncio.run(run_test(make_spec({"guest": {"reconnect_delay_s": delay_s}, **spec}), store))


def proofs(outcome: Outcome) -> list[str]:
    events = read_events(outcome.run_dir / "events.jsonl")
    return [str(event.data["proof"]) for event in events if event.phase == "proven"]


def test_the_founding_case_overwrites_once_qemu_has_given_up(tmp_path: Path) -> None:
    outcome = run(tmp_path, 2, nemesis=[{"fault": "lost-path-migration"}])
    assert outcome.results["reasons"] == []
    assert "tries for 2 s to connect again; then its guest is in io-error" in proofs(outcome)[0]
    assert {anomaly["kind"] for anomaly in outcome.results["anomalies"]} == {"stale-overwrite"}


def test_a_lost_path_and_a_reset_are_proven_and_harmless(tmp_path: Path) -> None:
    faults = [{"fault": name, "options": {"duration_s": 0.3}} for name in ("path-loss", "reset")]
    outcome = run(tmp_path, 30, nemesis=faults, storage={"write_latency_ms": 20})
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    lost, reset = proofs(outcome)
    assert "nothing of its guest completes" in lost
    assert "connected again, the guest works on x" in reset
