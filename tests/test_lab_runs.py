"""Whole tests on real guests: the demonstration, every fault, every kind of storage, and the doubts."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.demo import TESTS, demo_spec, is_as_told
from jepsen_blk.history.events import read_events
from jepsen_blk.judge import judge_run
from jepsen_blk.lab.network import CommandNetwork
from jepsen_blk.spec import make_spec
from nemesis.catalogue import FAULTS
from nemesis.fault import Stage

pytestmark = pytest.mark.lab


def run(store: Path, **spec: Any) -> Outcome:
    return asyncio.run(run_test(make_spec(spec), store))


@pytest.mark.parametrize("test", TESTS)
def test_the_demonstration_ends_as_it_must(test: str, tmp_path: Path) -> None:
    spec = demo_spec(test, seed=1)
    outcome = asyncio.run(run_test(spec, tmp_path))
    assert is_as_told(spec, outcome.results), outcome.results
    assert outcome.results["reasons"] == []
    assert all(migration["in_flight"] >= 1 for migration in outcome.results["migrations"])
    assert (outcome.run_dir / "report.html").stat().st_size > 10_000
    assert (tmp_path / "latest").resolve() == outcome.run_dir.resolve()


def test_the_late_copy_is_named_by_the_storage_log(tmp_path: Path) -> None:
    outcome = asyncio.run(run_test(demo_spec("case-2006", seed=2), tmp_path))
    (anomaly,) = outcome.results["anomalies"]
    (migration,) = outcome.results["migrations"]
    assert (migration["overlap"] >= 1, migration["indeterminate"]) == (True, 0)
    assert "was acknowledged, then write" in anomaly["text"]
    assert "of X, held" in anomaly["blame"]
    assert "after write" in anomaly["blame"]


def test_a_stored_run_is_judged_again_with_the_same_verdict(tmp_path: Path) -> None:
    outcome = asyncio.run(run_test(demo_spec("case-2006", seed=3), tmp_path))
    assert judge_run(outcome.run_dir) == outcome.results


def test_every_single_fault_is_proven_and_healed_without_an_anomaly(tmp_path: Path) -> None:
    faults = [
        {"fault": "hold", "options": {"duration_s": 0.3}},
        {"fault": "pause", "options": {"duration_s": 0.6}},
        {"fault": "path-loss", "options": {"duration_s": 0.2}},
        {"fault": "path-loss", "options": {"duration_s": 0.2, "reset": False}},
        {"fault": "freeze", "options": {"duration_s": 0.6}},
        {"fault": "freeze", "options": {"duration_s": 0.6, "node": "storage"}},
        {"fault": "migrate"},
        {"fault": "migrate-cancel", "options": {"point": 0.1}},
        {"fault": "migrate", "options": {"kill_source": True}},
    ]
    outcome = run(tmp_path, nemesis=faults, storage={"write_latency_ms": 20})
    assert [fault["name"] for fault in outcome.results["faults"]] == [fault["fault"] for fault in faults]
    assert all(fault["proven"] and fault["healed"] for fault in outcome.results["faults"])
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])


def test_a_run_under_a_bad_network_passes_with_every_fault_proven(tmp_path: Path) -> None:
    faults = [
        {"fault": "one-way", "options": {"duration_s": 0.2, "lost": "answers"}},
        {"fault": "loss", "options": {"duration_s": 0.2, "percent": 10}},
        {"fault": "slow-link", "options": {"duration_s": 0.2, "mbit_per_s": 10}},
        {"fault": "reset", "options": {"duration_s": 0.1}},
        {"fault": "flapping", "options": {"duration_s": 0.1, "times": 2}},
    ]
    outcome = run(tmp_path, nemesis=faults, storage={"write_latency_ms": 20})
    assert all(fault["proven"] and fault["healed"] for fault in outcome.results["faults"])
    assert len(outcome.results["faults"]) == len(faults)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results


def test_a_run_whose_cut_did_not_come_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*args: Any) -> None: ...

    monkeypatch.setattr(CommandNetwork, "cut", nothing)
    outcome = run(tmp_path, nemesis=[{"fault": "one-way"}])
    assert outcome.verdict == "unknown"
    why = "the storage path of x still carries new connections"
    assert outcome.results["reasons"] == [f"fault one-way was not proven: {why}"]


def test_a_stock_storage_daemon_shows_the_stale_overwrite_too(tmp_path: Path) -> None:
    nemesis = {"fault": "lost-path-migration", "options": {"heal_before_migration": True}}
    outcome = run(tmp_path, nemesis=[nemesis], storage={"kind": "qemu-storage-daemon"})
    assert outcome.verdict == "fail"
    assert {anomaly["kind"] for anomaly in outcome.results["anomalies"]} == {"stale-overwrite"}


@pytest.mark.parametrize("policy", ["drain", "preempt-abort", "epoch", "single-writer"])
def test_a_policy_that_settles_the_old_writes_prevents_it(policy: str, tmp_path: Path) -> None:
    fault = {"fault": "lost-path-migration", "options": {"hold_max_s": 2}}
    outcome = run(tmp_path, handoff={"policy": policy}, nemesis=[fault])
    assert (outcome.verdict, outcome.results["anomalies"]) == ("pass", []), outcome.results


def test_an_epoch_checked_when_applied_does_not_help_a_storage_that_ignores(tmp_path: Path) -> None:
    # Y's writes are ignored for the sake of X's, which is then refused: an acknowledged write is nowhere.
    outcome = run(
        tmp_path,
        handoff={"policy": "epoch"},
        storage={"conflict": "ignore-second"},
        nemesis=[{"fault": "lost-path-migration"}],
    )
    assert outcome.verdict == "fail", outcome.results


@pytest.mark.parametrize("policy", ["requeue", "cancel-initiator", "preempt", "quiesce", "stonith"])
def test_a_policy_that_forgets_the_accepted_writes_does_not(policy: str, tmp_path: Path) -> None:
    outcome = run(
        tmp_path,
        handoff={"policy": policy, "quiesce_s": 0.2},
        nemesis=[{"fault": "lost-path-migration"}],
    )
    assert outcome.verdict == "fail", outcome.results
    assert {anomaly["kind"] for anomaly in outcome.results["anomalies"]} == {"stale-overwrite"}


def test_a_schedule_that_is_cut_off_makes_the_run_unknown(tmp_path: Path) -> None:
    pause = {"fault": "pause", "options": {"duration_s": 60}}
    outcome = run(tmp_path, nemesis=[pause], time_limit_s=1.5)
    assert outcome.verdict == "unknown"
    assert any("cut off by time_limit_s = 1.5" in reason for reason in outcome.results["reasons"])
    healed = [event for event in read_events(outcome.run_dir / "events.jsonl") if event.phase == "healed"]
    assert len(healed) == 1  # a cut-off fault is healed all the same


def test_a_migration_with_nothing_in_flight_makes_the_run_unknown(tmp_path: Path) -> None:
    outcome = run(
        tmp_path, nemesis=[{"fault": "migrate"}], workload={"read_fraction": 1.0, "burst_fraction": 0}
    )
    assert outcome.verdict == "unknown"
    assert any("had no write in flight" in reason for reason in outcome.results["reasons"])


def test_a_handoff_that_does_not_end_is_a_reason_and_the_guest_runs_on(tmp_path: Path) -> None:
    outcome = run(
        tmp_path,
        handoff={"policy": "drain", "timeout_s": 0.3},
        nemesis=[{"fault": "lost-path-migration", "options": {"hold_max_s": 10}}],
    )
    assert outcome.verdict == "unknown"
    assert any("drain: x still has writes in flight after 0.3 s" in why for why in outcome.results["reasons"])
    assert [fault["healed"] for fault in outcome.results["faults"]] == [True]


@pytest.mark.parametrize("conflict", ["arrival-order", "ignore-second"])
def test_a_test_stops_at_the_first_anomaly_and_the_second_move_never_begins(
    conflict: str, tmp_path: Path
) -> None:
    steps = [{"fault": "lost-path-migration"}, {"fault": "lost-path-migration", "after_s": 60}]
    outcome = run(
        tmp_path,
        stop_on_fail=True,
        time_limit_s=120,
        handoff={"policy": "requeue"},
        storage={"conflict": conflict},
        nemesis=steps,
    )
    assert outcome.verdict == "fail"
    kinds = {anomaly["kind"] for anomaly in outcome.results["anomalies"]}
    # A write that is ignored is missed by any read of it, also before the late copy lands.
    early = {"lost-write", "stale-read"} if conflict == "ignore-second" else set()
    assert kinds - early <= {"stale-overwrite"}
    assert outcome.results["reasons"] == []
    assert outcome.results["notes"][0].endswith("; 1 of 2 faults had begun")
    assert len(outcome.results["migrations"]) == 1
    events = list(read_events(outcome.run_dir / "events.jsonl"))
    (seen,) = (event for event in events if event.source == "checker")
    assert seen.data["block"] == outcome.results["anomalies"][0]["block"]
    after = [(event.source, event.name, event.phase) for event in events[events.index(seen) :]]
    assert ("schedule", "register", "stopped") in after
    assert after[-2:] == [("workload", "read-all", "done"), ("test", "register", "end")]
    assert all(fault["proven"] and fault["healed"] for fault in outcome.results["faults"])


class KillGuest:
    """A fault that ends the guest for good: nothing of the catalogue does."""

    name = "kill-guest"

    async def setup(self, stage: Stage) -> None: ...

    async def inject(self, stage: Stage) -> None:
        await stage.lab.hypervisor.kill(stage.guest_node)

    async def prove(self, stage: Stage) -> str:
        return "killed"

    async def dwell(self, stage: Stage) -> None: ...

    async def heal(self, stage: Stage) -> None: ...

    async def prove_healed(self, stage: Stage) -> str:
        return "nothing to heal"


def test_a_guest_that_ends_makes_the_run_unknown_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAULTS, KillGuest.name, dataclass(KillGuest))
    outcome = run(tmp_path, nemesis=[{"fault": KillGuest.name}])
    assert outcome.verdict == "unknown"
    reasons = outcome.results["reasons"]
    assert any("the harness failed: the guest on x has ended" in reason for reason in reasons)
    assert any("the last operations of boot 0 may be missing" in reason for reason in reasons)


def test_the_same_backing_file_can_be_used_again(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    for _ in range(2):
        outcome = run(tmp_path, storage={"backing": str(disk)}, time_limit_s=0.3)
        assert (outcome.verdict, outcome.results["anomalies"]) == ("pass", []), outcome.results
