"""The online check as machine code: a history of any length, window by window, nearly as fast as at once.

A window goes through the passes of compiled.py and compiled_zones.py, behind the cells that are kept of the
windows before (compiled_kept.py). What is kept and what is forgotten, and why that is exact, is told in
online.py. Needs numba, the extra `fast`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from jepsen_blk.checker.compiled import (
    CONFLICT,
    MISDIRECTED,
    PHANTOM,
    Bytes,
    Columns,
    Places,
    closings,
    columns_of,
    index_values,
    take_reads,
    take_writes,
)
from jepsen_blk.checker.compiled_kept import BEFORE_ALL, close, keep, take_reports, written_by
from jepsen_blk.checker.compiled_zones import (
    CELL,
    KEPT,
    OPEN,
    SEEN,
    TWICE,
    Bools,
    Cells,
    Kept,
    Rows,
    group,
    sweep,
    sweep_sorted,
)
from jepsen_blk.checker.effect import closing_times
from jepsen_blk.checker.findings import NEVER, READ_KINDS, require_one_clock
from jepsen_blk.checker.online import NO_BOOT, Alarm
from jepsen_blk.checker.open_clusters import rows_of, take
from jepsen_blk.checker.written import WrittenRuns
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import PENDING, F, Fence, History, Int64s, Outcome
from jepsen_blk.stamp import SEQUENCE_BITS

_NO_ROWS = np.empty(0, dtype=np.int64)
_KINDS = ("", *READ_KINDS, "conflict", "twice")
_ROOM = 4096
"""Cells left free for values whose write is still to come, so that they need not be copied for those."""


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
        self._open_boots = set(open_boots)
        self._written = WrittenRuns()
        self._alarms: dict[int, Alarm] = {}
        self._kept = np.empty(0, dtype=KEPT)
        self._ends = np.empty(0, dtype=np.int64)
        self._initial, self._read, self._acked = (np.empty(0, dtype=np.int64) for _ in range(3))

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
        return int(np.count_nonzero((self._acked != NEVER) | (self._read != NEVER)))

    @property
    def unread(self) -> Int64s:
        """Blocks that were not read after their last acknowledged write."""
        return np.flatnonzero((self._acked != NEVER) & (self._read < self._acked))

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

        Raises HistoryError as check_registers does.
        """
        self.ops += len(rows)
        begun = take(rows, _NO_ROWS) if in_flight is None else in_flight
        self._grow(1 + int(max(rows.block.max(initial=-1), begun.block.max(initial=-1))))
        limits = np.full(len(self._read), horizon_ns, dtype=np.int64)
        if len(begun):
            reads = begun.f == F.READ
            np.minimum.at(limits, begun.block[reads], begun.start[reads])
            self._begin(take(begun, np.flatnonzero(begun.f == F.WRITE)), rows)
        self._judge(replace(rows, fences=self._fences), limits)
        return self.alarms

    def _alarm(self, kind: str, blocks: Int64s, values: Int64s) -> None:
        for block, value in zip(np.ravel(blocks).tolist(), np.ravel(values).tolist(), strict=True):
            self._alarms.setdefault(block, Alarm(kind, block, value))

    def _grow(self, size: int) -> None:
        """Make room for this many blocks."""
        more = max(0, size - len(self._read))
        self._ends = np.append(self._ends, np.full(more, len(self._kept), dtype=np.int64))
        never = np.full(more, NEVER, dtype=np.int64)
        self._initial, self._read, self._acked = (
            np.append(column, never) for column in (self._initial, self._read, self._acked)
        )

    def _closing(self, kept: Kept) -> Int64s:
        """Return when these indeterminate writes close, given the fences; not later than known before."""
        minf = kept["minf"].copy()
        block, value, start = (kept[name].astype(np.int64) for name in ("block", "value", "start"))
        rows = rows_of(F.WRITE, block, value, start, minf, outcome=Outcome.INFO, boot=kept["boot"])
        rows = replace(rows, fences=self._fences)
        return np.asarray(np.minimum(minf, closing_times(rows, np.arange(len(rows)), self._deadline)))

    def _begin(self, begun: History, rows: History) -> None:
        """Keep the writes in flight as open ones, which reads may see."""
        added = np.zeros(len(begun), dtype=KEPT)
        for name in ("value", "start", "block", "boot"):
            added[name] = getattr(begun, name)
        added["maxs"], added["minf"], added["state"] = begun.start, PENDING, OPEN
        added["minf"] = self._closing(added)
        again = self._written.contain(begun.value) | np.isin(begun.value, rows.value[rows.f == F.WRITE])
        self._alarm("twice", begun.block[again], begun.value[again])
        awaited = np.flatnonzero(~self._kept["reported"])
        known = np.isin(begun.value, self._kept["value"][awaited])
        for new in added[known & ~again]:
            self._date(awaited[self._kept["value"][awaited] == new["value"]][0], new)
        self._kept = np.append(self._kept, added[~known & ~again])
        self._kept = self._kept[np.argsort(self._kept["block"], kind="stable")]
        self._ends = np.searchsorted(self._kept["block"], np.arange(len(self._ends)), side="right")

    def _date(self, place: int, new: Kept) -> None:
        """Give what is kept of a write, by its reads or as begun before, the write's start and boot."""
        old = self._kept[place]
        if old["start"] != BEFORE_ALL:
            if (old["block"], old["start"]) != (new["block"], new["start"]):
                self._alarms.setdefault(
                    int(new["block"]), Alarm("twice", int(new["block"]), int(new["value"]))
                )
        elif old["block"] != new["block"] or old["minf"] < new["start"]:
            kind = "misdirected" if old["block"] != new["block"] else "future-read"
            self._alarm(kind, old["block"], old["value"])
        else:
            old["start"], old["boot"] = new["start"], new["boot"]
            old["maxs"], old["minf"] = max(old["maxs"], new["maxs"]), min(old["minf"], new["minf"])

    def _judge(self, rows: History, limits: Int64s) -> None:
        """Check the window behind what is kept, then keep what stays open."""
        columns = columns_of(rows)
        values = index_values(rows, columns[0], columns[3])
        lows, firsts = values.runs()
        firsts = firsts + len(self._kept)
        places = (lows, firsts, np.zeros(1, dtype=np.int64), np.array([0, len(limits)]))
        cells = np.zeros(firsts[-1] + _ROOM, dtype=CELL)
        for name in ("minf", "maxs", "block", "state"):
            cells[name][: len(self._kept)] = self._kept[name]
        row_of = np.empty(len(cells), dtype=np.int32)
        doubled = take_writes(columns, places, closings(rows, self._deadline), cells, row_of, self._acked)
        window = int(firsts[0]), int(firsts[-1])
        new = written_by(cells, lows, firsts)
        if doubled or self._written.meet(*new):
            self._find_twice(rows, cells[window[0] :][values.places(rows.value)]["state"] == TWICE)
        bad = np.zeros(len(self._kept), dtype=np.uint8)
        if take_reports(self._kept, cells, lows, firsts, row_of, columns[4], bad):
            self._alarm_all(bad, self._kept["block"], self._kept["value"])
        added = self._take_reads(rows, columns, places, cells, row_of)
        cells = self._with(cells, window[1], added)
        self._compare(cells)
        ends = close(cells, window, self._kept, limits, self._initial)
        boot = rows.boot
        self._kept = keep(cells, window, self._kept, added, row_of, (boot, columns[3], columns[4]), ends)
        self._ends = ends
        self._written.add(*new)

    def _find_twice(self, rows: History, doubled: Bools) -> None:
        again = (rows.f == F.WRITE) & (doubled | self._written.contain(rows.value))
        self._alarm("twice", rows.block[again], rows.value[again])

    def _alarm_all(self, bad: Bytes, blocks: Int64s, values: Int64s) -> None:
        """Raise the alarms whose numbers are in `bad`."""
        for row in np.flatnonzero(bad):
            self._alarm(_KINDS[bad[row]], blocks[row], values[row])

    def _take_reads(
        self, rows: History, columns: Columns, places: Places, cells: Cells, row_of: Rows
    ) -> Kept:
        """Add the reads to the cells; return what is adopted: values whose write is still to come."""
        bad = np.zeros(len(rows), dtype=np.uint8)
        kept = self._kept["value"].copy(), self._kept["start"].copy(), self._ends
        if not take_reads(columns, places, cells, row_of, kept, self._initial, self._read, bad):
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

    def _with(self, cells: Cells, used: int, added: Kept) -> Cells:
        """Return the cells in use with those that were added."""
        if used + len(added) > len(cells):
            cells = np.append(cells, np.zeros(len(added), dtype=CELL))
        cells = cells[: used + len(added)]
        for name in ("minf", "maxs", "block", "state"):
            cells[name][used:] = added[name]
        return cells

    def _compare(self, cells: Cells) -> None:
        conflicts, unsorted = (np.zeros(len(self._read), dtype=np.bool_) for _ in range(2))
        first, last, _ = sweep(cells, self._initial, conflicts, unsorted)
        require_one_clock(max(first, 0), max(last, int(self._initial.max(initial=NEVER))))
        if unsorted.any():
            order = np.empty(len(cells), dtype=np.int32)
            sweep_sorted(cells, order, group(cells, order, unsorted), self._initial, conflicts)
        blocks = np.flatnonzero(conflicts)
        self._alarm("conflict", blocks, np.zeros_like(blocks))
