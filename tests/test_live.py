"""A test is checked while it runs, says so at its first anomaly, and ends there if it was asked to."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_rig import WAIT_S
from fabricate import failing_run, passing_run
from fake_lab import FakeLab, PreparedFakeLab, packed
from histories import Op, read, write

from jepsen_blk import controller, live
from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import HistoryError
from jepsen_blk.follow import Follower
from jepsen_blk.history.events import Event, EventLog, read_events
from jepsen_blk.history.journal import JournalWriter
from jepsen_blk.judge import judge_run
from jepsen_blk.live import checking
from jepsen_blk.report.view import NullView
from jepsen_blk.spec import Spec, make_spec
from nemesis.catalogue import FAULTS
from nemesis.fault import Stage

HEALTHY = (write(1, 0, 90, 7), write(2, 100, 200, 7), read(2, 300, 310, 7))
STALE = read(1, 400, 410, 7)
SEEN = "conflict on block 7"


class Watcher(NullView):
    """A view that keeps what it is shown, and whose events can be waited for."""

    def __init__(self) -> None:
        self.checks: list[tuple[int, str]] = []
        self.checked_anew = asyncio.Event()
        self.ended = asyncio.Event()
        self.sources: dict[str, asyncio.Event] = {}

    def checked(self, operations: int, anomaly: str) -> None:
        self.checks.append((operations, anomaly))
        self.checked_anew.set()

    def unchecked(self, operations: int, why: str) -> None:
        self.checks.append((operations, f"until {why}"))
        self.ended.set()

    def event(self, event: Event) -> None:
        self.came(event.source).set()

    def came(self, source: str) -> asyncio.Event:
        return self.sources.setdefault(source, asyncio.Event())

    async def has_checked(self, operations: int) -> None:
        while not self.checks or self.checks[-1][0] < operations:
            self.checked_anew.clear()
            await self.checked_anew.wait()


@pytest.fixture(autouse=True)
def _without_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_EVERY_S", 0.001)
    monkeypatch.setattr(live, "_SHARE", 1.0)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalWriter]:
    writer = JournalWriter(tmp_path / "history.blk")
    writer.note({"note": "boot", "boot": 0})
    yield writer
    writer.close()


@pytest.fixture
def events(tmp_path: Path) -> Iterator[EventLog]:
    log = EventLog(tmp_path / "events.jsonl")
    yield log
    log.close()


def events_in(folder: Path, source: str) -> list[tuple[str, dict[str, Any]]]:
    return [(e.phase, e.data) for e in read_events(folder / "events.jsonl") if e.source == source]


def test_an_anomaly_is_an_event_and_is_shown_as_soon_as_the_journal_has_it(
    tmp_path: Path, journal: JournalWriter, events: EventLog
) -> None:
    async def test() -> list[tuple[int, str]]:
        view = Watcher()
        async with asyncio.timeout(WAIT_S), checking(Spec(), tmp_path / "history.blk", events, view) as seen:
            journal.rows(0, 1, packed(HEALTHY))
            await view.has_checked(3)
            assert not seen.is_set()
            journal.rows(0, 2, packed([STALE]))
            await seen.wait()
        return view.checks

    checks = asyncio.run(test())
    assert {anomaly for operations, anomaly in checks if operations < 4} == {""}
    assert checks[-1] == (4, SEEN)
    assert events_in(tmp_path, "checker") == [
        ("seen", {"kind": "conflict", "block": 7, "value": 0, "why": SEEN})
    ]


def test_a_power_loss_ends_the_check_of_the_running_test_which_says_so(
    tmp_path: Path, journal: JournalWriter, events: EventLog
) -> None:
    async def test() -> Watcher:
        view = Watcher()
        async with asyncio.timeout(WAIT_S), checking(Spec(), tmp_path / "history.blk", events, view) as seen:
            journal.rows(0, 1, packed(HEALTHY))
            journal.note({"note": "crash", "earliest": 350, "latest": 360})
            journal.rows(0, 2, packed([STALE]))
            await view.ended.wait()
            assert not seen.is_set()
        return view

    view = asyncio.run(test())
    assert view.checks == [(3, ""), (3, "until the storage lost power")]
    why = "the storage lost power after 3 checked operations; the rest is judged at the end"
    assert events_in(tmp_path, "checker") == [("ended", {"why": why})]


def test_the_check_rests_so_that_it_takes_its_share_of_a_processor_at_most(
    tmp_path: Path, journal: JournalWriter, events: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    took_s, rests = iter((0.001, 0.02, 3.0)), []
    monkeypatch.undo()
    monkeypatch.setattr(live, "_look", lambda follower: next(took_s))

    async def test() -> None:
        rested = asyncio.Event()

        async def sleep(delay_s: float) -> None:
            rests.append(delay_s)
            if len(rests) == 3:
                rested.set()
                await asyncio.Event().wait()

        monkeypatch.setattr(live.asyncio, "sleep", sleep)
        async with asyncio.timeout(WAIT_S), checking(Spec(), tmp_path / "history.blk", events, NullView()):
            await rested.wait()

    asyncio.run(test())
    assert rests == pytest.approx([0.5, 2.0, 300.0])


@dataclass
class Quiet:
    """A fault that does nothing."""

    name = "quiet"

    async def setup(self, stage: Stage) -> None: ...

    async def inject(self, stage: Stage) -> None: ...

    async def prove(self, stage: Stage) -> str:
        return "seen"

    async def dwell(self, stage: Stage) -> None: ...

    async def heal(self, stage: Stage) -> None: ...

    async def prove_healed(self, stage: Stage) -> str:
        return "well"


def play(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    ops: tuple[Op, ...],
    until: Callable[[Watcher], Any],
    first: tuple[Op, ...] = (),
    **spec: Any,
) -> Outcome:
    """Run a test of two faults; during the first, which lasts `until` something, the guest reports `ops`.

    It reports those of `first` when the workload begins.
    """

    async def prepare(spec: Spec) -> PreparedFakeLab:
        return PreparedFakeLab(folder, first)

    async def test() -> Outcome:
        view = Watcher()

        @dataclass
        class Reporting(Quiet):
            name = "reporting"

            async def inject(self, stage: Stage) -> None:
                assert isinstance(stage.lab, FakeLab)
                stage.lab.send(*ops)

            async def dwell(self, stage: Stage) -> None:
                await until(view)

        for fault in (Reporting, Quiet):
            monkeypatch.setitem(FAULTS, fault.name, fault)
        steps = [{"fault": name, "after_s": 0} for name in ("reporting", "quiet")]
        async with asyncio.timeout(WAIT_S):
            return await run_test(make_spec({"nemesis": steps, **spec}), folder / "store", view=view)

    monkeypatch.setattr(controller, "prepare_lab", prepare)
    return asyncio.run(test())


def for_ever(view: Watcher) -> Any:
    return asyncio.Event().wait()


def until_the_anomaly(view: Watcher) -> Any:
    return view.came("checker").wait()


def test_a_test_that_stops_at_its_first_anomaly_heals_reads_every_block_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = play(tmp_path, monkeypatch, (*HEALTHY, STALE), for_ever, stop_on_fail=True)
    results = outcome.results
    assert (outcome.verdict, results["anomalies"][0]["block"]) == ("fail", 7)
    assert results["reasons"] == []
    (note,) = results["notes"]
    assert note.startswith("stopped at the first anomaly, ")
    assert note.endswith(" s after the test began; 1 of 2 faults had begun")
    (fault,) = results["faults"]
    assert fault | {"proven": True, "healed": True, "why": "it was cut off"} == fault
    assert (fault["number"], fault["name"]) == (1, "reporting")
    assert events_in(outcome.run_dir, "schedule") == [("stopped", {"why": "at the first anomaly"})]
    order = [(event.source, event.phase) for event in read_events(outcome.run_dir / "events.jsonl")]
    marks = [("checker", "seen"), ("fault", "healed"), ("schedule", "stopped"), ("workload", "done")]
    assert [event for event in order if event in marks] == marks
    assert "topped at the first anomaly" in (outcome.run_dir / "report.html").read_text()


def test_a_test_without_a_schedule_stops_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"stop_on_fail": True, "nemesis": [], "time_limit_s": 3600}
    outcome = play(tmp_path, monkeypatch, (), for_ever, first=(*HEALTHY, STALE), **spec)
    assert outcome.verdict == "fail"
    assert outcome.results["notes"][0].endswith("s after the test began")


def test_without_stop_on_fail_the_schedule_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = play(tmp_path, monkeypatch, (*HEALTHY, STALE), until_the_anomaly)
    assert outcome.verdict == "fail"
    assert "notes" not in outcome.results
    assert [fault["name"] for fault in outcome.results["faults"]] == ["reporting", "quiet"]
    assert [phase for phase, _ in events_in(outcome.run_dir, "schedule")] == ["done"]


@pytest.mark.parametrize("error", [HistoryError("a hole"), ZeroDivisionError("a hole")])
def test_a_check_that_fails_is_a_doubt_and_the_test_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(follower: Follower) -> bool:
        raise error

    monkeypatch.setattr(Follower, "step", fail)
    outcome = play(tmp_path, monkeypatch, HEALTHY, lambda view: view.came("test").wait(), stop_on_fail=True)
    assert (outcome.verdict, outcome.results["anomalies"]) == ("unknown", [])
    assert "the check of the running test failed: a hole" in outcome.results["reasons"]
    assert [phase for phase, _ in events_in(outcome.run_dir, "schedule")] == ["done"]


def also_emit(run: Path, source: str, phase: str, **data: Any) -> None:
    """Put an event before the run's last."""
    lines = (run / "events.jsonl").read_text().splitlines()
    event = json.loads(lines[-1]) | {"source": source, "phase": phase, "data": data}
    (run / "events.jsonl").write_text("\n".join([*lines[:-1], json.dumps(event), lines[-1]]) + "\n")


