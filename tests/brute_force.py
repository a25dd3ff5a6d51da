"""The oracle of the checker's proof: a search over all orders of a history, without zones or clusters.

The definition, written down once, that the fast rule is held against:

- A history of one block is linearizable iff its operations can be put in a row such that each read returns
  what the last write before it wrote, or the initial value 0 if there is none.
- Precedence is strict: an operation that finished before another started stands before it. One that
  finished at the very time at which another started is concurrent with it.
- A write that certainly failed, a read that did not succeed, and a flush are not in the row.
- An indeterminate write is optional. If it is in the row, it finished at its closing time: never (deadline
  `never`); at the first fence of its boot after its start (`fence`); or at that fence or at its own finish,
  whichever came first (`error`). It is worked out here anew, not by the checker's own effect.py.

There are two searches of this one definition. `linearizable_blocks` takes any history, block by block.
`linearizable_rows` takes thousands of histories of a few operations at once: for each set of operations it
keeps the contents with which some order of that set can end, and a set grows by one operation at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from jepsen_blk.checker.registers import check_registers
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import FOREIGN, INITIAL, PENDING, PHANTOM, TORN, F, Fence, History, Outcome
from jepsen_blk.stamp import SEQUENCE_BITS

MOST_OPS = 7
"""Of `linearizable_rows`: a set of contents (one a write, and the initial value) is a byte."""
BOOTS = 6

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SmallHistories:
    """Many small histories side by side; shapes (ops, histories), history h is on block h."""

    f: Ints
    outcome: Ints
    boot: Ints
    value: Ints
    start: Ints
    finish: Ints
    fences: tuple[Fence, ...]

    def together(self) -> History:
        """Return all of them as one history; row i * histories + h is operation i of history h."""
        ops, histories = self.f.shape
        return History(
            f=self.f.ravel().astype(np.uint8),
            outcome=self.outcome.ravel().astype(np.uint8),
            process=np.repeat(np.arange(ops, dtype=np.int32), histories),
            boot=self.boot.ravel().astype(np.int32),
            block=np.tile(np.arange(histories, dtype=np.int64), ops),
            value=self.value.ravel(),
            start=self.start.ravel(),
            finish=self.finish.ravel(),
            fences=self.fences,
        )

    def alone(self, place: int) -> History:
        """Return one of them as a history of its own."""
        whole = self.together()
        rows = np.arange(place, len(whole), self.f.shape[1])
        names = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")
        return History(**{name: getattr(whole, name)[rows] for name in names}, fences=self.fences)


def small_histories(seed: int, histories: int, ops: int = 6) -> SmallHistories:
    """Make random histories: what a register might return, spoiled in some, with many equal stamps.

    They differ in how crowded they are, how many of their writes are indeterminate and how many of their
    reads are spoiled (by another value of the block or of its neighbour, or by no value of any write).
    """
    rng = np.random.default_rng(seed)
    shape = ops, histories
    horizon, longest = rng.integers(3, 24, histories), rng.integers(1, 10, histories)
    f = np.where(rng.random(shape) < 0.02, F.FLUSH, rng.integers(0, 2, shape))
    write = f == F.WRITE
    info = rng.random(shape) < rng.choice([0.05, 0.3, 0.7], histories)
    fail = rng.random(shape) < 0.08
    outcome = np.where(fail, Outcome.FAIL, np.where(info & (write | fail), Outcome.INFO, Outcome.OK))
    start = rng.integers(0, horizon, shape)
    finish = start + rng.integers(0, longest, shape)
    boot = rng.integers(0, BOOTS, shape)
    fences = tuple(
        Fence(int(time), place) for place in range(BOOTS) for time in rng.integers(1, 20, rng.integers(0, 3))
    )
    own = boot << SEQUENCE_BITS | (np.arange(ops)[:, None] * histories + np.arange(histories) + 1)
    own = np.where(write, own, INITIAL)
    point = (start + rng.random(shape) * (finish - start)).astype(np.float64)
    open_ = write & (outcome == Outcome.INFO)
    point = np.where(open_, start + rng.random(shape) * rng.choice([3, 20], histories), point)
    lands = write & np.where(open_, rng.random(shape) < 0.6, outcome == Outcome.OK)
    value = np.where(write, own, _contents(own, lands, point))
    spoiled = ~write & (rng.random(shape) < rng.choice([0.1, 0.6, 0.9], histories))
    value = np.where(spoiled, own[rng.integers(0, ops, shape), np.arange(histories)], value)
    stray = ~write & (rng.random(shape) < 0.01)
    nothing = rng.choice([PHANTOM, TORN, FOREIGN, 1 << 30], shape)
    value = np.where(stray, np.where(rng.random(shape) < 0.5, nothing, np.roll(own, 1, axis=1)), value)
    finish = np.where((outcome == Outcome.INFO) & (rng.random(shape) < 0.5), PENDING, finish)
    return SmallHistories(f, outcome, boot, value, start, finish, fences)


def _contents(own: Ints, lands: Bools, point: npt.NDArray[np.float64]) -> Ints:
    """Return what a register holds at each operation's point, if the writes that land do so at theirs."""
    content = np.full(own.shape, INITIAL, dtype=np.int64)
    latest = np.full(own.shape, -1.0)
    for i in range(len(own)):
        newer = lands[i] & (point[i] < point) & (point[i] > latest)
        content = np.where(newer, own[i], content)
        latest = np.where(newer, point[i], latest)
    return content


