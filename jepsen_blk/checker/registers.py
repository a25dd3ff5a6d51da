"""The batch check: is every block an atomic register? Exact, linear but for one sort, columns only.

Every write has a value of its own and every read names the write it saw, so the order need not be
searched for (Gibbons and Korach, 1997). A write and its reads form a cluster, with
    minf = the least finish, maxs = the greatest start of its operations.
Cluster A must precede cluster B iff minf(A) < maxs(B): some operation of A ended before one of B began.
A block is linearizable iff no two clusters must each precede the other; a longer cycle always
contains such a pair. A cluster with minf < maxs (a forward zone) holds the block all that time. In
order of minf only the forward zone with the greatest maxs so far, F, has to be compared: if an earlier
one conflicts with v and F does not, then that one and F overlap, which is a conflict itself.

The initial value is a cluster that ended before everything. An indeterminate write has its closing
time (see effect.py) as finish and counts only if a read saw it. Comparisons are strict: equal stamps
are concurrent, so a tie is never a false alarm.

Memory: the cells (one a write, 30 bytes) are the only arrays that grow with the history; rows are
taken in slices, and clusters in ranges of blocks, so that temporary arrays stay small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jepsen_blk.checker.effect import closing_times
from jepsen_blk.checker.findings import LONGEST_NS, NEVER, READ_KINDS, Findings, require_one_clock
from jepsen_blk.checker.index import Index, index_blocks, index_values
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import FOREIGN, INITIAL, PENDING, TORN, F, History, Int64s, Outcome

_SLICE = 1 << 17
_RANGE = 1 << 20

_ABSENT, _ACKED, _FAILED, _OPEN, _TWICE = range(5)
"""States of a cell: no such write, then the outcomes in their order; _TWICE: two writes of one value."""

Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class _Cells:
    """One cell a write, and a last one that stands for "no such write"; times in ns."""

    block: npt.NDArray[np.int32]
    state: npt.NDArray[np.uint8]
    seen: Bools
    start: Int64s
    minf: Int64s
    maxs: Int64s

    @classmethod
    def empty(cls, count: int) -> _Cells:
        return cls(
            block=np.full(count + 1, NEVER, dtype=np.int32),
            state=np.zeros(count + 1, dtype=np.uint8),
            seen=np.zeros(count + 1, dtype=np.bool_),
            start=np.zeros(count + 1, dtype=np.int64),
            minf=np.full(count + 1, PENDING, dtype=np.int64),
            maxs=np.zeros(count + 1, dtype=np.int64),
        )


@dataclass(slots=True)
class _Ends:
    """Per block, in ns or -1: starts of the last read of the initial value and of any, last acked finish."""

    initial: Int64s
    read: Int64s
    acked: Int64s


def check_registers(history: History, deadline: Deadline = Deadline.FENCE) -> Findings:
    """Check all blocks under one deadline; raises HistoryError if times span more than 73 years."""
    values = index_values(history)
    blocks = index_blocks(history)
    cells = _Cells.empty(values.size)
    ends = _Ends(*(np.full(blocks.size, NEVER, dtype=np.int64) for _ in range(3)))
    twice = _take_writes(history, deadline, values, blocks, cells, ends)
    bad_reads = _take_reads(history, values, blocks, cells, ends)
    cells.start = np.empty(0, dtype=np.int64)
    unread = np.flatnonzero((ends.acked != NEVER) & (ends.read < ends.acked))
    return Findings(
        bad_reads=bad_reads,
        conflicts=blocks.keys(_conflicts(cells, ends.initial)),
        twice=twice,
        unread=blocks.keys(unread),
        seen_open=bool((cells.seen & (cells.state == _OPEN)).any()),
    )


def _take_writes(
    history: History, deadline: Deadline, values: Index, blocks: Index, cells: _Cells, ends: _Ends
) -> Int64s:
    """Fill the cells from the writes; return the rows of writes that share a value."""
    writes = 0
    for low in range(0, len(history), _SLICE):
        rows = np.flatnonzero(history.f[low : low + _SLICE] == F.WRITE) + low
        writes += len(rows)
        cell = values.places(history.value[rows])
        outcome = history.outcome[rows]
        block = blocks.places(history.block[rows])
        finish = history.finish[rows]
        start = history.start[rows]
        acked = outcome == Outcome.OK
        np.maximum.at(ends.acked, block[acked], finish[acked])
        opened = np.flatnonzero(outcome == Outcome.INFO)
        finish[opened] = closing_times(history, rows[opened], deadline)
        cells.block[cell] = block
        cells.state[cell] = outcome + 1
        cells.start[cell] = start
        cells.minf[cell] = finish
        cells.maxs[cell] = start
    if np.count_nonzero(cells.state) == writes:
        return np.empty(0, dtype=np.int64)
    return _mark_twice(history, values, cells)


def _mark_twice(history: History, values: Index, cells: _Cells) -> Int64s:
    rows = np.flatnonzero(history.f == F.WRITE)
    _, inverse, counts = np.unique(history.value[rows], return_inverse=True, return_counts=True)
    twice = rows[counts[inverse] > 1]
    cells.state[values.places(history.value[twice])] = _TWICE
    return twice


def _take_reads(
    history: History, values: Index, blocks: Index, cells: _Cells, ends: _Ends
) -> dict[str, Int64s]:
    """Add the reads to the cells of the writes they saw; return the reads that saw no such write."""
    found: dict[str, list[Int64s]] = {}
    for low in range(0, len(history), _SLICE):
        part = slice(low, low + _SLICE)
        rows = np.flatnonzero((history.f[part] == F.READ) & (history.outcome[part] == Outcome.OK)) + low
        value = history.value[rows]
        start = history.start[rows]
        finish = history.finish[rows]
        block = blocks.places(history.block[rows])
        cell = values.places(value)
        np.maximum.at(ends.read, block, start)
        good = (cells.block[cell] == block) & (finish >= cells.start[cell])
        good &= cells.state[cell] & 1 == 1  # _ACKED and _OPEN are the odd ones
        if not good.all():
            initial = value == INITIAL
            np.maximum.at(ends.initial, block[initial], start[initial])
            odd = np.flatnonzero(~good & ~initial)
            for kind, mask in _kinds(value[odd], block[odd], cells, cell[odd]):
                found.setdefault(kind, []).append(rows[odd[mask]])
            cell, start, finish = cell[good], start[good], finish[good]
        np.minimum.at(cells.minf, cell, finish)
        np.maximum.at(cells.maxs, cell, start)
        cells.seen[cell] = True
    return {kind: np.concatenate(found[kind]) for kind in READ_KINDS if kind in found}


def _kinds(value: Int64s, block: Int64s, cells: _Cells, cell: Int64s) -> Iterator[tuple[str, Bools]]:
    """Sort reads that saw no write of their block, saw a failed one, or ended before it began."""
    state = cells.state[cell]
    there = (state != _ABSENT) & (state != _TWICE)
    elsewhere = there & (cells.block[cell] != block)
    failed = there & ~elsewhere & (state == _FAILED)
    kinds = {
        "torn": value == TORN,
        "foreign": value == FOREIGN,
        "misdirected": elsewhere,
        "aborted-read": failed,
        "future-read": there & ~elsewhere & ~failed,
        "phantom": (state == _ABSENT) & (value != TORN) & (value != FOREIGN),
    }
    for kind, mask in kinds.items():
        if mask.any():
            yield kind, mask


def _conflicts(cells: _Cells, initial: Int64s) -> Int64s:
    """Return the places of the blocks in which two clusters must each precede the other."""
    live = (cells.state == _ACKED) | ((cells.state == _OPEN) & cells.seen)
    if not live.any():
        return np.empty(0, dtype=np.int64)
    first = int(min(times.min(where=live, initial=PENDING) for times in (cells.minf, cells.maxs)))
    last = int(max(times.max(where=live, initial=0) for times in (cells.minf, cells.maxs)))
    last = max(last, int(initial.max()))
    require_one_clock(first, last)
    first -= 2  # below all, for the initial value
    span = last - first + 1
    count = len(initial)
    step = max(1, min(2 * LONGEST_NS // span, count * _RANGE // int(np.count_nonzero(live))))
    found = np.zeros(count, dtype=np.bool_)
    for low in range(0, count, step):
        high = min(low + step, count)
        mine = np.flatnonzero(live & (cells.block >= low) & (cells.block < high))
        read = np.flatnonzero(initial[low:high] != NEVER)
        base = np.append(cells.block[mine] - np.int64(low), read) * span
        minf = base + np.append(cells.minf[mine] - first, np.zeros(len(read), dtype=np.int64))
        maxs = base + np.append(cells.maxs[mine] - first, np.maximum(initial[low:high][read] - first, 0))
        found[_conflicting(minf, maxs, span) + low] = True
    return np.flatnonzero(found)


def _conflicting(minf: Int64s, maxs: Int64s, span: int) -> Int64s:
    """Return block numbers; times carry their block as `block * span + time`, 0 <= time < span."""
    order = np.argsort(minf)
    minf, maxs = minf[order], maxs[order]
    zone = np.where(minf < maxs, maxs, 0)  # 0: none, which holds no block
    greatest = np.maximum.accumulate(zone)
    inside = np.flatnonzero(minf[1:] < greatest[:-1]) + 1
    opener = np.searchsorted(greatest, greatest[inside - 1], side="left")
    return minf[inside[minf[opener] < maxs[inside]]] // span
