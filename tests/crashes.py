"""Histories with power losses for tests: random ones, simulated ones, and by brute force."""

from __future__ import annotations

import random
from functools import cache
from typing import NamedTuple

import numpy as np
from histories import FAIL, INFO, OK, Op, history

from jepsen_blk.checker.effect import closing_times
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import INITIAL, F, Fence, History


class _Step(NamedTuple):
    is_write: bool
    value: int
    start: int
    finish: int
    optional: bool
    durable: tuple[bool, ...]
    """Whether it obliges each crash, if it took effect in the era before it."""


def survivable_blocks(given: History, deadline: Deadline) -> dict[int, bool]:
    """Search, block by block, for an order and for survivors of each crash that explain every read.

    At a crash every content is tried that the block had since the last durable write of the era took effect.
    """
    return {int(block): _search(given, int(block), deadline) for block in np.unique(given.block)}


def _steps(given: History, block: int, deadline: Deadline, crashes: list[int]) -> list[_Step]:
    flushes = [
        (int(given.start[row]), int(given.finish[row]))
        for row in np.flatnonzero((given.f == F.FLUSH) & (given.outcome == OK))
    ]
    steps = []
    for row in np.flatnonzero((given.block == block) & (given.f != F.FLUSH)):
        outcome, start, finish = given.outcome[row], int(given.start[row]), int(given.finish[row])
        value, is_write = int(given.value[row]), bool(given.f[row] == F.WRITE)
        if outcome == FAIL or (not is_write and outcome != OK):
            continue
        if outcome == INFO:
            finish = int(closing_times(given, np.array([row]), deadline)[0])
        cut = any(start <= crash <= finish for crash in crashes)
        if cut and not is_write:
            writes = np.flatnonzero((given.f == F.WRITE) & (given.value == value) & (given.block == block))
            seen = [w for w in writes if given.start[w] <= finish and given.outcome[w] != FAIL]
            if value != INITIAL and not seen:  # it saw what nothing wrote, whatever the era
                steps.append(_Step(False, value, start, start, False, ()))
            continue
        durable = tuple(
            outcome == OK
            and finish < crash
            and (value in given.fua or any(finish < begun and done < crash for begun, done in flushes))
            for crash in crashes
        )
        steps.append(_Step(is_write, value, start, finish, bool(outcome == INFO or cut), durable))
    return steps


def _search(given: History, block: int, deadline: Deadline) -> bool:
    crashes = sorted({crash.time_ns for crash in given.crashes})
    steps = _steps(given, block, deadline, crashes)

    @cache
    def reach(done: int, era: int, content: int, survivors: frozenset[int]) -> bool:
        left = [i for i in range(len(steps)) if not done >> i & 1]
        if not left:
            return True
        crash = crashes[era] if era < len(crashes) else None
        over = crash is not None and all(steps[i].finish >= crash for i in left)
        if over and any(reach(done, era + 1, value, frozenset([value])) for value in survivors):
            return True
        for i in left:
            step = steps[i]
            if any(steps[j].finish < step.start for j in left):
                continue
            if step.is_write and step.optional and reach(done | 1 << i, era, content, survivors):
                return True
            if crash is not None and step.start > crash:
                continue
            if not step.is_write:
                if step.value == content and reach(done | 1 << i, era, content, survivors):
                    return True
                continue
            obliges = crash is not None and step.durable[era]
            after = frozenset([step.value]) | (frozenset() if obliges else survivors)
            if reach(done | 1 << i, era, step.value, after):
                return True
        return False

    return reach(0, 0, INITIAL, frozenset([INITIAL]))


def tiny(seed: int) -> History:
    """A few operations on one or two blocks around crashes, with ties; reads are mostly plausible."""
    rng = random.Random(seed)
    count = rng.randint(3, 10)
    span = rng.choice([12, 20, 40, 60])
    blocks = rng.choice([[0], [0, 0, 1]])
    crashes = [rng.randint(2, span) for _ in range(rng.choice([1, 1, 2]))]
    ops: list[Op] = []
    for number in range(1, count + 1):
        start = rng.randint(0, span)
        finish = start + rng.randint(0, 6)
        block = rng.choice(blocks)
        kind = rng.random()
        if kind < 0.42:
            outcome = rng.choice([OK, OK, OK, OK, INFO, FAIL])
            shown = None if outcome is INFO and rng.random() < 0.5 else finish
            fua = rng.random() < 0.25
            ops.append(Op(F.WRITE, number, start, shown, block, outcome, rng.choice([0, 0, 1]), fua=fua))
        elif kind < 0.58:
            ops.append(Op(F.FLUSH, 0, start, finish, outcome=rng.choice([OK, OK, INFO])))
        else:
            ops.append(Op(F.READ, -9, start, finish, block))
    written = [op for op in ops if op.f == F.WRITE]
    for place, op in enumerate(ops):
        if op.f == F.READ:
            near = [w.value for w in written if w.block == op.block and w.start <= (op.finish or 0)]
            value = rng.choice([INITIAL, *near, *near]) if rng.random() < 0.97 else rng.randint(-3, count)
            ops[place] = op._replace(value=value)
    fences = [Fence(rng.randint(0, span), rng.choice([0, 1])) for _ in range(rng.choice([0, 0, 1]))]
    return history(ops, fences, crashes=crashes)