def last_moments(given: SmallHistories, deadline: Deadline) -> Ints:
    """Return when each operation has ended or was closed; PENDING: it never is."""
    indeterminate = given.outcome == Outcome.INFO
    moment = np.where(indeterminate, PENDING, given.finish)
    if deadline is Deadline.NEVER:
        return moment
    for fence in given.fences:
        closed = indeterminate & (given.boot == fence.boot) & (given.start < fence.time_ns)
        moment = np.where(closed, np.minimum(moment, fence.time_ns), moment)
    if deadline is Deadline.ERROR:
        moment = np.where(indeterminate, np.minimum(moment, given.finish), moment)
    return moment


def linearizable_rows(given: SmallHistories, deadline: Deadline) -> Bools:
    """Search all orders of each of the histories at once; returns (histories,)."""
    ops, histories = given.f.shape
    finish = last_moments(given, deadline)
    write = given.f == F.WRITE
    optional = write & (given.outcome == Outcome.INFO)
    required = (given.outcome == Outcome.OK) & (given.f != F.FLUSH)
    bits = (1 << np.arange(ops)).astype(np.uint8)[:, None]
    needed = np.bitwise_or.reduce(np.where(required, bits, 0).astype(np.uint8))
    before = np.zeros((ops, histories), dtype=np.uint8)
    """Of each operation the required ones that must have been placed."""
    after = np.zeros((ops, histories), dtype=np.uint8)
    """Of each operation those that must not have been placed."""
    sees = np.where(given.value == INITIAL, 1, 0).astype(np.uint8)
    """Of each read the content it returned; content 0 is the initial value, i + 1 that of write i."""
    for i in range(ops):
        before |= np.where((finish[i] < given.start) & required[i], bits[i], 0).astype(np.uint8)
        after |= np.where(finish < given.start[i], bits[i], 0).astype(np.uint8)
        of_i = write[i] & (given.value == given.value[i])
        sees |= np.where(of_i, np.uint8(2 << i), 0).astype(np.uint8)
    ends = np.zeros((1 << ops, histories), dtype=np.uint8)
    ends[0] = 1
    fine = np.zeros(histories, dtype=np.bool_)
    for placed in range(1 << ops):
        now = ends[placed]
        fine |= (now != 0) & (needed & ~np.uint8(placed) == 0)
        for i in range(ops):
            if placed >> i & 1:
                continue
            may = (before[i] & ~np.uint8(placed) == 0) & (after[i] & np.uint8(placed) == 0)
            may &= required[i] | optional[i]
            then = np.where(write[i], (now != 0) * np.uint8(2 << i), now & sees[i])
            ends[placed | 1 << i] |= then * may
    return fine


def mismatches(given: SmallHistories, deadline: Deadline, fine: Bools) -> list[int]:
    """Return the places of the histories that the batch check judges otherwise than the search did."""
    whole = given.together()
    findings = check_registers(whole, deadline)
    passed = np.ones(len(fine), dtype=np.bool_)
    passed[findings.conflicts] = False
    for rows in findings.bad_reads.values():
        passed[whole.block[rows]] = False
    return np.flatnonzero(passed != fine).tolist()


def contradicts(whole: History, rows: Sequence[int], deadline: Deadline) -> bool:
    """Tell whether these rows alone are no register; a read counts only beside its write, if it has one."""
    chosen = list(rows)
    names = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")
    some = replace(whole, **{name: getattr(whole, name)[chosen] for name in names}, line=None)
    written = whole.value[whole.f == F.WRITE]
    there = some.value[some.f == F.WRITE]
    reads = some.value[some.f == F.READ]
    if (np.isin(reads, written) & ~np.isin(reads, there)).any():
        return False
    return not all(linearizable_blocks(some, deadline).values())


def linearizable_blocks(given: History, deadline: Deadline) -> dict[int, bool]:
    """Search all orders of each block of a history; for a dozen operations a block."""
    return {int(block): _linearizable(given, int(block), deadline) for block in np.unique(given.block)}


def _linearizable(given: History, block: int, deadline: Deadline) -> bool:
    ops: list[tuple[bool, int, int, int, bool]] = []
    for row in np.flatnonzero(given.block == block).tolist():
        f, outcome, start, finish = (
            int(column[row]) for column in (given.f, given.outcome, given.start, given.finish)
        )
        if f == F.FLUSH or outcome == Outcome.FAIL or (f == F.READ and outcome != Outcome.OK):
            continue
        if outcome == Outcome.INFO:
            own = (fence for fence in given.fences if fence.boot == given.boot[row])
            finish = _closed(start, finish, own, deadline)
        ops.append((f == F.WRITE, int(given.value[row]), start, finish, outcome == Outcome.INFO))
    required = sum(1 << i for i, op in enumerate(ops) if not op[4])

    @cache
    def reach(placed: int, content: int) -> bool:
        if required & ~placed == 0:
            return True
        for i, (is_write, value, start, finish, _) in enumerate(ops):
            others = ((j, op) for j, op in enumerate(ops) if j != i)
            if placed >> i & 1 or any(
                finish < op[2] if placed >> j & 1 else op[3] < start and not op[4] for j, op in others
            ):
                continue
            if (is_write or value == content) and reach(placed | 1 << i, value):
                return True
        return False

    return reach(0, INITIAL)


def _closed(start: int, finish: int, fences: Iterable[Fence], deadline: Deadline) -> int:
    if deadline is Deadline.NEVER:
        return PENDING
    moments = [fence.time_ns for fence in fences if fence.time_ns > start]
    return min([PENDING, *moments] if deadline is Deadline.FENCE else [finish, *moments])
