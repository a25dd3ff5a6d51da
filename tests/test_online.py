"""The online checks agree with the batch check at every prefix, and keep little."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import numpy as np
import pytest
from histories import FAIL, INFO, OK, Op, atomic, flush, history, read, write

from jepsen_blk.checker.online import NO_BOOT, Alarm, OnlineChecker, Operation
from jepsen_blk.checker.open_clusters import begun_twice
from jepsen_blk.checker.reference import check_slowly
from jepsen_blk.checker.windows import WindowChecker
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import FOREIGN, PENDING, PHANTOM, TORN, F, Fence, History
from jepsen_blk.history.rows import unmarked
from jepsen_blk.stamp import SEQUENCE_BITS

try:
    from jepsen_blk.checker.compiled.online import CompiledChecker
except ImportError:  # numba is not installed
    IN_WINDOWS = [WindowChecker]
else:
    IN_WINDOWS = [WindowChecker, CompiledChecker]
ALL = [OnlineChecker, *IN_WINDOWS]


def small(seed: int, most: int = 16) -> tuple[list[Op], list[Fence]]:
    """A history of a few blocks, of values that are mostly plausible, in order of report."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        made = atomic(seed, ops=rng.randrange(6, 40), blocks=rng.randrange(1, 3), info=0.15)
        names = ("f", "value", "start", "finish", "block", "outcome")
        columns = [getattr(made, name).tolist() for name in names]
        ops = [
            Op(F(f), v, s, None if e == PENDING else e, b, o)
            for f, v, s, e, b, o in zip(*columns, strict=True)
        ]
        values = sorted({op.value for op in ops})
        for _ in range(rng.randrange(2)):
            place = rng.choice([i for i, op in enumerate(ops) if op.f == F.READ])
            ops[place] = ops[place]._replace(value=rng.choice(values))
        span = 900
    else:
        count, span = rng.randrange(2, most), 24
        ops = []
        for number in range(1, count + 1):
            start = rng.randrange(span)
            finish = start + rng.randrange(8)
            block = rng.choice([0, 0, 0, 1])
            if rng.random() < 0.5:
                outcome = rng.choice([OK, OK, OK, OK, INFO, FAIL])
                shown = None if outcome is INFO and rng.random() < 0.5 else finish
                if rng.random() < 0.02:  # a value that another write may have too, at a time of its own
                    start, finish, number = 100 + number, 110 + number, 1
                ops.append(Op(F.WRITE, number, start, shown, block, outcome, rng.choice([0, 0, 1])))
            else:
                value = rng.randrange(-3 if rng.random() < 0.1 else 0, count + 1)
                ops.append(Op(F.READ, value, start, finish, block, rng.choice([OK, OK, OK, INFO])))
    late = rng.choice([1, 1, 20])  # several queues are not reported in order of completion
    ops.sort(key=lambda op: (reported_at(op) + rng.randrange(late), rng.random()))
    fences = [Fence(rng.randrange(span), rng.randrange(2)) for _ in range(rng.choice([0, 0, 1, 2]))]
    return ops, fences


def reported_at(op: Op) -> int:
    """An operation that never completed is given up some time after its start."""
    return op.start + 30 if op.finish is None else op.finish


def as_row(op: Op, boot: int | None = None) -> Operation:
    finish = PENDING if op.finish is None else op.finish
    return Operation(
        op.f, op.outcome, op.boot if boot is None else boot, op.block, op.value, op.start, finish
    )


def begun(op: Op) -> Op:
    """The operation as it is known while it is in flight."""
    return op._replace(finish=None, outcome=INFO, boot=op.boot if op.outcome == INFO else NO_BOOT)


def bad(found: History, deadline: Deadline) -> bool:
    bad_reads, conflicts = check_slowly(found, deadline)
    values = found.value[found.f == F.WRITE].tolist()
    return bool(bad_reads or conflicts or len(set(values)) < len(values))


def adopted(ops: list[Op]) -> list[Op]:
    """What a lost tail may hold: a write for each value that was read and that nothing wrote."""
    written = {op.value for op in ops if op.f == F.WRITE}
    found: dict[int, Op] = {}
    for op in ops:
        if op.f == F.READ and op.outcome == OK and op.value > 0 and op.value not in written:
            found.setdefault(op.value, write(op.value, -1, None, op.block, outcome=INFO, boot=NO_BOOT))
    return list(found.values())


def horizons(ops: list[Op], rng: random.Random) -> list[tuple[int, list[Op]]]:
    """For each prefix a horizon that its rest keeps, and what of the rest began before it."""
    found, last = [], -1
    for i in range(1, len(ops) + 1):
        rest = ops[i:]
        greatest = min((reported_at(op) if op.finish is None else op.finish for op in rest), default=1 << 40)
        last = max(last, rng.choice([greatest, rng.randint(0, greatest)]))
        found.append((last, [op for op in rest if op.start < last]))
    return found


