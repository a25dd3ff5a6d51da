"""Between two windows of the online check as machine code: older writes reported, cells closed and kept.

The cells of a window stand behind those kept of the windows before, in the order of their values, and
before those made up for values whose write is still to come. What is closed and why is told in
checker/online.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from jepsen_blk.checker.compiled.batch import ABORTED, FUTURE, MISDIRECTED, Bytes, run_of
from jepsen_blk.checker.compiled.cells import (
    ABSENT,
    ACKED,
    BARRED,
    CLOSED,
    FAILED,
    KEPT,
    NOWHERE,
    OPEN,
    SEEN,
    TWICE,
    Cells,
    Heads,
    Kept,
    Rows,
)
from jepsen_blk.history.record import Int64s

BEFORE_ALL = -(2**62)
"""Start of a write of which only reads are known."""
Window = tuple[int, int]
"""The place of the window's first cell, and that behind its last."""
Columns = tuple[npt.NDArray[np.int32], Int64s, Int64s]
"""Boots, values and starts of the window's rows."""
_TOP = np.dtype([("greatest", "<i8"), ("second", "<i8"), ("place", "<i8")])
"""Of a block the two greatest maxs that may close others, and the place of the first."""


@njit(cache=True)
def written_by(cells: Cells, lows: Int64s, firsts: Int64s) -> tuple[Int64s, Int64s]:
    """Return the values that a window wrote as intervals, ascending: their lows (n,) and ends (n,)."""
    count, size = 0, firsts[-1] - firsts[0]
    found, ends = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    for run in range(len(lows)):
        for place in range(firsts[run], firsts[run + 1]):
            if cells[place].state == ABSENT:
                continue
            value = lows[run] + place - firsts[run]
            if count and ends[count - 1] == value:
                ends[count - 1] += 1
            else:
                found[count], ends[count] = value, value + 1
                count += 1
    return found[:count].copy(), ends[:count].copy()


@njit(cache=True)
def take_reports(
    kept: Kept, cells: Cells, lows: Int64s, firsts: Int64s, rows: Rows, start: Int64s, bad: Bytes
) -> int:
    """Give to the window's writes what was known of them before; mark in `bad` those that were read badly.

    Return how many.
    """
    found = 0
    for old in range(len(kept)):
        if kept[old].reported:
            continue
        low, high, first = run_of(kept[old].value, lows, firsts)
        place = first + kept[old].value - low if low <= kept[old].value < high else NOWHERE
        if place == NOWHERE or cells[place].state == ABSENT:
            continue
        cell, before = cells[place], cells[old]
        if before.state == SEEN or before.state == CLOSED:
            if cell.block != before.block:
                bad[old] = MISDIRECTED
            elif cell.state == FAILED:
                bad[old] = ABORTED
            elif before.minf < start[rows[place]] and kept[old].start == BEFORE_ALL:
                bad[old] = FUTURE
            found += bad[old] != 0
        if cell.state != FAILED:
            cell.minf = min(cell.minf, before.minf)
            cell.maxs = max(cell.maxs, before.maxs)
            if before.state >= CLOSED or (before.state == SEEN and cell.state == OPEN):
                cell.state = before.state
        before.state = ABSENT
    return found


@njit(cache=True)
def close(cells: Cells, window: Window, kept: Kept, limits: Int64s, initial: Int64s) -> Rows:
    """Close what no read to come may see; return the places of what has to be kept.

    The cells before the window's are those of `kept`. `limits`: when reads to come begin at the earliest, a
    block.
    """
    tops = np.empty(len(limits), dtype=_TOP)
    for own in range(len(limits)):
        tops[own].greatest = tops[own].second = initial[own]
        tops[own].place = NOWHERE
    for place in range(len(cells)):
        cell = cells[place]
        if (cell.state == ACKED or cell.state == SEEN) and cell.minf < limits[cell.block]:
            top = tops[cell.block]
            if cell.maxs > top.greatest:
                top.second, top.greatest, top.place = top.greatest, cell.maxs, place
            elif cell.maxs > top.second:
                top.second = cell.maxs
    left, count = np.empty(len(cells), dtype=np.int32), 0
    for place in range(len(cells)):
        cell = cells[place]
        if cell.state == ABSENT or cell.state == FAILED or cell.state == TWICE:
            continue
        top = tops[cell.block]
        if cell.state >= CLOSED or cell.minf < (top.second if place == top.place else top.greatest):
            if kept[place].reported if place < len(kept) else place < window[1]:
                continue
            if cell.state < CLOSED:
                cell.state = CLOSED if cell.state == SEEN else BARRED
        left[count] = place
        count += 1
    return left[:count]


@njit(cache=True)
def keep(
    cells: Cells,
    left: Rows,
    window: Window,
    old: Kept,
    added: Kept,
    rows: Rows,
    columns: Columns,
    heads: Heads,
) -> Kept:
    """Return what is kept: the cells at these places, in lists that begin at the blocks' `heads`.

    The cells before the window's are those of `old`, the cells behind it those of `added`.
    """
    boot, value, start = columns
    kept = np.empty(len(left), dtype=KEPT)
    for i in range(len(left)):
        place, new = left[i], kept[i]
        cell = cells[place]
        new.block, new.minf, new.maxs, new.state = cell.block, cell.minf, cell.maxs, cell.state
        if window[0] <= place < window[1]:
            row = rows[place]
            new.value, new.start, new.boot, new.reported = value[row], start[row], boot[row], True
        else:
            its = old[place] if place < window[0] else added[place - window[1]]
            new.value, new.start, new.boot, new.reported = its.value, its.start, its.boot, its.reported
    link(kept, 0, heads)
    return kept


@njit(cache=True)
def link(kept: Kept, first: int, heads: Heads) -> None:
    """Put what is kept, from this place on, at the heads of the blocks' lists."""
    for place in range(first, len(kept)):
        head = heads[kept[place].block]
        kept[place].next = head.place
        head.value, head.place = kept[place].value, place
