"""The batch check as machine code: the rule of registers.py in a few loops over rows, for long histories.

Two passes over the rows, in any order, gather the cells (one a write): first the writes, then the reads
that saw them. zones.py then compares the cells. Needs numba, the extra `fast`.

Memory: 25 bytes a write, and 4 for each in a block that has to be sorted. A read that ended before its
write began is told by the write's own row, whose array later helps to sort.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from jepsen_blk.checker.compiled.cells import (
    ABSENT,
    CELL,
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
    no_heads,
)
from jepsen_blk.checker.compiled.zones import group, sweep, sweep_sorted
from jepsen_blk.checker.effect import closing_times
from jepsen_blk.checker.findings import NEVER, READ_KINDS, Findings, require_one_clock
from jepsen_blk.checker.index import MOST_RUNS, Index, index_between, index_blocks
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import FOREIGN, INITIAL, PENDING, TORN, F, History, Int64s, Outcome
from jepsen_blk.stamp import SEQUENCE_BITS

_READ, _WRITE = int(F.READ), int(F.WRITE)
_OK, _INFO = int(Outcome.OK), int(Outcome.INFO)
_TORN, _FOREIGN, MISDIRECTED, ABORTED, FUTURE, PHANTOM = (
    1 + READ_KINDS.index(kind)
    for kind in ("torn", "foreign", "misdirected", "aborted-read", "future-read", "phantom")
)
CONFLICT = 1 + len(READ_KINDS)
"""A read of what is closed: only the online check knows such cells."""
_SLICE = 1 << 17
_CHUNK = 1 << 12

Bytes = npt.NDArray[np.uint8]
Picked = npt.NDArray[np.uint64]
"""Rows; unsigned, or each index would be asked whether it counts from the end."""
Kind = TypeVar("Kind", bound=np.generic)
Columns = tuple[Bytes, Bytes, Int64s, Int64s, Int64s, Int64s]
Places = tuple[Int64s, Int64s, Int64s, Int64s]


def check_registers(history: History, deadline: Deadline = Deadline.FENCE) -> Findings:
    """Find what registers.check_registers finds, which see."""
    columns = columns_of(history)
    values = index_values(history, columns[0], columns[3])
    blocks = index_blocks(history)
    cells = np.zeros(values.size, dtype=CELL)
    rows = np.empty(values.size, dtype=np.int32 if len(history) < 1 << 31 else np.int64)
    initial, read, acked = (np.full(blocks.size, NEVER, dtype=np.int64) for _ in range(3))
    places = (*values.runs(), *blocks.runs())
    doubled = take_writes(columns, places, closings(history, deadline), cells, rows, acked)
    bad = np.zeros(len(history), dtype=np.uint8)  # untouched, and so without memory, while no read is bad
    none = no_heads(blocks.size), np.empty(0, dtype=KEPT)
    found = take_reads(columns, places, cells, rows, *none, initial, read, bad)
    conflicts, unsorted = np.zeros(blocks.size, dtype=np.bool_), np.zeros(blocks.size, dtype=np.bool_)
    first, last, seen_open = sweep(cells, initial, conflicts, unsorted)
    require_one_clock(first, max(last, int(initial.max(initial=NEVER))))
    if unsorted.any():
        sweep_sorted(cells, *group(cells, rows, unsorted), initial, conflicts)
    return Findings(
        bad_reads=_by_kind(bad) if found else {},
        conflicts=blocks.keys(np.flatnonzero(conflicts)),
        twice=_rows_of_twice(history, values, cells) if doubled else np.empty(0, dtype=np.int64),
        unread=blocks.keys(np.flatnonzero((acked != NEVER) & (read < acked))),
        seen_open=seen_open,
    )


def columns_of(history: History) -> Columns:
    """Return what the passes over the rows read."""
    return (
        *(plain(history.f), plain(history.outcome), plain(history.block)),
        *(plain(history.value), plain(history.start), plain(history.finish)),
    )


def plain(column: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
    """Return the column; a copy of a strided or read-only one, for which numba would compile anew."""
    return column if column.flags.c_contiguous and column.flags.writeable else column.copy()


def closings(history: History, deadline: Deadline) -> Int64s:
    """Return the closing times of the indeterminate writes, in the order of their rows."""
    found = [np.empty(0, dtype=np.int64)]
    for low in range(0, len(history), _SLICE):
        part = slice(low, low + _SLICE)
        opened = history.outcome[part] == Outcome.INFO
        if opened.any():
            found.append(np.flatnonzero(opened & (history.f[part] == F.WRITE)) + low)
    return closing_times(history, np.concatenate(found), deadline)


def _by_kind(bad: Bytes) -> dict[str, Int64s]:
    rows = np.flatnonzero(bad)
    kinds = bad[rows]
    return {
        kind: rows[kinds == code] for code, kind in enumerate(READ_KINDS, start=1) if (kinds == code).any()
    }


def _rows_of_twice(history: History, values: Index, cells: Cells) -> Int64s:
    writes: Int64s = np.flatnonzero(history.f == F.WRITE)
    twice: Int64s = writes[cells["state"][values.places(history.value[writes])] == TWICE]
    return twice


def index_values(history: History, f: Bytes, value: Int64s) -> Index:
    """Index the values that writes wrote, as index.py does."""
    writes, least, greatest = _range_of_writes(f, value)
    if least >> SEQUENCE_BITS == greatest >> SEQUENCE_BITS:
        return index_between(history, writes, np.array([least]), np.array([greatest]))
    return index_between(history, *_extremes(f, value))


@njit(cache=True)
def _range_of_writes(f: Bytes, value: Int64s) -> tuple[int, int, int]:
    """Return the number of writes, their least and greatest value; has no branch, and so uses vectors."""
    writes, least, greatest = 0, PENDING, -1
    for row in range(len(f)):
        write = f[row] == _WRITE
        writes += write
        least = min(least, value[row] if write else PENDING)
        greatest = max(greatest, value[row] if write else -1)
    return writes, least, greatest


@njit(cache=True)
def _extremes(f: Bytes, value: Int64s) -> tuple[int, Int64s, Int64s]:
    """Return the number of writes, and each boot's least and greatest value; stop at too many boots."""
    least, greatest = np.empty(MOST_RUNS + 1, dtype=np.int64), np.empty(MOST_RUNS + 1, dtype=np.int64)
    boots = boot = writes = 0
    for row in range(len(f)):
        if f[row] != _WRITE:
            continue
        writes += 1
        key = value[row]
        if boots == 0 or key >> SEQUENCE_BITS != least[boot] >> SEQUENCE_BITS:
            boot = 0
            while boot < boots and key >> SEQUENCE_BITS != least[boot] >> SEQUENCE_BITS:
                boot += 1
            if boot == boots:
                least[boot] = greatest[boot] = key
                boots += 1
                if boots > MOST_RUNS:
                    break
        least[boot] = min(least[boot], key)
        greatest[boot] = max(greatest[boot], key)
    return writes, least[:boots], greatest[:boots]