@pytest.mark.parametrize("deadline", list(Deadline))
@pytest.mark.parametrize("tail", ["whole", "lost"])
def test_fails_at_the_same_prefix_as_the_batch_check(deadline: Deadline, tail: str) -> None:
    failed = 0
    for seed in range(250):
        ops, fences = small(seed)
        online = OnlineChecker(deadline, fences, open_boots=(0,) if tail == "lost" else ())
        for i, (horizon, in_flight) in enumerate(horizons(ops, random.Random(seed)), 1):
            alarms = online.feed([as_row(ops[i - 1])], horizon, [as_row(begun(op)) for op in in_flight])
            expected = bad(history(prefix(ops[:i], in_flight, tail), fences), deadline)
            assert bool(alarms) == expected, (seed, i, ops[:i], fences, alarms)
            if alarms:
                failed += 1
                break
    assert 40 < failed < 210


def prefix(ops: list[Op], in_flight: list[Op], tail: str) -> list[Op]:
    """What the batch check is given: what was reported, what is known to be in flight, what was lost."""
    known = ops + [begun(op) for op in in_flight if op.f == F.WRITE]
    return known + (adopted(known) if tail == "lost" else [])


@pytest.mark.parametrize("kind", IN_WINDOWS)
@pytest.mark.parametrize("deadline", list(Deadline))
@pytest.mark.parametrize("tail", ["whole", "lost"])
def test_windows_of_any_size_fail_where_the_batch_check_does(
    kind: type, deadline: Deadline, tail: str
) -> None:
    failed = 0
    for seed in range(40):
        ops, fences = small(seed)
        rest = horizons(ops, random.Random(seed))
        for size in {1, 2, 5, len(ops) // 2 + 1, len(ops)}:
            windows = kind(deadline, fences, open_boots=(0,) if tail == "lost" else ())
            for low in range(0, len(ops), size):
                end = min(low + size, len(ops))
                horizon, in_flight = rest[end - 1]
                alarms = windows.feed(history(ops[low:end]), horizon, history(map(begun, in_flight)))
                expected = bad(history(prefix(ops[:end], in_flight, tail), fences), deadline)
                assert bool(alarms) == expected, (seed, size, low, ops[:end], fences, alarms)
                if alarms:
                    failed += 1
                    break
    assert 20 < failed < 180


def feed_long(checker: Any, ops: int, window: int) -> int:
    """Feed a healthy history of 8 blocks, nothing begun before the horizon left; return the most kept."""
    made = atomic(3, ops=ops, blocks=8, info=0)
    least = np.append(np.minimum.accumulate(made.start[::-1])[::-1], PENDING)  # start of what is to come
    most = 0
    for low in range(0, len(made), window):
        part = unmarked(made, np.arange(low, min(low + window, len(made))))
        columns = [getattr(part, name).tolist() for name in Operation._fields]
        rows = map(Operation, *columns) if isinstance(checker, OnlineChecker) else part
        assert not checker.feed(rows, int(least[low + len(part)]))
        most = max(most, checker.kept)
    return most


@pytest.mark.parametrize("kind", ALL)
def test_what_is_kept_does_not_grow_with_a_clean_history(kind: type) -> None:
    short, long = (feed_long(kind(Deadline.FENCE, open_boots=(0,)), ops, 50) for ops in (1000, 8000))
    assert long < 1.3 * short < 100


def feed(checker: Any, ops: list[Op], horizon: int, in_flight: list[Op]) -> list[str]:
    """Feed a window in the form that the checker takes; return the kinds of all alarms, each once."""
    flying = list(map(begun, in_flight))
    if isinstance(checker, OnlineChecker):
        checker.feed(map(as_row, ops), horizon, map(as_row, flying))
    else:
        checker.feed(history(ops), horizon, history(flying))
    return list(dict.fromkeys(alarm.kind for alarm in checker.alarms))


def fed(
    kind: type, *windows: tuple[list[Op], int], in_flight: list[Op] | None = None, at: int = 0
) -> list[str]:
    """Kinds of the alarms after windows of operations, each with its horizon."""
    checker = kind(Deadline.FENCE, open_boots=(0,))
    for number, (ops, horizon) in enumerate(windows):
        found = feed(checker, ops, horizon, (in_flight or []) if number == at else [])
    return found


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
    assert begun_twice(history([write(1, 5, 9), write(1, 5, 9), write(2, 5, 9)])).tolist() == [False] * 3


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
