"""A guest of the simulator that has moved is let run at its source too: two guests with one memory."""

from pathlib import Path
from typing import Any

import pytest
from sim_run import kinds, simulate

from jepsen_blk.history.events import read_events
from jepsen_blk.lab.sim.guest import SimGuest

SEEDS = range(2)
SPLIT = {"fault": "split-brain", "options": {"duration_s": 0.05}}
FEW = {"workload": {"queue_depth": 4}, "storage": {"write_latency_ms": 10}}
"""Operations: every write of the second guest is an anomaly."""


def proof(outcome: Any) -> str:
    events = read_events(outcome.run_dir / "events.jsonl")
    return next(str(event.data["proof"]) for event in events if event.phase == "proven")


@pytest.mark.parametrize("seed", SEEDS)
def test_two_guests_number_different_operations_alike_and_are_found_out(tmp_path: Path, seed: int) -> None:
    outcome = simulate(tmp_path, seed=seed, nemesis=[SPLIT], **FEW)
    assert (outcome.verdict, "split-brain" in kinds(outcome)) == ("fail", True)
    assert [(fault["proven"], fault["healed"]) for fault in outcome.results["faults"]] == [(True, True)]
    assert proof(outcome) == "the guest runs on y and on x: a frame came in two versions"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_policy_that_shuts_the_source_out_stops_the_second_guest(tmp_path: Path, seed: int) -> None:
    outcome = simulate(tmp_path, seed=seed, nemesis=[SPLIT], **FEW, handoff={"policy": "preempt-abort"})
    assert kinds(outcome) <= {"split-brain"}
    assert [(fault["proven"], fault["healed"]) for fault in outcome.results["faults"]] == [(True, True)]
    assert proof(outcome) == "the guest ran on x too, until the storage refused it"


def test_the_guest_that_moves_on_is_the_same_whether_a_twin_is_left_behind_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec: dict[str, Any] = {"seed": 3, "storage": {"write_latency_ms": 20}, "allow_idle_migration": True}
    spec["nemesis"] = [{"fault": "migrate", "repeat": 2}, {"fault": "lost-path-migration"}]
    first = simulate(tmp_path, **spec)

    def refuse(guest: SimGuest) -> SimGuest:
        raise TypeError("cannot pickle 'generator' object")

    monkeypatch.setattr(SimGuest, "twin", refuse)
    second = simulate(tmp_path, **spec)
    for name in ("history.blk", "events.jsonl", "target.jsonl"):
        assert (first.run_dir / name).read_bytes() == (second.run_dir / name).read_bytes(), name


def test_a_guest_that_cannot_be_copied_moves_and_does_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(guest: SimGuest) -> SimGuest:
        raise TypeError("cannot pickle 'generator' object")

    monkeypatch.setattr(SimGuest, "twin", refuse)
    outcome = simulate(tmp_path, nemesis=[SPLIT], **FEW)
    assert (outcome.verdict, kinds(outcome)) == ("unknown", set())
    assert "cannot run again: its workload cannot be copied" in str(outcome.results["reasons"])


def test_one_seed_gives_one_history_of_two_guests(tmp_path: Path) -> None:
    first, again = (simulate(tmp_path, seed=6, nemesis=[SPLIT], **FEW) for _ in range(2))
    for name in ("history.blk", "events.jsonl", "target.jsonl"):
        assert (first.run_dir / name).read_bytes() == (again.run_dir / name).read_bytes(), name
