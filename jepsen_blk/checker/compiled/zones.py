"""The comparison of clusters as machine code: which blocks hold two that must each precede the other.

Cells stand in order of their values, in which those of a block mostly come by minf, as the rule needs
them: so one pass compares all, and tells the few blocks for which that does not hold. Those are grouped and
sorted, each by itself.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from jepsen_blk.checker.compiled.cells import ACKED, SEEN, Bools, Cells, Rows
from jepsen_blk.checker.findings import NEVER
from jepsen_blk.history.record import PENDING, Int64s

_ZONE = np.dtype([("minf", "<i8"), ("maxs", "<i8"), ("newest", "<i8")])
"""Of a block the forward zone of the greatest maxs so far, and the minf of the cluster before."""
_MOST_SHIFTS = 16
"""Places that a cell may be moved on average, before its block is sorted as one in no order."""
_BEFORE_ALL = -(2**63)


@njit(cache=True)
def sweep(cells: Cells, initial: Int64s, conflicts: Bools, unsorted: Bools) -> tuple[int, int, bool]:
    """Mark the blocks in which two clusters must each precede the other, and those not in order of minf.

    Return the least and the greatest time (PENDING and 0 if there are none), and whether a read saw an
    indeterminate write.
    """
    zones = np.empty(len(initial), dtype=_ZONE)
    for block in range(len(initial)):
        zone = zones[block]
        zone.minf, zone.newest = _BEFORE_ALL, _BEFORE_ALL
        zone.maxs = initial[block] if initial[block] != NEVER else _BEFORE_ALL
    first, last, seen = PENDING, 0, False
    for cell in cells:
        if cell.state != ACKED and cell.state != SEEN:
            continue
        minf, maxs, zone = cell.minf, cell.maxs, zones[cell.block]
        first = min(first, minf, maxs)
        last = max(last, minf, maxs)
        seen |= cell.state == SEEN
        if minf < zone.newest:
            unsorted[cell.block] = True
        zone.newest = minf
        if minf < zone.maxs and zone.minf < maxs:
            conflicts[cell.block] = True
        if minf < maxs and maxs > zone.maxs:
            zone.minf, zone.maxs = minf, maxs
    return first, last, seen


@njit(cache=True)
def group(cells: Cells, spare: Rows, chosen: Bools) -> tuple[Rows, Int64s]:
    """Return the places of the chosen blocks' live cells, block by block, and each block's end among them.

    `spare` is as long as the cells, and is overwritten.
    """
    count, ends = 0, np.zeros(len(chosen) + 1, dtype=np.int64)
    for place in range(len(cells)):
        cell = cells[place]
        if (cell.state == ACKED or cell.state == SEEN) and chosen[cell.block]:
            spare[count] = place
            count += 1
            ends[cell.block + 1] += 1
    ends = np.cumsum(ends)
    order = np.empty(count, dtype=spare.dtype)
    for place in spare[:count]:
        block = cells[place].block
        order[ends[block]] = place
        ends[block] += 1
    return order, ends[: len(chosen)]


@njit(cache=True)
def sweep_sorted(cells: Cells, order: Rows, ends: Int64s, initial: Int64s, conflicts: Bools) -> None:
    """Judge the grouped blocks, each in order of minf."""
    most = low = 0
    for high in ends:
        most, low = max(most, high - low), high
    minf, maxs = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64)
    low = 0
    for block in range(len(ends)):
        high = ends[block]
        if high > low:
            for i in range(high - low):
                cell = cells[order[low + i]]
                minf[i], maxs[i] = cell.minf, cell.maxs
            _sort(minf, maxs, high - low)
            conflicts[block] = _contradict(minf, maxs, high - low, initial[block])
        low = high


@njit(cache=True)
def _contradict(minf: Int64s, maxs: Int64s, count: int, initial: int) -> bool:
    """Compare each cluster, in order of minf, with the forward zone of the greatest maxs before it."""
    zone_minf, zone_maxs = _BEFORE_ALL, initial if initial != NEVER else _BEFORE_ALL
    for i in range(count):
        if minf[i] < zone_maxs and zone_minf < maxs[i]:
            return True
        if minf[i] < maxs[i] and maxs[i] > zone_maxs:
            zone_minf, zone_maxs = minf[i], maxs[i]
    return False


@njit(cache=True)
def _sort(minf: Int64s, maxs: Int64s, count: int) -> None:
    """Sort pairs by minf: by insertion if they are nearly sorted, else by Shell's method."""
    if _insert(minf, maxs, count, 1, _MOST_SHIFTS * count):
        return
    gap = count
    while gap > 1:
        gap = max(1, gap * 4 // 9)
        _insert(minf, maxs, count, gap, PENDING)


@njit(cache=True)
def _insert(minf: Int64s, maxs: Int64s, count: int, gap: int, shifts: int) -> bool:
    """Sort every gap-th pair; stop after so many shifts and say whether it was done."""
    for i in range(gap, count):
        own_minf, own_maxs = minf[i], maxs[i]
        j = i
        while j >= gap and minf[j - gap] > own_minf:
            minf[j], maxs[j] = minf[j - gap], maxs[j - gap]
            j -= gap
            shifts -= 1
        minf[j], maxs[j] = own_minf, own_maxs
        if shifts < 0:
            return False
    return True