@pytest.mark.parametrize(
    ("stopped", "deadline", "verdict"),
    [(False, None, "unknown"), (False, Deadline.NEVER, "pass"), (True, Deadline.NEVER, "unknown")],
)
def test_an_anomaly_that_the_judgement_does_not_find_is_no_silent_pass(
    tmp_path: Path, stopped: bool, deadline: Deadline | None, verdict: str
) -> None:
    run = passing_run(tmp_path / "run")
    assert judge_run(run)["verdict"] == "pass"
    also_emit(run, "checker", "seen", why=SEEN)
    if stopped:
        also_emit(run, "schedule", "stopped", why="at the first anomaly")
    results = judge_run(run, deadline)
    assert results["verdict"] == verdict
    said = [reason for reason in results["reasons"] if f"saw an anomaly ({SEEN})" in reason]
    assert len(said) == (verdict == "unknown")


def test_a_check_that_a_power_loss_ended_is_no_doubt(tmp_path: Path) -> None:
    run = passing_run(tmp_path / "run")
    also_emit(run, "checker", "ended", why="the storage lost power")
    assert judge_run(run)["verdict"] == "pass"


def test_what_the_judgement_finds_confirms_what_was_seen(tmp_path: Path) -> None:
    run = failing_run(tmp_path / "run")
    also_emit(run, "checker", "seen", why=SEEN)
    assert not any("saw an anomaly" in reason for reason in judge_run(run)["reasons"])
