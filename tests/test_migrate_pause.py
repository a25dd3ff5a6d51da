"""Faults at a phase of a live migration on a real lab: they come at it, and it comes to its end anyway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from live_stage import GOOD, live_stage

from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.history.events import Event, read_events
from jepsen_blk.spec import make_spec
from nemesis.catalogue import make_fault
from nemesis.fault import run_fault

pytestmark = pytest.mark.lab

STOPPED = {"event": "migration", "phase": "stopped"}
SWITCHOVER = {"event": "migration", "phase": "pre-switchover"}
SHORT = {"duration_s": 0.2}
BOUND_S = 20.0


def run(store: Path, *items: dict[str, Any], options: dict[str, Any] | None = None, **keys: Any) -> Outcome:
    fault = {"fault": "migrate-pause", "options": options or {}}
    schedule = {"kind": "during", "fault": fault, "items": list(items)}
    busy = {"write_latency_ms": 40, **keys.pop("storage", {})}
    spec = make_spec({"schedule": schedule, "time_limit_s": 120, "storage": busy, **keys})
    return asyncio.run(run_test(spec, store))


def events(outcome: Outcome) -> list[Event]:
    return list(read_events(outcome.run_dir / "events.jsonl"))


def one(outcome: Outcome, number: int, phase: str) -> Event:
    found = [event for event in events(outcome) if (event.number, event.phase) == (number, phase)]
    (event,) = (event for event in found if event.source == "fault")
    return event


def went_well(outcome: Outcome) -> list[bool]:
    return [fault["proven"] and fault["healed"] for fault in outcome.results["faults"]]


def test_a_connection_dies_while_a_stopped_guest_s_writes_are_waited_for_and_they_are_sent_again(
    tmp_path: Path,
) -> None:
    reset = {"fault": "reset", "when": STOPPED, "after_s": 0, "options": SHORT}
    far = {"fault": "path-loss", "when": SWITCHOVER, "options": {"node": "other", **SHORT}}
    outcome = run(tmp_path, reset, far)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results
    assert went_well(outcome) == [True, True, True]
    assert one(outcome, 2, "cued").data["saw"] == "the migration is stopping the guest"
    assert one(outcome, 2, "proven").data["proof"].endswith("its guest is stopped for its switch-over")
    assert one(outcome, 3, "cued").data["saw"] == "the migration is at the switch-over"
    (migration,) = outcome.results["migrations"]
    assert migration["in_flight"] >= 1
    (stop,) = (event for event in events(outcome) if (event.source, event.phase) == ("migration", "stop"))
    (end,) = (event for event in events(outcome) if (event.source, event.phase) == ("migration", "end"))
    assert stop.time_ns <= one(outcome, 2, "cued").time_ns
    assert one(outcome, 3, "over").time_ns < end.time_ns


def test_a_migration_that_may_be_broken_leaves_its_guest_at_work_on_the_source(tmp_path: Path) -> None:
    reset = {"fault": "reset", "when": SWITCHOVER, "options": {"path": "migration", **SHORT}}
    outcome = run(tmp_path, reset, options={"may_fail": True})
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results
    proof = one(outcome, 1, "healed").data["proof"]
    assert "the migration failed on x" in proof
    assert proof.endswith("the guest works on x")
    assert outcome.results["migrations"] == []


def test_a_migration_that_was_broken_and_should_not_be_makes_the_run_unknown(tmp_path: Path) -> None:
    reset = {"fault": "reset", "when": SWITCHOVER, "options": {"path": "migration", **SHORT}}
    outcome = run(tmp_path, reset)
    assert outcome.verdict == "unknown"
    (why,) = outcome.results["reasons"]
    assert why.startswith("fault migrate-pause was not healed: healing: the migration failed on x")


def test_the_storage_is_restarted_before_the_switch_over_and_the_guest_works_after_it(tmp_path: Path) -> None:
    restart = {"fault": "storage-restart", "when": SWITCHOVER, "options": SHORT}
    outcome = run(tmp_path, restart, storage={"backing": str(tmp_path / "disk")})
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results
    assert one(outcome, 2, "proven").data["proof"].endswith("its guest is stopped for its switch-over")
    assert one(outcome, 1, "healed").data["proof"] == "the guest works on y"


def test_a_cue_that_does_not_come_while_a_migration_waits_does_not_keep_it_from_its_end(
    tmp_path: Path,
) -> None:
    when = {"event": "guest", "state": "io-error", "timeout_s": 0.5}
    far = {"fault": "path-loss", "when": when, "options": {"node": "other"}}
    outcome = run(tmp_path, far)
    assert outcome.verdict == "unknown"
    assert went_well(outcome) == [True, False]
    (why,) = outcome.results["reasons"]
    assert "its cue did not come: guest node=guest state=io-error timeout_s=0.5 was not seen" in why
    assert len(outcome.results["migrations"]) == 1


def test_it_is_taken_to_its_end_though_it_is_cut_off_and_stands_for_its_time_if_it_is_not(
    tmp_path: Path,
) -> None:
    with live_stage(tmp_path) as live:
        assert live.outcome("migrate-pause", duration_s=0.1) == GOOD
        here = live.stage.guest_node

        async def cut_off() -> None:
            playing = asyncio.create_task(run_fault(make_fault("migrate-pause", {}), live.stage))
            async with asyncio.timeout(BOUND_S):
                while not any(e.number == 2 and e.phase == "proven" for e in read_events(log)):
                    await asyncio.sleep(0.01)
            playing.cancel()
            await asyncio.wait({playing})

        log = live.folder / "events.jsonl"
        live.do(cut_off())
        assert live.stage.guest_node != here
        assert live.outcome("pause", duration_s=0.1) == GOOD
