"""Between the windows of an online check: late reports, writes in flight, fences, equal stamps."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from histories import FAIL, INFO, Op, flush, history, read, write
from online_rig import ALL, IN_WINDOWS, as_row, fed, feed

from jepsen_blk.checker.online import NO_BOOT, Alarm, OnlineChecker
from jepsen_blk.checker.open_clusters import begun_twice
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import FOREIGN, PHANTOM, TORN, Fence
from jepsen_blk.stamp import SEQUENCE_BITS


@pytest.mark.parametrize("kind", ALL)
def test_a_read_that_ends_as_its_late_reported_write_begins_is_concurrent_with_it(kind: type) -> None:
    early = ([read(1, 0, 5)], 0)
    assert fed(kind, early, ([write(1, 5, 9)], 0)) == []
    assert fed(kind, early, ([write(1, 6, 9)], 0)) == ["future-read"]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("seen", "later", "bad"),
    [
        (read(1, 50, 60), [write(2, 0, 10), read(2, 65, 66)], True),
        (read(1, 10, 60), [write(2, 0, 10), read(2, 65, 66)], False),
        (read(1, 0, 5), [write(2, 10, 20), read(1, 30, 35)], True),
        (read(1, 0, 11), [write(2, 10, 20), read(1, 30, 35)], False),
    ],
    ids=["begun late", "begun in time", "ended early", "ended in time"],
)
def test_what_a_read_saw_early_counts_for_the_write_reported_later(
    kind: type, seen: Op, later: list[Op], bad: bool
) -> None:
    found = fed(kind, ([seen], 0), ([write(1, 0, 100), *later], 0))
    assert found == (["conflict"] if bad else [])


def test_a_fence_closes_a_write_whose_boot_was_known_only_from_its_report() -> None:
    checker = OnlineChecker(Deadline.FENCE)
    lost = write(1, 0, None, outcome=INFO)
    checker.feed(map(as_row, [write(2, 10, 20), read(2, 15, 18)]), 24, [as_row(lost, NO_BOOT)])
    checker.feed([as_row(lost)], 24)
    checker.fence(Fence(5))
    assert len(checker.feed([as_row(read(1, 30, 35))], 40)) == 1


W = write(1, 10, 15)
ALARMS: list[tuple[list[Op], Alarm]] = [
    ([read(TORN, 20, 25)], Alarm("torn", 0, TORN)),
    ([read(FOREIGN, 20, 25)], Alarm("foreign", 0, FOREIGN)),
    ([read(PHANTOM, 20, 25)], Alarm("phantom", 0, PHANTOM)),
    ([read(2 << SEQUENCE_BITS | 1, 20, 25)], Alarm("phantom", 0, 2 << SEQUENCE_BITS | 1)),
    ([W, read(1, 20, 25, block=3)], Alarm("misdirected", 3, 1)),
    ([read(1, 20, 25, block=3), W], Alarm("misdirected", 3, 1)),
    ([W, read(1, 0, 9)], Alarm("future-read", 0, 1)),
    ([read(1, 0, 9), W], Alarm("future-read", 0, 1)),
    ([read(1, 20, 25), W._replace(outcome=FAIL)], Alarm("aborted-read", 0, 1)),
    ([W, write(1, 20, 25, block=3)], Alarm("twice", 3, 1)),
    ([W, write(2, 20, 25), read(2, 30, 35), read(1, 40, 45)], Alarm("conflict", 0, 1)),
    ([W, read(0, 16, 20)], Alarm("conflict", 0, 1)),
]


@pytest.mark.parametrize(("ops", "alarm"), ALARMS)
def test_an_alarm_names_its_kind_its_block_and_the_value(ops: list[Op], alarm: Alarm) -> None:
    checker = OnlineChecker(Deadline.FENCE, open_boots=(0,))
    for op in ops[:-1]:
        assert not checker.feed([as_row(op)], 0)
    assert checker.feed([as_row(ops[-1])], 0) == [alarm]


def test_what_ended_at_the_very_time_is_concurrent() -> None:
    checker = OnlineChecker(Deadline.FENCE, open_boots=(0,))
    for op in (read(1, 0, 10), W, write(2, 15, 20), read(1, 20, 25), read(0, 0, 10)):
        assert not checker.feed([as_row(op)], 0)


@pytest.mark.parametrize("kind", ALL)
def test_a_read_before_its_write_is_reported_to_have_failed_or_written_elsewhere_is_bad(kind: type) -> None:
    early = ([read(1, 0, 5)], 0)
    assert fed(kind, early, ([write(1, 0, 9, outcome=FAIL)], 0)) == ["aborted-read"]
    assert fed(kind, early, ([write(1, 0, 9, block=1)], 0)) == ["misdirected"]
    assert fed(kind, early, ([read(1, 6, 9, block=1)], 0)) == ["misdirected"]


@pytest.mark.parametrize("kind", ALL)
def test_two_writes_of_a_value_are_told_in_one_window_in_two_and_in_flight(kind: type) -> None:
    one, other = write(1, 0, 9), write(1, 20, 29)
    assert fed(kind, ([one, other], 0)) == ["twice"]
    assert fed(kind, ([one], 0), ([write(2, 12, 13)], 0), ([other], 0)) == ["twice"]
    assert fed(kind, ([one], 0), ([write(2, 12, 13), other], 0)) == ["twice"]
    assert fed(kind, ([one], 0), in_flight=[other]) == ["twice"]
    assert fed(kind, ([write(2, 0, 3)], 0), in_flight=[one, other]) == ["twice"]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("start", [40, 10])
def test_a_write_in_flight_begins_when_it_did_though_it_was_read_before(
    kind: type, start: int, at: int
) -> None:
    early, none, later = ([read(1, 0, 60)], 0), ([], 0), ([write(2, 0, 10), read(2, 65, 66)], 0)
    found = fed(kind, early, none, later, in_flight=[write(1, start, 99)], at=at)
    assert found == (["conflict"] if start == 40 else [])


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(("fenced", "kinds"), [(5, ["conflict"]), (25, [])])
def test_a_fence_closes_what_is_in_flight_and_what_was_reported(
    kind: type, fenced: int, kinds: list[str]
) -> None:
    lost = write(1, 0, None, outcome=INFO)
    for reported, known in product((True, False), repeat=2):
        checker = kind(Deadline.FENCE, [Fence(fenced)] if known else ())
        flying = [] if reported else [lost]
        first = [write(2, 10, 20), read(2, 15, 18), *([lost] if reported else [])]
        assert feed(checker, first, 24, flying) == []
        if not known:
            checker.fence(Fence(fenced))
        assert feed(checker, [read(1, 30, 35)], 40, flying) == kinds


@pytest.mark.parametrize("kind", ALL)
def test_a_fence_says_nothing_of_writes_that_were_acknowledged(kind: type) -> None:
    checker = kind(Deadline.FENCE)
    feed(checker, [write(1, 0, 20), write(2, 10, 15)], 0, [])
    checker.fence(Fence(5))
    assert feed(checker, [read(1, 30, 35)], 0, []) == []


@pytest.mark.parametrize("kind", ALL)
def test_a_boot_that_ends_leaves_its_reported_writes_and_other_boots_alone(kind: type) -> None:
    checker = kind(Deadline.FENCE, open_boots=(0, 2))
    feed(checker, [write(1, 0, 5), read(1, 6, 9), read(2 << SEQUENCE_BITS | 1, 6, 9, block=1)], 0, [])
    checker.end_boot(0)
    assert feed(checker, [], 0, []) == []


@pytest.mark.parametrize("kind", ALL)
def test_a_read_of_a_forgotten_value_is_a_conflict_and_of_an_unknown_one_a_phantom(kind: type) -> None:
    checker = kind(Deadline.FENCE)
    assert feed(checker, [write(1, 0, 5), write(2, 10, 15), read(2, 20, 25)], 30, []) == []
    assert feed(checker, [read(1, 40, 45)], 30, []) == ["conflict"]
    assert feed(kind(Deadline.FENCE), [read(1, 40, 45)], 30, []) == ["phantom"]


@pytest.mark.parametrize("kind", ALL)
def test_a_write_read_before_its_report_is_a_phantom_only_once_its_boot_has_ended(kind: type) -> None:
    checker = kind(Deadline.FENCE)
    checker.open_boot(0)
    assert feed(checker, [read(7, 40, 45)], 90, []) == []
    checker.end_boot(0)
    assert checker.alarms == [("phantom", 0, 7)]


@pytest.mark.parametrize("kind", ALL)
def test_after_its_end_a_boot_has_no_writes_left_to_report(kind: type) -> None:
    checker = kind(Deadline.FENCE, open_boots=(0,))
    checker.end_boot(0)
    assert feed(checker, [read(7, 40, 45)], 90, []) == ["phantom"]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("first", "later"),
    [
        ([write(1, 0, None, outcome=INFO), read(1, 10, 15)], read(0, 31, 35)),
        ([write(1, 0, 15), read(1, 10, 15)], read(0, 31, 35)),
        ([write(1, 0, 100), read(1, 20, 100), write(2, 0, 10)], read(2, 110, 115)),
        ([write(1, 0, 100), read(1, 5, 20), write(2, 25, 26)], read(1, 110, 115)),
    ],
    ids=["it happened", "it was acknowledged", "its latest read", "its earliest read"],
)
def test_what_reads_told_of_a_write_outlives_their_window(kind: type, first: list[Op], later: Op) -> None:
    assert fed(kind, (first, 30), ([later], 110)) == ["conflict"]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("first", "later"),
    [
        ([write(1, 0, 10), write(2, 10, 15)], read(1, 40, 45)),
        ([write(1, 0, 10), read(1, 20, 25), write(2, 10, 28)], read(1, 40, 45)),
        ([write(1, 0, 5), write(2, 10, 30)], read(1, 30, 35)),
    ],
    ids=["the latest start", "the latest start but one", "the horizon"],
)
def test_what_ends_at_the_very_time_closes_nothing(kind: type, first: list[Op], later: Op) -> None:
    assert fed(kind, (first, 30), ([later], 50)) == []


@pytest.mark.parametrize("kind", ALL)
def test_a_read_of_the_initial_value_contradicts_a_write_that_is_reported_later(kind: type) -> None:
    early = ([read(0, 40, 45)], 30)
    assert fed(kind, early, ([write(1, 0, 38)], 50)) == ["conflict"]
    assert fed(kind, early, ([write(1, 0, 40)], 50)) == []


@pytest.mark.parametrize("kind", IN_WINDOWS)
def test_a_value_is_awaited_from_its_first_read_to_the_report_of_its_write(kind: type) -> None:
    checker, asked = kind(Deadline.FENCE, open_boots=(0,)), np.array([1, 7, 8])
    feed(checker, [write(1, 0, 5), read(1, 6, 9), read(7, 40, 45)], 0, [])
    assert checker.awaits(asked).tolist() == [False, True, False]
    feed(checker, [write(7, 30, 50)], 0, [])
    assert checker.awaits(asked).tolist() == [False, False, False]


def test_writes_in_flight_that_share_a_value_differ_in_block_or_start() -> None:
    flying = [write(3, 5, 9), write(1, 5, 9), write(2, 5, 9), write(2, 6, 9), write(3, 5, 9, block=1)]
    assert begun_twice(history(flying)).tolist() == [False, False, False, True, True]
    for first in (write(1, 5, 9), write(1, 5, 9, block=4), write(1, 2, 9)):
        assert not begun_twice(history([first, write(2, 5, 9), write(2, 5, 9)])).any()


@pytest.mark.parametrize("kind", ALL)
def test_a_write_in_flight_is_no_more_to_be_read_once_it_was_overtaken(kind: type) -> None:
    overtaken = ([read(1, 5, 6), write(2, 10, 15), read(2, 20, 25)], 30)
    reported, later = ([write(1, 0, 40)], 45), ([read(1, 50, 55)], 60)
    assert fed(kind, overtaken, reported, in_flight=[write(1, 0, 40)]) == []
    assert fed(kind, overtaken, reported, later, in_flight=[write(1, 0, 40)]) == ["conflict"]


@pytest.mark.parametrize("kind", ALL)
def test_a_value_written_again_is_an_alarm_of_the_block_that_it_was_written_to_again(kind: type) -> None:
    checker = kind(Deadline.FENCE)
    feed(checker, [write(1, 0, 9)], 0, [])
    feed(checker, [write(2, 10, 15, block=3), write(1, 20, 29, block=5), write(4, 20, 29, block=7)], 0, [])
    assert {alarm.block for alarm in checker.alarms} == {5}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "op", [read(0, 10, 15, outcome=INFO), flush(10, 15)], ids=["a failed read", "a flush"]
)
def test_what_read_nothing_closes_nothing(kind: type, op: Op) -> None:
    assert fed(kind, ([write(1, 0, 5), op], 30), ([read(1, 40, 45)], 50)) == []


@pytest.mark.parametrize("kind", IN_WINDOWS)
def test_what_was_written_to_other_blocks_is_remembered_beyond_an_alarm(kind: type) -> None:
    checker = kind(Deadline.FENCE)
    assert not checker.feed_around(history([write(1, 0, 5), write(2, 0, 5, block=4)]), 6).size
    stale = [write(3, 10, 15), read(1, 20, 25)]
    assert checker.feed_around(history(stale), 26).tolist() == [0]
    assert not checker.feed_around(history([read(2, 30, 35, block=4)]), 36).size
    assert checker.feed_around(
        history([write(5, 50, 55, block=4), read(2, 60, 65, block=4)]), 66
    ).tolist() == [4]
