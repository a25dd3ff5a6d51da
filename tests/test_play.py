"""Playing a plan, in virtual time: what begins when, what is left out, what is cut off, and what is said."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk import virtual_time
from jepsen_blk.history.events import read_events
from nemesis.catalogue import FAULTS
from nemesis.fault import Stage
from nemesis.plan import Plan, Step
from nemesis.play import play
from nemesis.testing.lab import ScriptedLab
from nemesis.testing.life import stage_on

Played = list[tuple[str, float]]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    """When which fault began; the one fault of the catalogue, `wait`, takes as long as it is told."""
    begun: Played = []

    @dataclass
    class Wait:
        name = "wait"
        takes_s: float = 1.0

        async def setup(self, stage: Stage) -> None: ...

        async def inject(self, stage: Stage) -> None:
            begun.append((self.name, asyncio.get_running_loop().time()))

        async def prove(self, stage: Stage) -> str:
            return "seen"

        async def dwell(self, stage: Stage) -> None:
            await asyncio.sleep(self.takes_s)

        async def heal(self, stage: Stage) -> None: ...

        async def prove_healed(self, stage: Stage) -> str:
            return "well"

    monkeypatch.setitem(FAULTS, "wait", Wait)
    return begun


def wait(takes_s: float = 1.0, **times: Any) -> Step:
    return Step("wait", {"takes_s": takes_s}, **times)


def run(folder: Path, *steps: Step, lasts_s: float = 0.0, limit_s: float = 60, stop_s: float = 0) -> float:
    """Play a plan and return how long it took; it is told to stop at `stop_s`."""

    async def test() -> float:
        stage = stage_on(ScriptedLab(), folder / "events.jsonl")
        loop = asyncio.get_running_loop()
        end = asyncio.Event()
        if stop_s:
            loop.call_at(stop_s, end.set)
        await play(Plan(steps, lasts_s), stage, end, "t", limit_s)
        stage.events.close()
        return loop.time()

    return virtual_time.run(test())


def said(folder: Path) -> list[tuple[str, str, str]]:
    events = read_events(folder / "events.jsonl")
    return [(e.source, e.phase, e.data.get("why", "")) for e in events if e.source != "fault"]


def times(played: Played) -> list[float]:
    return [pytest.approx(time) for _, time in played]


DONE = ("schedule", "done", "")


def test_a_pause_is_counted_from_the_end_of_the_fault_before(tmp_path: Path, played: Played):
    assert run(tmp_path, wait(5, after_s=2), wait(after_s=3)) == pytest.approx(11)
    assert times(played) == [2, 10]
    assert said(tmp_path) == [DONE]


def test_a_fault_does_not_begin_before_its_time(tmp_path: Path, played: Played):
    run(tmp_path, wait(5), wait(from_s=10), wait(20, from_s=11, after_s=2), wait(from_s=15))
    assert times(played) == [0, 10, 13, 33]


def test_without_faults_the_workload_runs_alone_for_the_time_limit(tmp_path: Path):
    assert run(tmp_path, limit_s=7) == pytest.approx(7)
    assert said(tmp_path) == [DONE]


def test_what_is_not_bounded_is_cut_off_at_the_time_limit_and_that_is_a_doubt(tmp_path: Path, played: Played):
    assert run(tmp_path, wait(1), wait(100), wait(1), limit_s=10) == pytest.approx(10)
    assert times(played) == [0, 1]
    assert said(tmp_path) == [("test", "doubt", "the schedule was cut off by time_limit_s = 10"), DONE]


def test_a_fault_of_a_bounded_part_is_taken_to_its_end_and_no_other_begins(tmp_path: Path, played: Played):
    steps = [wait(4, after_s=1, until_s=10, least_s=1) for _ in range(5)]
    assert run(tmp_path, *steps, limit_s=10, lasts_s=10) == pytest.approx(10)
    assert times(played) == [1, 6]
    assert said(tmp_path) == [("schedule", "done", "no time was left for 3 of 5 planned faults")]
    played.clear()
    assert run(tmp_path, wait(30, until_s=10), limit_s=10, lasts_s=10) == pytest.approx(30)


def test_once_a_part_is_over_none_of_its_faults_begins_even_if_it_would_fit(tmp_path: Path, played: Played):
    run(tmp_path, wait(8, until_s=10), wait(until_s=10, least_s=5), wait(until_s=10), wait(until_s=20))
    assert times(played) == [0, 8]


def test_a_part_in_which_no_fault_could_begin_is_a_doubt(tmp_path: Path, played: Played):
    run(tmp_path, wait(25, until_s=10), wait(from_s=10, until_s=20), wait(from_s=20, until_s=30), lasts_s=30)
    assert times(played) == [0, 25]
    why = "no fault of the schedule's part until 20 s was begun: what came before took until 25.0 s"
    assert said(tmp_path) == [
        ("test", "doubt", why),
        ("schedule", "done", "no time was left for 1 of 3 planned faults"),
    ]


def test_a_plan_that_is_done_early_is_waited_out(tmp_path: Path, played: Played):
    assert run(tmp_path, wait(1, until_s=50), lasts_s=50) == pytest.approx(50)
    assert said(tmp_path) == [DONE]


@pytest.mark.parametrize("steps", [(), (wait(20),), (wait(20, until_s=40),), (wait(1, from_s=20),)])
def test_a_plan_ends_when_it_is_told_to(tmp_path: Path, played: Played, steps: tuple[Step, ...]):
    assert run(tmp_path, *steps, stop_s=3) == pytest.approx(3)
    assert said(tmp_path) == [("schedule", "stopped", "at the first anomaly")]


def test_a_fault_that_fills_its_part_is_played_though_the_clock_has_moved_on(tmp_path: Path, played: Played):
    run(
        tmp_path, wait(10.01, until_s=10, least_s=10), wait(10, from_s=10, until_s=20, least_s=10), lasts_s=20
    )
    assert times(played) == [0, 10.01]
    assert said(tmp_path) == [DONE]
