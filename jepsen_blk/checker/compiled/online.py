"""The online check as machine code: a history of any length, window by window, nearly as fast as at once.

A window goes through the passes of batch.py and zones.py, behind the cells that are kept of the windows
before (kept.py). What is kept and what is forgotten, and why that is exact, is told in checker/online.py.
Needs numba, the extra `fast`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from jepsen_blk.checker.compiled.batch import (
    CONFLICT,
    MISDIRECTED,
    PHANTOM,
    Bytes,
    Columns,
    Places,
    closings,
    columns_of,
    index_values,
    plain,
    take_reads,
    take_writes,
)
from jepsen_blk.checker.compiled.cells import (
    CELL,
    KEPT,
    OPEN,
    SEEN,
    TWICE,
    Bools,
    Cells,
    Kept,
    Rows,
    no_heads,
)
from jepsen_blk.checker.compiled.kept import BEFORE_ALL, close, keep, link, take_reports, written_by
from jepsen_blk.checker.compiled.zones import group, sweep, sweep_sorted
from jepsen_blk.checker.effect import closing_times
from jepsen_blk.checker.ends import Ends
from jepsen_blk.checker.findings import NEVER, READ_KINDS, require_one_clock
from jepsen_blk.checker.index import Index
from jepsen_blk.checker.online import NO_BOOT, Alarm
from jepsen_blk.checker.open_clusters import begun_twice, rows_of
from jepsen_blk.checker.written import WrittenInBulk
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import PENDING, Clock, F, Fence, History, Int64s, Outcome
from jepsen_blk.history.rows import unmarked
from jepsen_blk.stamp import SEQUENCE_BITS

_NO_ROWS = np.empty(0, dtype=np.int64)
_KINDS = ("", *READ_KINDS, "conflict", "twice")
_ROOM = 4096
"""Cells left free for values whose write is still to come, so that they need not be copied for those."""


class _Window(NamedTuple):
    """A window's rows and its cells: those of `kept`, those of its writes, and some free ones."""

    rows: History
    columns: Columns
    values: Index
    places: Places
    cells: Cells
    row_of: Rows

    @property
    def bounds(self) -> tuple[int, int]:
        """The place of the first cell of the window's writes, and that behind the last."""
        return int(self.places[1][0]), int(self.places[1][-1])

    def cells_with(self, added: Kept) -> Cells:
        """Return the cells in use, and behind them those that were added."""
        used, cells = self.bounds[1], self.cells
        if used + len(added) > len(cells):
            cells = np.append(cells, np.zeros(len(added), dtype=CELL))
        cells = cells[: used + len(added)]
        _copy(added, cells[used:])
        return cells


def _window(rows: History, kept: Kept, blocks: int) -> _Window:
    columns = columns_of(rows)
    values = index_values(rows, columns[0], columns[3])
    lows, firsts = values.runs()
    cells = np.zeros(len(kept) + values.size + _ROOM, dtype=CELL)
    _copy(kept, cells[: len(kept)])
    places = (lows, firsts + len(kept), np.zeros(1, dtype=np.int64), np.array([0, blocks]))
    return _Window(rows, columns, values, places, cells, np.empty(len(cells), dtype=np.int32))


def _copy(kept: Kept, cells: Cells) -> None:
    for name in CELL.names or ():
        cells[name] = kept[name]


