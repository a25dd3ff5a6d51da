"""Cues on a real lab: a fault begins once its event is seen and not before, and meets what it was to meet."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live_stage import GOOD, LiveStage, live_stage
from pydantic import TypeAdapter

from jepsen_blk.controller import run_test
from jepsen_blk.cue_spec import Cue
from jepsen_blk.history.events import Event, read_events
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import GuestState
from jepsen_blk.spec import make_spec
from nemesis.catalogue import make_fault
from nemesis.cues import Awaited, count_reissues
from nemesis.fault import Stage, run_fault

pytestmark = pytest.mark.lab

BOUND_S = 20.0
LATENCY_MS = 400
"""So long that what is in flight at a cue is still in flight when the path has been cut."""
HOT, COLD = 2, 100


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStage]:
    storage = {"write_latency_ms": LATENCY_MS}
    with live_stage(
        tmp_path_factory.mktemp("run"), {"workload": {"queue_depth": 4}, "storage": storage}
    ) as live:
        yield live


def events_of(rig: LiveStage, before: int) -> list[Event]:
    return list(read_events(rig.folder / "events.jsonl"))[before:]


async def phase(rig: LiveStage, before: int, name: str) -> Event:
    """Wait until the fault is there."""
    async with asyncio.timeout(BOUND_S):
        while True:
            for event in events_of(rig, before):
                if (event.source, event.phase) == ("fault", name):
                    return event
            await asyncio.sleep(0.01)


def play(
    rig: LiveStage,
    fault: str,
    when: dict[str, Any],
    event: Callable[[Stage], Awaitable[None]],
    **options: Any,
) -> list[Event]:
    """Play a fault at its cue; `event` makes that happen, while the fault waits for it."""
    before = len(events_of(rig, 0))

    async def play() -> None:
        stage = rig.stage
        cue = Awaited(TypeAdapter(Cue).validate_python(when), await count_reissues(stage.lab))
        playing = asyncio.create_task(run_fault(make_fault(fault, options), stage, cue=cue))
        await phase(rig, before, "waits")
        await event(stage)
        await playing

    rig.do(play())
    return events_of(rig, before)


def at(events: list[Event], name: str) -> Event:
    (event,) = (event for event in events if (event.source, event.phase) == ("fault", name))
    return event


def writes(rig: LiveStage) -> list[dict[str, Any]]:
    whole, _, _ = (rig.folder / "target.jsonl").read_text().rpartition("\n")  # the last may be half written
    lines = [json.loads(line) for line in whole.splitlines()]
    return [line for line in lines if line["f"] == "write"]


def copies_of(rig: LiveStage, value: int, count: int) -> list[dict[str, Any]]:
    """Return the copies of a write once there are so many: a line comes some time after its write ends."""
    deadline = time.monotonic() + BOUND_S
    while time.monotonic() < deadline:
        copies = [line for line in writes(rig) if line["value"] == value]
        if len(copies) >= count:
            return copies
        time.sleep(0.01)
    raise AssertionError(f"write {value} was seen fewer than {count} times")


def test_a_path_is_lost_with_a_write_to_a_hot_block_in_flight_and_no_other_write_is_the_cue(
    rig: LiveStage,
) -> None:
    issued: dict[str, int] = {}

    async def write(stage: Stage) -> None:
        issued["cold"] = await stage.guest.issue(COLD, write=True)
        await stage.lab.storage.wait_in_flight(stage.guest_node, (COLD,), 1, BOUND_S)
        assert "cued" not in [event.phase for event in events_of(rig, before)]
        issued["hot"] = await stage.guest.issue(HOT, write=True)
        await phase(rig, before, "proven")
        await stage.quiesce()  # which it is once the path is mended and both writes are done
        await stage.guest.run(stage.workload)

    rig.do(rig.stage.quiesce())
    before = len(events_of(rig, 0))
    cue = {"event": "in-flight", "hot": True}
    events = play(rig, "path-loss", cue, write, duration_s=0.5)
    assert at(events, "over").data == GOOD
    assert at(events, "cued").data["saw"] == f"1 write of x in flight, the last to block {HOT}"
    copies = copies_of(rig, issued["hot"], 2)  # the guest, which was never told, sends it again
    (cut,) = (event for event in events if (event.source, event.phase) == ("network", "cut"))
    assert copies[0]["received"] < at(events, "cued").time_ns < cut.time_ns < copies[0]["done"]


def test_a_fault_waits_for_writes_that_are_sent_again(rig: LiveStage) -> None:
    async def break_connection(stage: Stage) -> None:
        hypervisor, node = stage.lab.hypervisor, stage.guest_node
        assert await stage.lab.network.reset(node, Path_.STORAGE)
        await hypervisor.wait_state(node, GuestState.IO_ERROR, BOUND_S)
        assert "cued" not in [event.phase for event in events_of(rig, before)]
        await hypervisor.resume(node)

    before = len(events_of(rig, 0))
    events = play(rig, "pause", {"event": "reissue"}, break_connection, duration_s=0.1)
    assert at(events, "over").data == GOOD
    assert at(events, "cued").data["saw"] == f"{rig.stage.guest_node} has sent 1 write again"


def test_a_fault_waits_for_a_state_of_the_guest(rig: LiveStage) -> None:
    async def fail(stage: Stage) -> None:
        assert await stage.lab.network.reset(stage.guest_node, Path_.STORAGE)

    cue = {"event": "guest", "state": "io-error"}
    events = play(rig, "path-loss", cue, fail, duration_s=0.1)
    assert at(events, "over").data == GOOD
    assert at(events, "cued").data["saw"] == f"the guest on {rig.stage.guest_node} is io-error"


@pytest.mark.parametrize("kind", ["policy", "nbdkit-memory"])
def test_a_cue_that_never_comes_makes_the_run_unknown(kind: str, tmp_path: Path) -> None:
    when = {"event": "in-flight", "count": 1000, "timeout_s": 0.5}
    cued = {"fault": "path-loss", "when": {"event": "in-flight"}, "options": {"duration_s": 0.1}}
    spec = make_spec({"storage": {"kind": kind}, "nemesis": [{"fault": "pause", "when": when}, cued]})
    outcome = asyncio.run(run_test(spec, tmp_path))
    assert outcome.verdict == "unknown"
    why = "in-flight node=guest count=1000 timeout_s=0.5 was not seen within 0.5 s"
    assert outcome.results["reasons"] == [f"fault pause was not proven: its cue did not come: {why}"]
    assert [(fault["proven"], fault["healed"]) for fault in outcome.results["faults"]] == [
        (False, True),
        (True, True),
    ]