@njit(cache=True)
def run_of(key: int, lows: Int64s, firsts: Int64s) -> tuple[int, int, int]:
    """Return the first key, the key after the last, and the first place of the run that may hold this key."""
    low, high = 0, len(lows)
    while low < high:
        middle = (low + high) >> 1
        if lows[middle] <= key:
            low = middle + 1
        else:
            high = middle
    run = max(low - 1, 0)
    return lows[run], lows[run] + firsts[run + 1] - firsts[run], firsts[run]


@njit(cache=True)
def _pick(f: Bytes, outcome: Bytes, begin: int, kind: int, picked: Picked) -> int:
    """Put the chunk's rows that are writes, or completed reads, at the front of `picked`; return how many.

    Without a branch: the processor would guess the kind of a row wrongly half of the time, and each time
    drop what it had begun to fetch for the next ones.
    """
    count = 0
    for row in range(begin, min(begin + len(picked), len(f))):
        picked[count] = row
        count += (f[row] == kind) & ((kind == _WRITE) | (outcome[row] == _OK))
    return count


@njit(cache=True)
def take_writes(
    columns: Columns, places: Places, closings: Int64s, cells: Cells, rows: Rows, acked: Int64s
) -> bool:
    """Fill the cells from the writes; say whether two writes had one value."""
    f, outcome, block, value, start, finish = columns
    lows, firsts, block_lows, block_firsts = places
    low, high, at = run_of(0, lows, firsts)
    block_low, block_high, block_at = run_of(0, block_lows, block_firsts)
    opened, doubled = 0, False
    picked = np.empty(_CHUNK, dtype=np.uint64)
    for begin in range(0, len(f), _CHUNK):
        for i in range(_pick(f, outcome, begin, _WRITE, picked)):
            row = picked[i]
            if not low <= value[row] < high:
                low, high, at = run_of(value[row], lows, firsts)
            if not block_low <= block[row] < block_high:
                block_low, block_high, block_at = run_of(block[row], block_lows, block_firsts)
            place, own = at + value[row] - low, block_at + block[row] - block_low
            cell = cells[place]
            minf = finish[row]
            if outcome[row] == _OK:
                acked[own] = max(acked[own], minf)
            elif outcome[row] == _INFO:
                minf = closings[opened]
                opened += 1
            doubled |= cell.state != ABSENT
            cell.state = TWICE if cell.state != ABSENT else outcome[row] + 1
            cell.block = own
            cell.minf = minf
            cell.maxs = start[row]
            rows[place] = row
    return doubled