def crowded(seed: int) -> History:
    """One block, writes and reads that overlap for long, a flush or FUA, a crash, and then one read."""
    rng = random.Random(seed)
    writes = rng.randint(2, 4)
    ops: list[Op] = []
    for number in range(1, writes + 1):
        start = rng.randint(0, 12)
        outcome, fua = rng.choice([OK, OK, OK, INFO]), rng.random() < 0.3
        ops.append(Op(F.WRITE, number, start, start + rng.randint(1, 9), outcome=outcome, fua=fua))
    for _ in range(rng.randint(0, 3)):
        seen = rng.choice(ops[:writes])
        start = seen.start + rng.randint(0, 12)
        ops.append(Op(F.READ, seen.value, start, start + rng.randint(0, 6)))
    if rng.random() < 0.6:
        start = rng.randint(4, 20)
        ops.append(Op(F.FLUSH, 0, start, start + rng.randint(0, 6)))
    crash = rng.randint(18, 30)
    ops.append(Op(F.READ, rng.randint(0, writes), crash + 1, crash + 2))
    return history(ops, [Fence(rng.randint(4, 24))], crashes=[crash])


def surrounded(seed: int) -> History:
    """1 and 2 overlap the time in which 3 held the block, 2 is durable, and 1 survives; all of it roughly."""
    rng = random.Random(seed)
    crash = rng.randint(22, 60)

    def about(op: Op) -> Op:
        start = max(0, op.start + rng.randint(-3, 3))
        return op._replace(start=start, finish=max(start, (op.finish or 0) + rng.randint(-3, 3)))

    ops = [
        about(Op(F.WRITE, 3, 3, 7)),
        about(Op(F.READ, 3, 21, 22)),
        about(Op(F.WRITE, 1, 5, 13, outcome=rng.choice([OK, INFO]))),
        about(Op(F.WRITE, 2, 8, 33, fua=rng.random() < 0.8)),
        Op(F.READ, rng.choice([1, 1, 2, 3]), crash + 1, crash + 2),
    ]
    return history(ops, [Fence(rng.randint(10, 24))], crashes=[crash])


def simulated(seed: int, ops: int, blocks: int, forgets: bool = False) -> History:
    """Simulate a storage with a volatile cache that loses power three times; every block is read after each.

    At a power loss each block falls back to any content that it had since its last durable write, or, if the
    storage `forgets` flushes, to any that it had since the crash before.
    """
    rng = random.Random(seed)
    done: list[Op] = []
    contents = {block: [INITIAL] for block in range(blocks)}
    acked: dict[int, int] = dict.fromkeys(range(blocks), 0)
    crashes: list[int] = []
    now = 0
    for number in range(1, ops + 1):
        now += rng.randint(2, 10)
        block, draw = rng.randrange(blocks), rng.random()
        start, finish = now - rng.randint(0, 1), now + rng.randint(0, 1)
        if draw < 0.5:
            fua = rng.random() < 0.1
            contents[block].append(number)
            acked[block] = len(contents[block]) - 1
            if fua and not forgets:
                contents[block], acked[block] = contents[block][-1:], 0
            done.append(Op(F.WRITE, number, start, finish, block, fua=fua))
        elif draw < 0.55:
            done.append(Op(F.FLUSH, 0, start, finish))
            if not forgets:
                contents = {block: held[acked[block] :] for block, held in contents.items()}
                acked = dict.fromkeys(acked, 0)
        else:
            done.append(Op(F.READ, contents[block][-1], start, finish, block))
        if number % (ops // 3) == 0 and len(crashes) < 3:
            now += 10
            crashes.append(now)
            contents = {block: [rng.choice(held)] for block, held in contents.items()}
            acked = dict.fromkeys(acked, 0)
            for block in range(blocks):
                now += 5
                done.append(Op(F.READ, contents[block][-1], now, now + 1, block))
    return history(done, crashes=crashes)
