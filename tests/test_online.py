"""The online checks agree with the batch check at every prefix, and keep little."""

from __future__ import annotations

import random

import pytest
from histories import FAIL, INFO, OK, Op, atomic, history, write

from jepsen_blk.checker.online import NO_BOOT, OnlineChecker, Operation
from jepsen_blk.checker.reference import check_slowly
from jepsen_blk.history.record import PENDING, F, Fence, History
from jepsen_blk.spec import Deadline


def small(seed: int, most: int = 16) -> tuple[list[Op], list[Fence]]:
    """A history of a few blocks, of values that are mostly plausible, in order of report."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        made = atomic(seed, ops=rng.randrange(6, 40), blocks=rng.randrange(1, 3), info=0.15)
        ops = [Op(F(f), v, s, None if e == PENDING else e, b, o)  # fmt: skip
               for f, v, s, e, b, o in zip(*(getattr(made, name).tolist() for name in
               ("f", "value", "start", "finish", "block", "outcome")), strict=True)]  # fmt: skip
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
    ops.sort(key=lambda op: (reported_at(op), rng.random()))
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
            known = ops[:i] + [begun(op) for op in in_flight if op.f == F.WRITE]
            prefix = known + (adopted(known) if tail == "lost" else [])
            expected = bad(history(prefix, fences), deadline)
            assert bool(alarms) == expected, (seed, i, ops[:i], fences, alarms)
            if alarms:
                failed += 1
                break
    assert 40 < failed < 210