@njit(cache=True)
def take_reads(
    columns: Columns,
    places: Places,
    cells: Cells,
    rows: Rows,
    heads: Heads,
    kept: Kept,
    initial: Int64s,
    read: Int64s,
    bad: Bytes,
) -> int:
    """Add the reads to the cells of the writes they saw; mark bad ones in `bad` and return their number.

    The first cells are not the rows', but those of `kept`, whose lists begin at the blocks' `heads`.
    """
    f, outcome, block, value, start, finish = columns
    lows, firsts, block_lows, block_firsts = places
    low, high, at = run_of(0, lows, firsts)
    block_low, block_high, block_at = run_of(0, block_lows, block_firsts)
    found = 0
    picked = np.empty(_CHUNK, dtype=np.uint64)
    for begin in range(0, len(f), _CHUNK):
        for i in range(_pick(f, outcome, begin, _READ, picked)):
            row = picked[i]
            if not block_low <= block[row] < block_high:
                block_low, block_high, block_at = run_of(block[row], block_lows, block_firsts)
            own = block_at + block[row] - block_low
            read[own] = max(read[own], start[row])
            if value[row] == INITIAL:
                initial[own] = max(initial[own], start[row])
                continue
            if not low <= value[row] < high:
                low, high, at = run_of(value[row], lows, firsts)
            place = at + value[row] - low if low <= value[row] < high else NOWHERE
            if place == NOWHERE or cells[place].state == ABSENT:
                place = _place_of_kept(heads, kept, own, value[row])
            if place == NOWHERE:
                bad[row] = _unwritten(value[row])
                found += 1
                continue
            cell = cells[place]
            # Most end after all that is known of their write began, so its own start need not be fetched.
            if (
                cell.state & 1
                and cell.block == own
                and (finish[row] >= cell.maxs or finish[row] >= _start_of(place, kept, rows, start))
            ):
                cell.minf = min(cell.minf, finish[row])
                cell.maxs = max(cell.maxs, start[row])
                if cell.state == OPEN:
                    cell.state = SEEN
            elif cell.state != TWICE:
                bad[row] = _misread(cell, own)
                found += 1
    return found


@njit(cache=True)
def _place_of_kept(heads: Heads, kept: Kept, own: int, value: int) -> int:
    head = heads[own]
    place: int = head.place
    if head.value != value:
        while place != NOWHERE and kept[place].value != value:
            place = kept[place].next
    return place


@njit(cache=True)
def _start_of(place: int, kept: Kept, rows: Rows, start: Int64s) -> int:
    began: int = kept[place].start if place < len(kept) else start[rows[place]]
    return began


@njit(cache=True)
def _unwritten(value: int) -> int:
    return _TORN if value == TORN else _FOREIGN if value == FOREIGN else PHANTOM


@njit(cache=True)
def _misread(cell: Any, own: int) -> int:
    if cell.block != own:
        return MISDIRECTED
    return ABORTED if cell.state == FAILED else CONFLICT if cell.state >= CLOSED else FUTURE
