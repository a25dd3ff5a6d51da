"""The guest's wall clock jumps: proven by its own clocks, healed, and of no consequence for the history."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_stage import GOOD, LiveStage, live_stage

from jepsen_blk.controller import run_test
from jepsen_blk.errors import SpecError
from jepsen_blk.history.record import PENDING, ROW
from jepsen_blk.spec import make_spec
from nemesis.catalogue import make_fault
from nemesis.clock_jump import Stamps
from nemesis.fault import NotProven

S = 10**9


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStage]:
    with live_stage(tmp_path_factory.mktemp("live")) as live:
        yield live


@pytest.mark.lab
@pytest.mark.parametrize(("jump_s", "moved"), [(3600, "+3600."), (-86400, "-86")])
def test_a_guest_whose_wall_clock_jumps_works_on_and_has_it_back(
    live: LiveStage, jump_s: float, moved: str
) -> None:
    before = live.do(live.stage.guest.wall_ahead())
    assert live.outcome("clock-jump", jump_s=jump_s, duration_s=0.1) == GOOD
    assert live.proof().startswith(f"the guest's wall clock moved by {moved}")
    assert "; the history's stamps went on by " in live.proof()
    assert live.proof("healed") == "the guest's wall clock is as before; the guest works on x"
    assert abs(live.do(live.stage.guest.wall_ahead()) - before) < S


@pytest.mark.lab
def test_a_wall_clock_that_was_not_set_has_not_jumped(
    live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spare(ahead_ns: int) -> None: ...

    monkeypatch.setattr(live.stage.guest, "set_wall_ahead", spare)
    over = live.outcome("clock-jump")
    assert (over["proven"], over["healed"]) == (False, True)
    assert "moved by" in over["why"]
    assert over["why"].endswith("not by 3600 s")


@pytest.mark.lab
def test_a_wall_clock_that_is_not_set_back_is_not_healed(
    live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = live.stage.guest
    honest, asked = guest.set_wall_ahead, []

    async def once(ahead_ns: int) -> None:
        asked.append(ahead_ns)
        if len(asked) == 1:
            await honest(ahead_ns)

    monkeypatch.setattr(guest, "set_wall_ahead", once)
    over = live.outcome("clock-jump", duration_s=0.1)
    assert (over["proven"], over["healed"]) == (True, False)
    assert "the guest's wall clock is still +3" in over["why"]
    live.do(honest(asked[-1]))


@pytest.mark.lab
def test_a_verdict_does_not_depend_on_the_guests_wall_clock(tmp_path: Path) -> None:
    jump = {"fault": "clock-jump", "after_s": 0.1, "options": {"duration_s": 0.2}}
    back = {**jump, "options": {"jump_s": -7200, "duration_s": 0.2}}
    during = {"kind": "during", "fault": jump, "items": [{"fault": "migrate"}]}
    schedule = {"kind": "sequence", "items": [back, during, jump]}
    spec = {"schedule": schedule, "storage": {"write_latency_ms": 20}}
    outcome = asyncio.run(run_test(make_spec(spec), tmp_path))
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results
    assert [fault["proven"] and fault["healed"] for fault in outcome.results["faults"]] == [True] * 4


def rows(*times: tuple[int, int]) -> Any:
    made = np.zeros(len(times), ROW)
    made["start"], made["finish"] = zip(*times, strict=True)
    return made


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (rows((111 * S, 112 * S)), "went on by 12.0 s in 0.0 s"),
        (rows((100 * S, 103 * S)), "went on by 3.0 s in 0.0 s"),
        (rows((80 * S, 81 * S)), "went on by 0.0 s, and backward, in 0.0 s"),
        (rows((100 * S, 100 * S + 5), (100 * S, 90 * S)), "and backward"),
        (rows((100 * S, PENDING)), "went on by 0.0 s in 0.0 s"),
        (rows((100 * S, 100 * S)), "went on by 0.0 s in 0.0 s"),
    ],
)
def test_stamps_that_jump_or_stand_still_are_no_proof(after: Any, said: str) -> None:
    stamps = Stamps()
    stamps.look(0, rows((99 * S, 100 * S)))
    stamps.begin()
    stamps.look(0, after)
    with pytest.raises(NotProven, match=said):
        stamps.require_in_order()


def test_stamps_that_go_on_are_seen_to() -> None:
    stamps = Stamps()
    stamps.look(0, rows((99 * S, 100 * S)))
    stamps.begin()
    stamps.look(0, rows((90 * S, 100 * S + 1), (100 * S, 100 * S + S // 2), (100 * S, PENDING)))
    assert stamps.require_in_order() == "the history's stamps went on by 0.5 s in 0.0 s"


@pytest.mark.parametrize("jump_s", [0, 9.9, -9.9, 400 * 86400])
def test_a_jump_that_cannot_be_seen_or_set_is_refused(jump_s: float) -> None:
    with pytest.raises(SpecError, match=r"^nemesis clock-jump: jump_s: "):
        make_fault("clock-jump", {"jump_s": jump_s})
