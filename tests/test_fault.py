"""A fault that is cut off: it is healed, says how it went, and leaves no guest between two nodes."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk import virtual_time
from jepsen_blk.errors import LabError
from jepsen_blk.history.events import read_events
from jepsen_blk.lab.seams import GuestState, Migration
from nemesis.fault import Stage, run_fault
from nemesis.testing.lab import ScriptedLab
from nemesis.testing.life import stage_on

Act = Callable[[Stage], Coroutine[Any, Any, None]]


async def nothing(stage: Stage) -> None:
    """Do nothing."""


class Scripted:
    """A fault whose dwelling and healing are what the test says."""

    name = "scripted"

    def __init__(self, dwell: Act = nothing, heal: Act = nothing) -> None:
        self.dwell = dwell
        self.heal = heal

    async def setup(self, stage: Stage) -> None: ...

    async def inject(self, stage: Stage) -> None: ...

    async def prove(self, stage: Stage) -> str:
        return "seen"

    async def prove_healed(self, stage: Stage) -> str:
        return "well"


def stage_in(folder: Path) -> Stage:
    return stage_on(ScriptedLab(), folder / "events.jsonl")


def ending(folder: Path) -> dict[str, Any]:
    """What the last event of a fault says."""
    *_, last = (event for event in read_events(folder / "events.jsonl") if event.source == "fault")
    assert last.phase == "over"
    return last.data


async def cut_off(fault: Scripted, stage: Stage, begun: asyncio.Event, then: Callable[[], None]) -> None:
    """Cancel the fault once it has `begun`, do `then`, and see that the cancellation comes out."""
    running = asyncio.create_task(run_fault(fault, stage))
    waiting = asyncio.create_task(begun.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    assert begun.is_set(), "the fault ended before it was where it was to be cut off"
    running.cancel()
    await asyncio.sleep(0)  # the cancellation is delivered
    then()
    await asyncio.wait({running})
    stage.events.close()
    assert running.cancelled()


def test_a_fault_that_is_cut_off_is_healed_and_says_that_it_was_proven(tmp_path: Path) -> None:
    healed = []

    async def test() -> None:
        begun = asyncio.Event()

        async def dwell(stage: Stage) -> None:
            begun.set()
            await asyncio.Event().wait()

        async def heal(stage: Stage) -> None:
            healed.append(stage.guest_node)

        stage = stage_in(tmp_path)
        await cut_off(Scripted(dwell, heal), stage, begun, lambda: None)

    virtual_time.run(test())
    assert healed == ["x"]
    assert ending(tmp_path) == {"proven": True, "healed": True, "why": "it was cut off"}


def test_a_cancellation_while_a_fault_is_healed_comes_after_the_healing(tmp_path: Path) -> None:
    async def test() -> None:
        begun, allowed = asyncio.Event(), asyncio.Event()

        async def heal(stage: Stage) -> None:
            begun.set()
            await allowed.wait()

        await cut_off(Scripted(heal=heal), stage_in(tmp_path), begun, allowed.set)

    virtual_time.run(test())
    assert ending(tmp_path) == {"proven": True, "healed": True, "why": ""}


async def hand_over(stage: Stage) -> None:
    await stage.hand_over()


async def begin_and_finish(stage: Stage) -> None:
    await stage.begin_hand_over()
    await stage.finish_hand_over()


@pytest.mark.parametrize("migrate", [hand_over, begin_and_finish])
@pytest.mark.parametrize("refusal", ["", "no route"])
def test_a_hand_over_that_has_begun_is_taken_to_its_end(tmp_path: Path, refusal: str, migrate: Act) -> None:
    async def test() -> tuple[str, GuestState]:
        lab, asked, allowed = ScriptedLab(), asyncio.Event(), asyncio.Event()
        finish = lab.hypervisor.finish_migration

        async def finish_when_allowed(source: str) -> Migration:
            asked.set()
            await allowed.wait()
            if refusal:
                raise LabError(refusal)
            return await finish(source)

        lab.hypervisor.finish_migration = finish_when_allowed
        stage = stage_on(lab, tmp_path / "events.jsonl")

        async def dwell(stage: Stage) -> None:
            await migrate(stage)
            pytest.fail("what comes after the hand-over was not cut off")

        await cut_off(Scripted(dwell), stage, asked, allowed.set)
        return stage.guest_node, await lab.hypervisor.state("y")

    assert virtual_time.run(test()) == (("x", GuestState.INCOMING) if refusal else ("y", GuestState.RUNNING))
    assert ending(tmp_path)["why"] == (refusal or "it was cut off")
