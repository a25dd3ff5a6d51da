"""Playing faults that wait for a cue, in virtual time: when they begin, and what ends the waiting."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from jepsen_blk import virtual_time
from jepsen_blk.cue_spec import Cue
from jepsen_blk.errors import LabError
from jepsen_blk.history.events import Event, EventLog, read_events
from jepsen_blk.judge import _faults
from jepsen_blk.lab.seams import GuestState, InFlight, MigrationPhase
from jepsen_blk.spec import HandoffSpec
from nemesis.catalogue import FAULTS
from nemesis.fault import NotProven, Stage
from nemesis.plan import Plan, Step
from nemesis.play import play

IN_FLIGHT = {"event": "in-flight"}
NEVER = 1e6
GOOD = (True, True, "")


@dataclass
class Scripted:
    """A fault that says when its steps come."""

    name = "scripted"
    label: str = "?"
    duration_s: float = 1.0

    async def setup(self, stage: Stage) -> None:
        self.say(stage, "setup")

    async def inject(self, stage: Stage) -> None:
        self.say(stage, "inject")

    async def prove(self, stage: Stage) -> str:
        return "seen"

    async def dwell(self, stage: Stage) -> None:
        await asyncio.sleep(self.duration_s)

    async def heal(self, stage: Stage) -> None:
        self.say(stage, "heal")

    async def prove_healed(self, stage: Stage) -> str:
        return "well"

    def say(self, stage: Stage, step: str) -> None:
        stage.events.emit("network", self.label, step, time_s=asyncio.get_running_loop().time())


@dataclass
class Lab:
    """A lab whose events come at the times `at_s`, each for the first who waits; it knows what was asked."""

    at_s: Sequence[float] = ()
    refusal: str = ""
    reissued_s: Sequence[float] = ()
    """When x sends a write again."""
    restarted_s: float = NEVER
    """When the storage's server is started again, and forgets its counts."""
    asked: list[tuple[float, Any]] = field(default_factory=list)
    guest_nodes = ("x", "y")

    def __post_init__(self) -> None:
        self.hypervisor = self.storage = self
        self._left = list(self.at_s)

    async def state(self, node: str) -> GuestState:
        return GuestState.RUNNING

    async def wait_in_flight(
        self, node: str, blocks: Sequence[int], count: int, timeout_s: float
    ) -> Sequence[InFlight]:
        await self._event(node, tuple(blocks), count)
        return [InFlight(1, node, 3, 9, 0, held=False)] * count

    async def wait_state(self, node: str, state: GuestState, timeout_s: float) -> None:
        await self._event(node, state)

    async def wait_migration(self, node: str, phase: MigrationPhase, timeout_s: float) -> None:
        await self._event(node, phase)

    async def reissues(self, node: str) -> int:
        now_s = asyncio.get_running_loop().time()
        begun_s = self.restarted_s if now_s >= self.restarted_s else 0
        return sum(begun_s <= at_s <= now_s for at_s in self.reissued_s) if node == "x" else 0

    async def wait_reissues(self, node: str, count: int, timeout_s: float) -> None:
        while await self.reissues(node) < count:
            await asyncio.sleep(0.25)

    async def _event(self, *what: Any) -> None:
        now_s = asyncio.get_running_loop().time()
        self.asked.append((now_s, what))
        if self.refusal:
            raise LabError(self.refusal)
        await asyncio.sleep((self._left.pop(0) if self._left else NEVER) - now_s)


def step(label: str, *inner: Step, when: dict[str, Any] | None = None, **keys: Any) -> Step:
    options = {"label": label, "duration_s": keys.pop("duration_s", 1.0)}
    cue = TypeAdapter(Cue).validate_python(when) if when else None
    return Step("scripted", options, during=inner, when=cue, least_s=options["duration_s"], **keys)


@dataclass
class Played:
    """What became of a plan."""

    events: list[Event]
    took_s: float
    lab: Lab

    def times(self, phase: str) -> dict[str, float]:
        return {e.name: e.data["time_s"] for e in self.events if e.source == "network" and e.phase == phase}

    def doubts(self) -> list[str]:
        return [event.data["why"] for event in self.events if event.source == "test"]

    def ended(self) -> tuple[str, str]:
        (event,) = (event for event in self.events if event.source == "schedule")
        return event.phase, event.data.get("why", "")

    def results(self) -> list[tuple[bool, bool, str]]:
        return [(fault.proven, fault.healed, fault.why) for fault in _faults(self.events)]

    def phases(self) -> list[str]:
        return [event.phase for event in self.events if event.source == "fault"]


