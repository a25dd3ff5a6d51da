"""The controller's wall clock may jump while a test runs: nothing that is judged is of that clock."""

import ast
import asyncio
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from test_house import FILES, name_of, tree_of

from jepsen_blk.controller import run_test
from jepsen_blk.history.events import Event, read_events
from jepsen_blk.history.journal import read_journal
from jepsen_blk.history.record import PENDING
from jepsen_blk.judge import judge_run
from jepsen_blk.lab import echo
from jepsen_blk.lab.local.qemu import happened_ns
from jepsen_blk.report.view import NullView
from jepsen_blk.spec import make_spec

HOUR_S = 3600
S = 10**9
ITS_USES = {
    "jepsen_blk.store": "the name of a run's directory",
    "jepsen_blk.campaign.session": "when a comparison was begun, for who reads it",
    "jepsen_blk.lab.local.qemu": "the age of QEMU's events",
    "jepsen_blk.lab.echo": "the age of a packet",
    "jepsen_blk.lab.ledger": "when a deed was done, for who heals it",
    "workloads.agent.wall_clock": "the guest's, which a fault sets",
}
WALL_CLOCK = {"time", "time_ns", "now", "utcnow", "today", "gmtime", "localtime", "strftime"}


def reads_wall_clock(path: Path) -> bool:
    """Tell whether a module names a function of the wall clock, alone or of its module."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found = {alias.name for alias in node.names} & WALL_CLOCK
        else:
            found = isinstance(node, ast.Attribute) and ast.unparse(node).rpartition(".")[::2]
            found = (
                found and found[1] in WALL_CLOCK and found[0].split(".")[-1] in ("time", "datetime", "date")
            )
        if found:
            return True
    return False


def test_the_wall_clock_is_read_for_names_and_ages_alone() -> None:
    assert {name_of(path) for path in FILES if reads_wall_clock(path)} == set(ITS_USES)


class Jumping(NullView):
    """A view under which the controller's wall clock jumps at every event, forward, back, and home again.

    When a migration begins it goes forward or back, so that its end is dated by a clock that is wrong.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = dict.fromkeys((HOUR_S, -HOUR_S, 0), 0)
        self._hours = cycle(self.looks)
        self._of_migrations = cycle((HOUR_S, -HOUR_S))
        self._hour_s = 0
        honest_s, honest_ns = time.time, time.time_ns

        def shown_s() -> float:
            self.looks[self._hour_s] += 1
            return honest_s() + self._hour_s

        def shown_ns() -> int:
            self.looks[self._hour_s] += 1
            return honest_ns() + self._hour_s * S

        monkeypatch.setattr(time, "time", shown_s)
        monkeypatch.setattr(time, "time_ns", shown_ns)

    def event(self, event: Event) -> None:
        moves = (event.source, event.phase) == ("migration", "begin")
        self._hour_s = next(self._of_migrations if moves else self._hours)


@pytest.mark.lab
def test_a_controller_whose_wall_clock_jumps_judges_and_orders_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [
        {"fault": "pause", "options": {"duration_s": 0.5}},
        {"fault": "migrate"},
        {"fault": "reset"},
        {"fault": "slow-link", "options": {"duration_s": 0.2}},
        {"fault": "migrate"},
    ]
    spec = make_spec({"nemesis": faults, "storage": {"write_latency_ms": 20}})
    with monkeypatch.context() as jumping:
        view = Jumping(jumping)
        begin_ns = time.monotonic_ns()
        outcome = asyncio.run(run_test(spec, tmp_path, view=view))
        end_ns = time.monotonic_ns()
    assert all(view.looks.values()), view.looks
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results
    assert judge_run(outcome.run_dir) == outcome.results

    events = list(read_events(outcome.run_dir / "events.jsonl"))
    times = [event.time_ns for event in events if (event.source, event.phase) != ("migration", "stop")]
    times = [time_ns for time_ns in times if time_ns not in {move["end_ns"] for move in migrations(outcome)}]
    assert times == sorted(times)
    assert begin_ns <= times[0] <= times[-1] <= end_ns
    for move in migrations(outcome):
        assert move["begin_ns"] <= move["stopped_ns"] <= move["end_ns"]
        assert move["in_flight"] > 0

    history = read_journal(outcome.run_dir / "history.blk").history
    assert (history.start <= history.finish).all()
    done = history.finish[history.finish != PENDING]
    assert (np.diff(done) >= 0).all()
    assert done.max() - history.start.min() < end_ns - begin_ns


def migrations(outcome):
    return outcome.results["migrations"]


@pytest.mark.parametrize("jump_s", [0, HOUR_S, -HOUR_S, 6, -1])
def test_an_event_of_the_hypervisor_is_dated_by_its_age_or_by_its_arrival(jump_s: int) -> None:
    stamped_ns, age_ns, now_ns = 1_800_000_000 * S + 5000, 3_000_000, 77 * S
    stamp = {"seconds": stamped_ns // S, "microseconds": stamped_ns % S // 1000}
    found = happened_ns(stamp, stamped_ns + age_ns + jump_s * S, now_ns)
    assert found == (now_ns if jump_s else now_ns - age_ns)


@pytest.mark.parametrize(("jump_s", "age_s"), [(0, 0.25), (HOUR_S, 0.0), (-HOUR_S, 0.0)])
def test_a_packet_is_dated_by_its_age_or_by_its_arrival(
    monkeypatch: pytest.MonkeyPatch, jump_s: int, age_s: float
) -> None:
    class Wire:
        def recvmsg(self, size: int, room: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:
            extra = (echo.socket.SOL_SOCKET, echo.SO_TIMESTAMPNS, echo.TIMESPEC.pack(1_800_000_000, 0))
            return b"packet", [extra], 0, None

    monkeypatch.setattr(echo.time, "time", lambda: 1_800_000_000.25 + jump_s)
    monkeypatch.setattr(echo.time, "monotonic", lambda: 77.0)
    assert echo.receive(Wire()) == (b"packet", 77.0 - age_s)