class CompiledChecker:
    """Checks one history under one deadline; the arguments and promises are those of OnlineChecker.

    An alarm ends nothing: what happens in the other blocks is found too. Memory: what is open, 25 bytes for
    each write of a window, and some 100 for each block up to the greatest block number.
    """

    def __init__(
        self, deadline: Deadline, fences: Iterable[Fence] = (), open_boots: Iterable[int] = ()
    ) -> None:
        self.ops = 0
        self._deadline = deadline
        self._fences = tuple(fences)
        self._clocks: tuple[Clock, ...] = ()
        self._open_boots = set(open_boots)
        self._written = WrittenInBulk()
        self._alarms: dict[int, Alarm] = {}
        self._kept = np.empty(0, dtype=KEPT)
        self._heads = no_heads(0)
        self._initial = np.empty(0, dtype=np.int64)
        self._last = Ends()

    @property
    def alarms(self) -> list[Alarm]:
        """The first alarm of each block that has one."""
        return list(self._alarms.values())

    @property
    def kept(self) -> int:
        """Number of clusters in memory."""
        return len(self._kept)

    @property
    def blocks(self) -> int:
        """Number of blocks with an acknowledged write or a completed read so far."""
        return self._last.blocks

    def awaits(self, values: Int64s) -> Bools:
        """Tell which of these values were read and have no report of their write yet."""
        return np.isin(values, self._kept["value"][~self._kept["reported"]])

    def fence(self, fence: Fence) -> None:
        """Close the indeterminate writes of the fence's boot; comes before any horizon that passes it."""
        self._fences = (*self._fences, fence)
        opened = np.flatnonzero(np.isin(self._kept["state"], (OPEN, SEEN)))
        self._kept["minf"][opened] = self._closing(self._kept[opened])

    def open_boot(self, boot: int) -> None:
        """From here on, values of this boot may be read before their writes are reported."""
        self._open_boots.add(boot)

    def end_boot(self, boot: int) -> None:
        """All writes of this boot have been reported: whatever else was read, nothing wrote."""
        self._open_boots.discard(boot)
        kept = self._kept
        lost = kept[
            ~kept["reported"] & (kept["start"] == BEFORE_ALL) & (kept["value"] >> SEQUENCE_BITS == boot)
        ]
        self._alarm("phantom", lost["block"], lost["value"])

    def feed(self, rows: History, horizon_ns: int, in_flight: History | None = None) -> list[Alarm]:
        """Take in a window of reported operations; return all alarms so far.

        The uncertainty of clocks is that of `rows.clocks`, their times are those of clocks.widen. Raises
        HistoryError as check_registers does.
        """
        self.ops += len(rows)
        self._clocks = rows.clocks
        begun = unmarked(rows, _NO_ROWS) if in_flight is None else in_flight
        self._grow(1 + int(max(rows.block.max(initial=-1), begun.block.max(initial=-1))))
        limits = np.full(len(self._initial), horizon_ns, dtype=np.int64)
        if len(begun):
            reads = begun.f == F.READ
            np.minimum.at(limits, begun.block[reads], begun.start[reads])
            self._begin(unmarked(begun, np.flatnonzero(begun.f == F.WRITE)), rows)
        self._judge(replace(rows, fences=self._fences), limits)
        return self.alarms

    def feed_around(self, rows: History, horizon_ns: int, in_flight: History | None = None) -> Int64s:
        """Take in a window; return the blocks that raised their first alarm."""
        before = len(self._alarms)
        self.feed(rows, horizon_ns, in_flight)
        return np.array(list(self._alarms)[before:], dtype=np.int64)

    def _alarm(self, kind: str, blocks: Int64s, values: Int64s) -> None:
        for block, value in zip(np.ravel(blocks).tolist(), np.ravel(values).tolist(), strict=True):
            self._alarms.setdefault(block, Alarm(kind, block, value))

    def _grow(self, size: int) -> None:
        """Make room for this many blocks."""
        self._last.grow(size)
        more = len(self._last) - len(self._initial)
        self._initial = np.append(self._initial, np.full(more, NEVER, dtype=np.int64))
        self._heads = np.append(self._heads, no_heads(more))

    def _closing(self, kept: Kept) -> Int64s:
        """Return when these indeterminate writes close, given the fences; not later than known before."""
        minf = kept["minf"].copy()
        block, value, start = (kept[name].astype(np.int64) for name in ("block", "value", "start"))
        rows = rows_of(F.WRITE, block, value, start, minf, outcome=Outcome.INFO, boot=kept["boot"])
        rows = replace(rows, fences=self._fences, clocks=self._clocks)
        return np.asarray(np.minimum(minf, closing_times(rows, np.arange(len(rows)), self._deadline)))

    def _begin(self, begun: History, rows: History) -> None:
        """Keep the writes in flight as open ones, which reads may see."""
        added = np.zeros(len(begun), dtype=KEPT)
        for name in ("value", "start", "block", "boot"):
            added[name] = getattr(begun, name)
        added["maxs"], added["minf"], added["state"] = begun.start, PENDING, OPEN
        added["minf"] = self._closing(added)
        again = self._written.contain(begun.value) | np.isin(begun.value, rows.value[rows.f == F.WRITE])
        again |= begun_twice(begun)
        self._alarm("twice", begun.block[again], begun.value[again])
        awaited = np.flatnonzero(~self._kept["reported"])
        known = np.isin(begun.value, self._kept["value"][awaited])
        for new in added[known & ~again]:
            self._date(awaited[self._kept["value"][awaited] == new["value"]][0], new)
        first = len(self._kept)
        self._kept = np.append(self._kept, added[~known & ~again])
        link(self._kept, first, self._heads)

    def _date(self, place: int, new: Kept) -> None:
        """Give what is kept of a write, by its reads or as begun before, the write's start and boot."""
        old = self._kept[place]
        if old["start"] != BEFORE_ALL:
            if (old["block"], old["start"]) != (new["block"], new["start"]):
                self._alarm("twice", new["block"], new["value"])
        elif old["block"] != new["block"] or old["minf"] < new["start"]:
            kind = "misdirected" if old["block"] != new["block"] else "future-read"
            self._alarm(kind, old["block"], old["value"])
        else:
            old["start"], old["boot"] = new["start"], new["boot"]
            old["maxs"], old["minf"] = max(old["maxs"], new["maxs"]), min(old["minf"], new["minf"])

    def _judge(self, rows: History, limits: Int64s) -> None:
        """Check the window behind what is kept, then keep what stays open."""
        window = _window(rows, self._kept, len(limits))
        written = self._take_writes(window)
        added = self._take_reads(window)
        cells = window.cells_with(added)
        self._compare(cells)
        left = close(cells, window.bounds, self._kept, limits, self._initial)
        columns = (plain(rows.boot), window.columns[3], window.columns[4])
        self._heads = no_heads(len(limits))
        self._kept = keep(cells, left, window.bounds, self._kept, added, window.row_of, columns, self._heads)
        self._written.add_runs(*written)

    def _take_writes(self, window: _Window) -> tuple[Int64s, Int64s]:
        """Fill the cells from the writes and what was known of them; return their values, as intervals."""
        rows, (lows, firsts, *_) = window.rows, window.places
        closed = closings(rows, self._deadline)
        table = window.cells, window.row_of
        doubled = take_writes(window.columns, window.places, closed, *table, self._last.acked)
        written = written_by(window.cells, lows, firsts)
        if doubled or self._written.meet(*written):
            self._find_twice(window)
        bad = np.zeros(len(self._kept), dtype=np.uint8)
        if take_reports(self._kept, window.cells, lows, firsts, window.row_of, window.columns[4], bad):
            self._alarm_all(bad, self._kept["block"], self._kept["value"])
        return written

    def _find_twice(self, window: _Window) -> None:
        """Raise alarms for values that other writes have too, in this window or before."""
        rows = window.rows
        cells = window.cells[window.bounds[0] :][window.values.places(rows.value)]
        again = (rows.f == F.WRITE) & ((cells["state"] == TWICE) | self._written.contain(rows.value))
        self._alarm("twice", rows.block[again], rows.value[again])

    def _alarm_all(self, bad: Bytes, blocks: Int64s, values: Int64s) -> None:
        """Raise the alarms whose numbers are in `bad`."""
        for row in np.flatnonzero(bad):
            self._alarm(_KINDS[bad[row]], blocks[row], values[row])

    def _take_reads(self, window: _Window) -> Kept:
        """Add the reads to the cells; return what is adopted: values whose write is still to come."""
        rows, bad = window.rows, np.zeros(len(window.rows), dtype=np.uint8)
        table = window.cells, window.row_of, self._heads, self._kept
        if not take_reads(window.columns, window.places, *table, self._initial, self._last.read, bad):
            return np.empty(0, dtype=KEPT)
        unknown = np.flatnonzero((bad == PHANTOM) & (rows.value > 0))
        written = self._written.contain(rows.value[unknown])
        bad[unknown[written]] = CONFLICT
        awaited = self._kept["value"][~self._kept["reported"]]
        elsewhere = np.isin(rows.value[unknown], awaited)
        bad[unknown[elsewhere]] = MISDIRECTED
        adoptable = np.isin(rows.value[unknown] >> SEQUENCE_BITS, list(self._open_boots))
        adopted = unknown[adoptable & ~written & ~elsewhere]
        bad[adopted] = 0
        added = self._adopt(rows, adopted)
        self._alarm_all(bad, rows.block, rows.value)
        return added

    def _adopt(self, rows: History, reads: Int64s) -> Kept:
        """Make a cluster for each value of these reads; one read in two blocks is misdirected."""
        values, first, own = np.unique(rows.value[reads], return_index=True, return_inverse=True)
        added = np.zeros(len(values), dtype=KEPT)
        added["value"], added["block"] = values, rows.block[reads[first]]
        added["start"], added["boot"], added["state"] = BEFORE_ALL, NO_BOOT, SEEN
        added["minf"], added["maxs"] = PENDING, BEFORE_ALL
        astray = added["block"][own] != rows.block[reads]
        self._alarm("misdirected", rows.block[reads[astray]], rows.value[reads[astray]])
        np.minimum.at(added["minf"], own[~astray], rows.finish[reads[~astray]])
        np.maximum.at(added["maxs"], own[~astray], rows.start[reads[~astray]])
        return added

    def _compare(self, cells: Cells) -> None:
        conflicts, unsorted = (np.zeros(len(self._initial), dtype=np.bool_) for _ in range(2))
        first, last, _ = sweep(cells, self._initial, conflicts, unsorted)
        require_one_clock(max(first, 0), max(last, int(self._initial.max(initial=NEVER))))
        if unsorted.any():
            spare = np.empty(len(cells), dtype=np.int32)
            sweep_sorted(cells, *group(cells, spare, unsorted), self._initial, conflicts)
        blocks = np.flatnonzero(conflicts)
        self._alarm("conflict", blocks, np.zeros_like(blocks))
