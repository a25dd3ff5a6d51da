"""The map from guest to host time is right to within what the anchors allow, and never runs backwards."""

import numpy as np
import pytest

from jepsen_blk.history.record import History
from jepsen_blk.report.target_log import TargetLog
from jepsen_blk.report.timebase import fit_timebase

MS = 1_000_000
OFFSET = 5_000_000 * MS


def history(starts: list[int], finishes: list[int], boots: list[int] | None = None) -> History:
    n = len(starts)
    return History(
        f=np.ones(n, np.uint8),
        outcome=np.zeros(n, np.uint8),
        process=np.zeros(n, np.int32),
        boot=np.array(boots or [0] * n, np.int32),
        block=np.arange(n, dtype=np.int64),
        value=np.arange(1, n + 1, dtype=np.int64),
        start=np.array(starts, np.int64),
        finish=np.array(finishes, np.int64),
    )


def log(received: list[int], done: list[int]) -> TargetLog:
    value = np.arange(1, len(received) + 1, dtype=np.int64)
    return TargetLog((), (), (), value, np.array(received, np.int64), np.array(done, np.int64))


def run_with_stop(stop_at: int, length: int, writes: int = 40) -> tuple[History, TargetLog]:
    """Writes every 10 ms of guest time, 2 ms long; the guest stands still for `length` at `stop_at`."""
    starts = [10 * MS * i for i in range(writes)]
    offsets = [OFFSET + (length if start >= stop_at else 0) for start in starts]
    received = [start + offset + MS // 2 for start, offset in zip(starts, offsets, strict=True)]
    done = [start + offset + 3 * MS // 2 for start, offset in zip(starts, offsets, strict=True)]
    return history(starts, [start + 2 * MS for start in starts]), log(received, done)


def test_one_clock_without_a_stop_is_found_to_within_the_slack_of_a_write():
    made, target = run_with_stop(10**18, 0)
    timebase = fit_timebase(made, target)
    assert timebase.aligned
    assert timebase.host(100 * MS) == pytest.approx(100 * MS + OFFSET, abs=MS // 2)


@pytest.mark.parametrize("length_ms", [3, 50, 1200])
def test_a_stop_of_the_guest_shifts_what_comes_after_it_and_nothing_before(length_ms):
    made, target = run_with_stop(195 * MS, length_ms * MS)
    timebase = fit_timebase(made, target)
    assert timebase.host(150 * MS) == pytest.approx(150 * MS + OFFSET, abs=MS // 2)
    assert timebase.host(250 * MS) == pytest.approx(250 * MS + OFFSET + length_ms * MS, abs=MS // 2)


def test_a_known_stop_places_the_boundary_exactly():
    made, target = run_with_stop(195 * MS, 700 * MS)
    timebase = fit_timebase(made, target, stops=[195 * MS + OFFSET])
    assert timebase.host(195 * MS - 1_000) < 195 * MS + OFFSET + MS
    assert timebase.host(195 * MS + 1_000) > 195 * MS + OFFSET + 699 * MS


def test_one_absurd_anchor_changes_nothing():
    made, target = run_with_stop(10**18, 0)
    target.done[20] += 900 * MS
    target.received[20] += 900 * MS
    assert fit_timebase(made, target).host(300 * MS) == pytest.approx(300 * MS + OFFSET, abs=MS // 2)


def test_the_map_never_runs_backwards():
    made, target = run_with_stop(195 * MS, 40 * MS)
    guest = np.arange(0, 400 * MS, MS // 4, dtype=np.int64)
    assert (np.diff(fit_timebase(made, target).hosts(guest)) >= 0).all()


def test_the_map_never_runs_backwards_when_the_guests_clock_gains_on_the_hosts():
    made, target = run_with_stop(195 * MS, -5 * MS)
    guest = np.arange(0, 400 * MS, MS // 4, dtype=np.int64)
    assert (np.diff(fit_timebase(made, target).hosts(guest)) >= 0).all()


def test_each_boot_has_a_clock_of_its_own():
    made = history([0, 10 * MS, 0, 10 * MS], [2 * MS, 12 * MS, 2 * MS, 12 * MS], [0, 0, 1, 1])
    starts = [OFFSET, OFFSET + 10 * MS, 2 * OFFSET, 2 * OFFSET + 10 * MS]
    timebase = fit_timebase(made, log([s + MS // 2 for s in starts], [s + 3 * MS // 2 for s in starts]))
    assert timebase.host(5 * MS, boot=0) == pytest.approx(OFFSET + 5 * MS, abs=MS // 2)
    assert timebase.host(5 * MS, boot=1) == pytest.approx(2 * OFFSET + 5 * MS, abs=MS // 2)


def test_without_a_log_the_map_admits_that_it_is_a_guess():
    made, _ = run_with_stop(10**18, 0)
    timebase = fit_timebase(made, None)
    assert not timebase.aligned
    assert timebase.host(7 * MS) == 7 * MS


@pytest.mark.parametrize("known", [True, False])
def test_a_completion_that_the_guest_saw_only_after_its_stop_does_not_move_the_boundary(known):
    made, target = run_with_stop(195 * MS, 700 * MS)
    made.finish[19] = 260 * MS  # sent at 190 ms, done at the storage before the stop, seen long after it
    stops = [195 * MS + OFFSET] if known else []
    timebase = fit_timebase(made, target, stops)
    assert timebase.host(205 * MS) == pytest.approx(205 * MS + OFFSET + 700 * MS, abs=MS // 2)
    assert timebase.host(190 * MS) == pytest.approx(190 * MS + OFFSET, abs=MS // 2)
