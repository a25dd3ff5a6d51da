"""The online checks agree with the batch check at every prefix, and keep little."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from histories import FAIL, INFO, OK, Op, atomic, history, write
from online_rig import ALL, IN_WINDOWS, as_row, begun

from jepsen_blk.checker.online import NO_BOOT, OnlineChecker, Operation
from jepsen_blk.checker.reference import check_slowly
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import PENDING, F, Fence, History
from jepsen_blk.history.rows import unmarked


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
