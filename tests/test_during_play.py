"""Playing faults while another one stands, in virtual time: order, healing, numbers, doubts."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk import virtual_time
from jepsen_blk.errors import LabError
from jepsen_blk.history.events import Event, read_events
from jepsen_blk.judge import _faults
from nemesis.catalogue import FAULTS
from nemesis.fault import NotProven, Stage
from nemesis.plan import Plan, Step
from nemesis.play import play
from nemesis.testing.lab import ScriptedLab
from nemesis.testing.life import stage_on


@dataclass
class Scripted:
    """A fault that stands; `trouble` comes in its step of that name, and its healing takes `heals_s`."""

    name = "scripted"
    label: str = "?"
    duration_s: float = 1.0
    heals_s: float = 0.0
    trouble: str = ""

    async def setup(self, stage: Stage) -> None:
        self.say(stage, "setup")

    async def inject(self, stage: Stage) -> None:
        self.say(stage, "inject")

    async def prove(self, stage: Stage) -> str:
        self.say(stage, "prove")
        return "seen"

    async def dwell(self, stage: Stage) -> None:
        self.say(stage, "dwell")
        await asyncio.sleep(self.duration_s)

    async def heal(self, stage: Stage) -> None:
        await asyncio.sleep(self.heals_s)
        self.say(stage, "heal")

    async def prove_healed(self, stage: Stage) -> str:
        self.say(stage, "prove_healed")
        return "well"

    def say(self, stage: Stage, step: str) -> None:
        time_s = asyncio.get_running_loop().time()
        stage.events.emit("network", self.label, step, time_s=time_s)
        if self.trouble == step:
            raise NotProven(f"nothing of {self.label} was seen")


def step(label: str, *inner: Step, at: dict[str, float | None] | None = None, **options: Any) -> Step:
    given = {"label": label, "duration_s": 1.0, **options}
    return Step("scripted", given, during=inner, least_s=given["duration_s"], **(at or {}))


@dataclass
class Played:
    """What became of a plan."""

    events: list[Event]
    took_s: float

    def order(self, *steps: str) -> list[str]:
        """The steps of the faults, as "label step"."""
        return [
            f"{event.name} {event.phase}"
            for event in self.events
            if event.source == "network" and event.phase in (steps or ("inject", "heal"))
        ]

    def times(self, phase: str) -> dict[str, float]:
        return {e.name: e.data["time_s"] for e in self.events if e.source == "network" and e.phase == phase}

    def doubts(self) -> list[str]:
        return [event.data["why"] for event in self.events if event.source == "test"]

    def results(self) -> list[tuple[int, int, bool, bool, str]]:
        return [(f.number, f.during, f.proven, f.healed, f.why) for f in _faults(self.events)]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Played]:
    """Plays steps in virtual time; `stop_s` ends it in between, `end_guest_s` the guest."""
    monkeypatch.setitem(FAULTS, "scripted", Scripted)

    def run(
        *steps: Step, lasts_s: float = 0.0, limit_s: float = 60.0, stop_s: float = 0, end_guest_s: float = 0
    ) -> Played:
        async def test() -> float:
            lab = ScriptedLab()
            stage = stage_on(lab, tmp_path / "events.jsonl")
            loop, end = asyncio.get_running_loop(), asyncio.Event()
            if stop_s:
                loop.call_at(stop_s, end.set)
            if end_guest_s:
                loop.call_at(end_guest_s, lab.hypervisor.end, "x", "panic")
            try:
                await play(Plan(steps, lasts_s), stage, end, "t", limit_s)
            except LabError as error:
                stage.events.emit("test", "t", "doubt", why=str(error))
            stage.events.close()
            return loop.time()

        took_s = virtual_time.run(test())
        return Played(list(read_events(tmp_path / "events.jsonl")), took_s)

    return run


GOOD = (True, True, "")


def test_the_inner_faults_are_played_while_the_outer_stands_and_healed_before_it(
    played: Callable[..., Played],
) -> None:
    done = played(step("a", step("b"), step("c", step("d"))), step("e"))
    assert done.order("inject", "heal") == [
        *("a inject", "b inject", "b heal", "c inject", "d inject", "d heal", "c heal", "a heal"),
        *("e inject", "e heal"),
    ]
    assert done.results() == [(1, 0, *GOOD), (2, 1, *GOOD), (3, 1, *GOOD), (4, 3, *GOOD), (5, 0, *GOOD)]
    assert done.doubts() == []


@pytest.mark.parametrize(("own_s", "healed_s"), [(1.0, 5), (9.0, 9)])
def test_the_outer_is_healed_when_the_inner_are_over_and_its_own_time_is(
    own_s: float, healed_s: float, played: Callable[..., Played]
) -> None:
    done = played(step("a", step("b", duration_s=5.0), duration_s=own_s))
    assert done.times("heal") == pytest.approx({"a": healed_s, "b": 5})


def test_the_pause_before_an_inner_fault_is_counted_from_the_proof_of_the_outer(
    played: Callable[..., Played],
) -> None:
    done = played(step("a", step("b", at={"after_s": 2}), at={"after_s": 3}))
    assert done.times("inject") == pytest.approx({"a": 3, "b": 5})


@pytest.mark.parametrize("trouble", ["setup", "inject", "prove"])
def test_nothing_comes_during_what_was_not_proven_and_that_is_a_doubt(
    trouble: str, played: Callable[..., Played]
) -> None:
    done = played(step("a", step("b"), step("c"), trouble=trouble), step("d"))
    assert done.order("inject")[-1] == "d inject"
    assert not {"b inject", "c inject"} & set(done.order("inject"))
    assert done.results() == [(1, 0, False, True, "nothing of a was seen"), (2, 0, *GOOD)]
    assert done.doubts() == ["2 faults that were to come during scripted did not: it was not proven"]


def test_what_happens_to_an_inner_fault_does_not_end_the_outer(played: Callable[..., Played]) -> None:
    done = played(step("a", step("b", trouble="prove"), step("c", trouble="prove_healed"), step("d")))
    assert done.order("heal") == ["b heal", "c heal", "d heal", "a heal"]
    assert [result[2:4] for result in done.results()] == [
        (True, True),
        (False, True),
        (True, False),
        (True, True),
    ]


@pytest.mark.parametrize("end", [{"limit_s": 10}, {"stop_s": 10}])
def test_a_cut_off_heals_from_the_inside_out(end: dict[str, float], played: Callable[..., Played]) -> None:
    long = step("a", step("b", step("c", duration_s=100.0, heals_s=2.0)), heals_s=1.0)
    done = played(long, **end)
    assert done.order("heal") == ["c heal", "b heal", "a heal"]
    assert done.took_s == pytest.approx(13)
    assert [result[2:] for result in done.results()] == [(True, True, "it was cut off")] * 3


def test_a_cut_off_while_an_inner_fault_is_healed_comes_after_that_healing(
    played: Callable[..., Played],
) -> None:
    done = played(step("a", step("b", heals_s=5.0), step("c")), limit_s=3)
    assert done.order("heal") == ["b heal", "a heal"]
    assert done.results() == [(1, 0, True, True, "it was cut off"), (2, 1, *GOOD)]


def test_a_guest_that_ends_during_faults_ends_the_test_with_all_of_them_healed(
    played: Callable[..., Played],
) -> None:
    done = played(step("a", step("b"), step("c"), duration_s=50.0), step("d"), end_guest_s=0.5)
    assert done.order("heal") == ["b heal", "a heal"]
    assert done.doubts() == ["the guest on x has ended: panic"]
    assert done.took_s == pytest.approx(1)


def test_a_bounded_part_ends_with_the_fault_that_stands_and_what_is_under_way(
    played: Callable[..., Played],
) -> None:
    inner = [step(name, duration_s=4.0, at={"until_s": 10.0}) for name in "bcd"]
    done = played(step("a", *inner, at={"until_s": 10.0}), lasts_s=10)
    assert done.order("inject", "heal") == ["a inject", "b inject", "b heal", "c inject", "c heal", "a heal"]
    (said,) = (event.data for event in done.events if event.source == "schedule")
    assert said == {"why": "no time was left for 1 of 4 planned faults"}


def test_what_stands_does_not_begin_where_nothing_would_come_during_it(played: Callable[..., Played]) -> None:
    at = {"until_s": 10.0}
    done = played(step("a", duration_s=8.0, at=at), step("b", step("c", duration_s=4.0, at=at), at=at))
    assert done.order("inject") == ["a inject"]
    (said,) = (event.data for event in done.events if event.source == "schedule")
    assert said == {"why": "no time was left for 2 of 3 planned faults"}


def test_every_event_of_a_fault_has_its_number_also_those_that_others_emit_for_it(
    played: Callable[..., Played],
) -> None:
    done = played(step("a", step("b"), step("c")), step("d"))
    numbers = {event.name: event.number for event in done.events if event.source == "network"}
    assert numbers == {"a": 1, "b": 2, "c": 3, "d": 4}
    counted: dict[int, list[str]] = {}
    for event in done.events:
        if event.source == "fault":
            counted.setdefault(event.number, []).append(event.phase)
    life = ["setup", "inject", "proven", "heal", "healed", "over"]
    assert counted == dict.fromkeys((1, 2, 3, 4), life)
    assert all(event.number == 0 for event in done.events if event.source == "schedule")


def test_faults_of_a_run_from_before_they_had_numbers_are_counted(tmp_path: Path) -> None:
    begun = ("fault", "network", "fault")
    lines = [
        {"time_ns": 0, "source": source, "name": "pause", "phase": phase, "node": "", "data": data}
        for _ in range(2)
        for source, phase, data in (
            ("fault", "setup", {}),
            ("network", "cut", {}),
            ("fault", "over", {"proven": True, "healed": True, "why": ""}),
            ("test", "doubt", {"why": "?"}),
        )
    ]
    lines.append({**lines[0], "name": "hold"})
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    events = list(read_events(tmp_path / "events.jsonl"))
    assert [event.number for event in events] == [1, 1, 1, 0, 2, 2, 2, 0, 3]
    assert [event.source for event in events[:3]] == list(begun)
    assert [(f.number, f.name, f.proven, f.why) for f in _faults(events)] == [
        (1, "pause", True, ""),
        (2, "pause", True, ""),
        (3, "hold", False, "it was cut off"),
    ]
