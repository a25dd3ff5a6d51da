"""Several clocks: what contradicts only within their uncertainty is no contradiction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from histories import INFO, Op, atomic, flush, history, read, write

from jepsen_blk.checker.clocks import widen
from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import PENDING, Clock, Fence, History


def on_two_clocks(seed: int, off_by: int) -> History:
    """A healthy history of two boots, the second of which has a clock that is off by so many ns."""
    healthy = atomic(seed, ops=1500, blocks=3, closed=True)
    boot = (healthy.process % 2).astype(np.int32)
    shift = np.where(boot == 1, off_by, 0)
    finish = np.where(healthy.finish == PENDING, PENDING, healthy.finish + shift)
    return replace(healthy, boot=boot, start=healthy.start + shift + 1000, finish=finish + 1000)


@pytest.mark.parametrize("off_by", [-200, 200])
@pytest.mark.parametrize("seed", range(4))
def test_clocks_that_are_off_contradict_unless_their_uncertainty_is_given(seed: int, off_by: int) -> None:
    skewed = on_two_clocks(seed, off_by)
    assert check(skewed).verdict == "fail"
    assert check(replace(skewed, clocks=(Clock(1, 50),))).verdict == "fail"
    for deadline in Deadline:
        assert check(replace(skewed, clocks=(Clock(1, 200),)), deadline).verdict != "fail"


STALE = [write(1, 100, 110), write(2, 120, 130, boot=1), read(1, 140, 150)]


@pytest.mark.parametrize(("uncertainty", "verdict"), [(9, "fail"), (10, "pass")])
def test_an_order_within_the_uncertainty_is_none(uncertainty: int, verdict: str) -> None:
    found = history(STALE, clocks=[Clock(1, uncertainty)])
    assert check(found).deadlines == dict.fromkeys(Deadline, verdict)


def test_only_the_rows_of_that_boot_are_uncertain_and_of_two_clocks_the_worse_counts() -> None:
    assert check(history(STALE, clocks=[Clock(2, 50)])).verdict == "fail"
    assert check(history(STALE, clocks=[Clock(1, 10), Clock(1, 2)])).verdict == "pass"


def test_a_boot_without_uncertainty_stays_certain_beside_one_that_has_some() -> None:
    assert check(history(STALE, clocks=[Clock(0, 0), Clock(1, 10)])).verdict == "pass"
    zombie = [write(1, 99, None, outcome=INFO), write(2, 120, 130), read(2, 140, 150), read(1, 160, 170)]
    assert check(history(zombie, [Fence(100)], clocks=[Clock(1, 10)])).verdict == "fail"


def test_the_history_and_the_lines_named_stay_as_they_are() -> None:
    found = history(STALE, clocks=[Clock(1, 5)])
    (anomaly,) = check(found).anomalies
    assert (anomaly.kind, anomaly.ops) == ("lost-write", (0, 1, 2))
    assert found.start.tolist() == [100, 120, 140]
    assert anomaly.severity_ms == pytest.approx(5e-6)  # 10 ns as stamped, 5 ns for certain


def test_an_operation_is_widened_from_0_to_pending_at_most() -> None:
    wide = widen(history([write(1, 3, 9), write(2, 30, None, outcome=INFO)], clocks=[Clock(0, 5)]))
    assert wide.start.tolist() == [0, 25]
    assert wide.finish.tolist() == [14, PENDING]


@pytest.mark.parametrize(("uncertainty", "verdict"), [(4, "fail"), (5, "pass")])
def test_a_fence_closes_only_what_certainly_began_before_it(uncertainty: int, verdict: str) -> None:
    zombie = [write(1, 95, None, outcome=INFO, boot=1), write(2, 120, 130), read(2, 140, 150)]
    found = history([*zombie, read(1, 160, 170)], [Fence(100, boot=1)], clocks=[Clock(1, uncertainty)])
    assert check(found).verdict == verdict


@pytest.mark.parametrize(("uncertainty", "verdict"), [(9, "fail"), (10, "unknown")])
def test_a_flush_covers_only_what_was_certainly_acknowledged(uncertainty: int, verdict: str) -> None:
    ops: list[Op] = [write(1, 100, 110), flush(120, 130, boot=1), read(0, 310, 320)]
    assert check(history(ops, crashes=[300], clocks=[Clock(1, uncertainty)])).verdict == verdict
