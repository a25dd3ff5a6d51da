"""A fault that is cut off: it is healed, says how it went, and leaves no guest between two nodes."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk.errors import LabError
from jepsen_blk.history.events import EventLog, read_events
from jepsen_blk.lab.seams import Migration
from jepsen_blk.spec import HandoffSpec
from nemesis.fault import Stage, run_fault

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


class FakeHypervisor:
    """Migrates when the test lets it, or refuses."""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.asked = asyncio.Event()
        self.allowed = asyncio.Event()
        self.resumed: list[str] = []

    async def begin_migration(self, source: str, destination: str, mode: str, *, pause: bool) -> None:
        self.migration = Migration(source, destination, mode, 1, 2, 3, 0.1, 0.1, 0)

    async def finish_migration(self, source: str) -> Migration:
        self.asked.set()
        await self.allowed.wait()
        if self.refusal:
            raise LabError(self.refusal)
        return self.migration

    async def resume(self, node: str) -> None:
        self.resumed.append(node)


class FakeLab:
    """Two nodes and a hypervisor; nothing else is asked for."""

    def __init__(self, hypervisor: FakeHypervisor) -> None:
        self.hypervisor = hypervisor
        self.storage = None


def stage_in(folder: Path, hypervisor: FakeHypervisor) -> Stage:
    return Stage(
        lab=FakeLab(hypervisor),
        guest=None,
        events=EventLog(folder / "events.jsonl"),
        handoff=HandoffSpec(),
        workload={},
        operations=lambda: 0,
        guest_node="x",
        other_node="y",
    )


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

        stage = stage_in(tmp_path, FakeHypervisor())
        await cut_off(Scripted(dwell, heal), stage, begun, lambda: None)

    asyncio.run(test())
    assert healed == ["x"]
    assert ending(tmp_path) == {"proven": True, "healed": True, "why": "it was cut off"}


def test_a_cancellation_while_a_fault_is_healed_comes_after_the_healing(tmp_path: Path) -> None:
    async def test() -> None:
        begun, allowed = asyncio.Event(), asyncio.Event()

        async def heal(stage: Stage) -> None:
            begun.set()
            await allowed.wait()

        await cut_off(Scripted(heal=heal), stage_in(tmp_path, FakeHypervisor()), begun, allowed.set)

    asyncio.run(test())
    assert ending(tmp_path) == {"proven": True, "healed": True, "why": ""}


async def hand_over(stage: Stage) -> None:
    await stage.hand_over()


async def begin_and_finish(stage: Stage) -> None:
    await stage.begin_hand_over()
    await stage.finish_hand_over()


@pytest.mark.parametrize("migrate", [hand_over, begin_and_finish])
@pytest.mark.parametrize("refusal", ["", "no route"])
def test_a_hand_over_that_has_begun_is_taken_to_its_end(tmp_path: Path, refusal: str, migrate: Act) -> None:
    async def test() -> tuple[str, list[str]]:
        hypervisor = FakeHypervisor(refusal)
        stage = stage_in(tmp_path, hypervisor)

        async def dwell(stage: Stage) -> None:
            await migrate(stage)
            pytest.fail("what comes after the hand-over was not cut off")

        await cut_off(Scripted(dwell), stage, hypervisor.asked, hypervisor.allowed.set)
        return stage.guest_node, hypervisor.resumed

    assert asyncio.run(test()) == (("x", []) if refusal else ("y", ["y"]))
    assert ending(tmp_path)["why"] == (refusal or "it was cut off")