Play = Callable[..., Played]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Plays steps on a lab in virtual time; `stop_s` ends it in between."""
    monkeypatch.setitem(FAULTS, "scripted", Scripted)

    def run(
        *steps: Step, lab: Lab | None = None, lasts_s: float = 0, limit_s: float = 100, stop_s: float = 0
    ) -> Played:
        used = lab or Lab()

        async def test() -> float:
            events = EventLog(tmp_path / "events.jsonl")
            workload = {"blocks": 256, "hot_blocks": 3}
            stage = Stage(used, None, events, HandoffSpec(), workload, lambda: 0, "x", "y")
            loop, end = asyncio.get_running_loop(), asyncio.Event()
            if stop_s:
                loop.call_at(stop_s, end.set)
            await play(Plan(steps, lasts_s), stage, end, "t", limit_s)
            events.close()
            return loop.time()

        took_s = virtual_time.run(test())
        return Played(list(read_events(tmp_path / "events.jsonl")), took_s, used)

    return run


def test_a_fault_begins_once_its_cue_is_seen_with_all_made_ready_before(played: Play) -> None:
    done = played(step("a", when=IN_FLIGHT), lab=Lab([7]))
    assert done.times("setup") == {"a": 0}
    assert done.times("inject") == pytest.approx({"a": 7})
    assert done.results() == [GOOD]
    assert done.phases()[:5] == ["setup", "waits", "cued", "inject", "proven"]
    waits, cued = (event.data for event in done.events if event.phase in ("waits", "cued"))
    assert waits == {"cue": "in-flight node=guest count=1"}
    assert cued == {"saw": "1 write of x in flight, the last to block 3"}


def test_the_pause_comes_first_and_what_happens_in_it_is_no_cue(played: Play) -> None:
    done = played(step("a", when=IN_FLIGHT, after_s=3, from_s=2), lab=Lab([9]))
    assert [time_s for time_s, _ in done.lab.asked] == pytest.approx([5])
    assert done.times("inject") == pytest.approx({"a": 9})


def test_a_repeated_fault_waits_anew_each_time(played: Play) -> None:
    done = played(step("a", when=IN_FLIGHT), step("b", when=IN_FLIGHT), lab=Lab([2, 8]))
    assert done.times("inject") == pytest.approx({"a": 2, "b": 8})


def test_a_cue_that_does_not_come_in_its_time_makes_the_fault_not_proven(played: Play) -> None:
    done = played(step("a", when={**IN_FLIGHT, "timeout_s": 4}), step("b"), lab=Lab([5]))
    why = "its cue did not come: in-flight node=guest count=1 timeout_s=4 was not seen within 4 s"
    assert done.results() == [(False, True, why), GOOD]
    assert done.times("inject") == pytest.approx({"b": 4})
    assert done.times("heal")["a"] == pytest.approx(4)
    assert "inject" not in [event.phase for event in done.events if event.number == 1]


def test_a_cue_is_waited_for_half_a_minute_where_nothing_is_said(played: Play) -> None:
    assert played(step("a", when=IN_FLIGHT)).took_s == pytest.approx(30)


def test_what_the_lab_says_against_a_cue_is_the_reason(played: Play) -> None:
    done = played(step("a", when=IN_FLIGHT), lab=Lab(refusal="no answer"))
    assert done.results()[0][2] == "its cue did not come: in-flight node=guest count=1: no answer"


def test_nothing_comes_during_a_fault_whose_cue_did_not_come_and_that_is_a_doubt(played: Play) -> None:
    done = played(step("a", step("b"), when=IN_FLIGHT))
    assert done.doubts() == ["1 fault that was to come during scripted did not: it was not proven"]
    assert done.times("inject") == {}


def test_what_stands_is_healed_when_the_cue_of_what_was_to_come_is_missed(played: Play) -> None:
    done = played(step("a", step("b", when={**IN_FLIGHT, "timeout_s": 6}), step("c")))
    assert done.times("inject") == pytest.approx({"a": 0, "c": 6})
    assert done.times("heal") == pytest.approx({"a": 7, "b": 6, "c": 7})
    assert [proven for proven, _, _ in done.results()] == [True, False, True]


@pytest.mark.parametrize("seen", [[], [8.5]], ids=["never", "too late"])
def test_the_end_of_a_part_cuts_the_waiting_off_and_that_is_no_doubt(seen: list[float], played: Play) -> None:
    steps = [step("a", until_s=10.0), step("b", when=IN_FLIGHT, until_s=10.0, duration_s=2), step("c")]
    done = played(*steps, lab=Lab(seen), lasts_s=10)
    assert done.times("inject") == pytest.approx({"a": 0, "c": 8.1})
    assert (done.results(), done.doubts()) == ([GOOD, GOOD], [])
    assert done.ended() == ("done", "no time was left for 1 of 3 planned faults")
    (over,) = (event.data for event in done.events if event.phase == "over" and event.number == 2)
    assert over["why"] == (
        "its part of the schedule was over before its cue came: in-flight node=guest count=1"
    )


def test_what_stands_does_not_begin_at_a_cue_after_which_nothing_would_come_during_it(played: Play) -> None:
    inner = step("b", duration_s=4, until_s=10.0)
    done = played(step("a", inner, when=IN_FLIGHT, until_s=10.0), lab=Lab([8]), lasts_s=10)
    assert done.times("inject") == {}
    assert done.ended() == ("done", "no time was left for 2 of 2 planned faults")


def test_a_part_whose_one_fault_waited_in_vain_is_a_doubt(played: Play) -> None:
    done = played(step("a", when=IN_FLIGHT, until_s=10.0), lasts_s=10)
    waited = "scripted waited for its cue (in-flight node=guest count=1) to the end"
    assert done.doubts() == [f"no fault of the schedule's part until 10 s was begun: {waited}"]


def test_the_time_limit_cuts_the_waiting_off_and_that_is_a_doubt(played: Play) -> None:
    done = played(step("a", step("b", when=IN_FLIGHT)), step("c"), limit_s=20)
    assert done.took_s == pytest.approx(20)
    assert done.results() == [(True, True, "it was cut off"), (False, True, "it was cut off")]
    assert list(done.times("heal")) == ["b", "a"]
    assert done.doubts() == ["the schedule was cut off by time_limit_s = 20"]


def test_a_test_that_stops_cuts_the_waiting_off(played: Play) -> None:
    done = played(step("a", when=IN_FLIGHT, until_s=90.0), lasts_s=90, stop_s=5)
    assert done.took_s == pytest.approx(5)
    assert done.ended() == ("stopped", "at the first anomaly")


@pytest.mark.parametrize(
    ("when", "asked", "saw"),
    [
        ({"event": "in-flight", "hot": True, "count": 2}, ("x", (0, 1, 2), 2), "2 writes of x in flight"),
        ({"event": "in-flight", "block": 7, "node": "other"}, ("y", (7,), 1), "1 write of y in flight"),
        ({"event": "guest", "state": "io-error"}, ("x", GuestState.IO_ERROR), "the guest on x is io-error"),
        (
            {"event": "migration", "phase": "pre-switchover"},
            ("x", MigrationPhase.SWITCHOVER),
            "the migration is at the switch-over",
        ),
    ],
)
def test_each_cue_asks_for_its_own_event(
    when: dict[str, Any], asked: tuple[Any, ...], saw: str, played: Play
) -> None:
    done = played(step("a", when=when), lab=Lab([1]))
    assert done.lab.asked == [(0, asked)]
    (said,) = (event.data["saw"] for event in done.events if event.phase == "cued")
    assert said.startswith(saw)


REISSUE = {"event": "reissue", "count": 2}


def test_re_issues_are_counted_since_the_fault_before_began(played: Play) -> None:
    steps = [step("a", after_s=2), step("b", when=REISSUE), step("c", when=REISSUE)]
    done = played(*steps, lab=Lab(reissued_s=[1, 2.5, 6, 7, 7.5]))
    assert done.times("inject") == pytest.approx({"a": 2, "b": 6, "c": 7.5})
    said = [event.data["saw"] for event in done.events if event.phase == "cued"]
    assert said == ["x has sent 2 writes again"] * 2


def test_re_issues_of_the_first_during_a_fault_are_counted_since_that_one_began(played: Play) -> None:
    done = played(step("a"), step("b", step("c", when=REISSUE)), lab=Lab(reissued_s=[0.5, 1.5, 4]))
    assert done.times("inject") == pytest.approx({"a": 0, "b": 1, "c": 4})


def test_a_storage_that_was_restarted_counts_re_issues_from_there(played: Play) -> None:
    lab = Lab(reissued_s=[0.2, 0.4, 0.6, 3, 4], restarted_s=1.5)
    done = played(step("a", after_s=1), step("b", when=REISSUE), lab=lab)
    assert done.times("inject")["b"] == pytest.approx(4)


def test_nobody_counts_re_issues_for_whom_none_is_a_cue(played: Play) -> None:
    class Silent(Lab):
        async def reissues(self, node: str) -> int:
            raise NotProven("nobody should ask")

    assert played(step("a", when=IN_FLIGHT), lab=Silent([1])).results() == [GOOD]
