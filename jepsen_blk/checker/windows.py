"""The online check in numpy: a history of any length, window by window, in memory that does not grow with it.

Each window is judged by the batch check of registers.py together with what is left of the windows before:
the clusters that are still open come first, as rows made up from them. What is kept and what is forgotten,
and why that is exact, is told in online.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from jepsen_blk.checker.effect import closing_times
from jepsen_blk.checker.ends import Ends
from jepsen_blk.checker.findings import Findings
from jepsen_blk.checker.online import Alarm
from jepsen_blk.checker.open_clusters import (
    NONE,
    Bools,
    Names,
    OpenClusters,
    begun_twice,
    dead,
    rows_of,
)
from jepsen_blk.checker.registers import check_registers
from jepsen_blk.checker.written import WrittenInBulk
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import INITIAL, F, Fence, History, Int64s, Outcome
from jepsen_blk.history.rows import concatenate, select, unmarked
from jepsen_blk.stamp import SEQUENCE_BITS

_NO_ROWS = np.empty(0, dtype=np.int64)


class WindowChecker:
    """Checks one history under one deadline; the arguments and promises are those of OnlineChecker.

    Memory: what is open, a window, and some 60 bytes for each block up to the greatest block number.
    """

    def __init__(
        self, deadline: Deadline, fences: Iterable[Fence] = (), open_boots: Iterable[int] = ()
    ) -> None:
        self.alarms: list[Alarm] = []
        self.ops = 0
        self._deadline = deadline
        self._fences = tuple(fences)
        self._open_boots = set(open_boots)
        self._written = WrittenInBulk()
        self._kept = OpenClusters.of(_NO_ROWS)
        self._initial = rows_of(F.READ, _NO_ROWS, _NO_ROWS, _NO_ROWS, _NO_ROWS)
        """The reads of the initial value that what is reported later may contradict."""
        self._ends = Ends()

    @property
    def kept(self) -> int:
        """Number of clusters in memory."""
        return len(self._kept)

    @property
    def blocks(self) -> int:
        """Number of blocks with an acknowledged write or a completed read so far."""
        return self._ends.blocks

    def awaits(self, values: Int64s) -> Bools:
        """Tell which of these values were read and have no report of their write yet."""
        return np.isin(values, self._kept.value[~self._kept.reported])

    def fence(self, fence: Fence) -> None:
        """Close the indeterminate writes of the fence's boot; comes before any horizon that passes it."""
        self._fences = (*self._fences, fence)

    def open_boot(self, boot: int) -> None:
        """From here on, values of this boot may be read before their writes are reported."""
        self._open_boots.add(boot)

    def end_boot(self, boot: int) -> None:
        """All writes of this boot have been reported: whatever else was read, nothing wrote."""
        self._open_boots.discard(boot)
        kept = self._kept
        awaited = ~kept.reported & (kept.latest != NONE) & (kept.value >> SEQUENCE_BITS == boot)
        self._alarm("phantom", kept.block[awaited], kept.value[awaited])

    def feed(self, rows: History, horizon_ns: int, in_flight: History | None = None) -> list[Alarm]:
        """Take in a window of reported operations; return the alarms, after which nothing more is taken in.

        The uncertainty of clocks is that of `rows.clocks`, their times are those of clocks.widen. Raises
        HistoryError as check_registers does.
        """
        if self.alarms:
            return self.alarms
        begun = self._note(rows, in_flight)
        self._take_in(rows, begun, horizon_ns)
        return self.alarms

    def feed_around(self, rows: History, horizon_ns: int, in_flight: History | None = None) -> Int64s:
        """Take in a window, and forget the blocks that raise an alarm, so that the others are judged on.

        Return these blocks: nothing of them may be fed any more. Their writes are forgotten too, so a read of
        another block that returns one may raise an alarm of another kind, but never none.
        """
        begun = self._note(rows, in_flight)
        found = [_NO_ROWS]
        while True:
            self._take_in(rows, begun, horizon_ns)
            if not self.alarms:
                return np.concatenate(found)
            bad = np.unique(np.array([alarm.block for alarm in self.alarms], dtype=np.int64))
            found.append(bad)
            self.alarms = []
            self._kept = self._kept.take(np.flatnonzero(~np.isin(self._kept.block, bad)))
            rows, begun, self._initial = (
                select(some, np.flatnonzero(~np.isin(some.block, bad)))
                for some in (rows, begun, self._initial)
            )

    def _note(self, rows: History, in_flight: History | None) -> History:
        """Count these rows and note what they end; return what is in flight."""
        begun = unmarked(rows, _NO_ROWS) if in_flight is None else in_flight
        self.ops += len(rows)
        self._ends.note(rows)
        self._ends.grow(1 + int(begun.block.max(initial=0)))
        return begun

    def _take_in(self, rows: History, begun: History, horizon_ns: int) -> None:
        limits = np.full(len(self._ends), horizon_ns, dtype=np.int64)
        reads = begun.f == F.READ
        np.minimum.at(limits, begun.block[reads], begun.start[reads])
        rows = replace(rows, fences=self._fences, line=None)
        self._judge(rows, unmarked(begun, np.flatnonzero(begun.f == F.WRITE)), limits)

    def _alarm(self, kind: str, blocks: Int64s, values: Int64s) -> None:
        self.alarms += [Alarm(kind, *pair) for pair in zip(blocks.tolist(), values.tolist(), strict=True)]

    def _judge(self, rows: History, begun: History, limits: Int64s) -> None:
        """Check the window with what is open, then keep what stays open."""
        names = Names(rows, np.append(self._kept.value, begun.value))
        places = names.places(rows.value)
        reads = np.flatnonzero((rows.f == F.READ) & (rows.outcome == Outcome.OK) & (rows.value > 0))
        if self._adopt(rows, reads[places[reads] == names.count]):
            names = Names(rows, np.append(self._kept.value, begun.value))
            places = names.places(rows.value)
        table = self._table(rows, begun, names, places)
        unknown = reads[places[reads] == names.count]
        gone = unknown[self._written.contain(rows.value[unknown])]
        self._find_forbidden(rows, begun, names, np.append(gone, reads[table.closed[places[reads]]]))
        if self.alarms:
            return
        numbered = replace(rows, value=np.where(rows.value > 0, places + 1, rows.value))
        joined = concatenate([*self._open_as_rows(names, table), self._initial, numbered])
        self._take_findings(check_registers(joined, self._deadline), joined, names.values)
        if self.alarms:
            return
        self._written.add_all(names.written)
        np.maximum.at(table.latest, places[reads], rows.start[reads])
        np.minimum.at(table.earliest, places[reads], rows.finish[reads])
        closing = table.finish.copy()
        opened = np.flatnonzero((joined.f == F.WRITE) & (joined.outcome == Outcome.INFO))
        closing[joined.value[opened] - 1] = closing_times(joined, opened, self._deadline)
        self._keep(table, np.minimum(closing, table.earliest), joined, limits)

    def _adopt(self, rows: History, unknown: Int64s) -> bool:
        """Keep a cluster for each value whose write may still be reported; tell whether there is one."""
        value = rows.value[unknown]
        awaited = np.isin(value >> SEQUENCE_BITS, list(self._open_boots)) & ~self._written.contain(value)
        value, first = np.unique(value[awaited], return_index=True)
        adopted = OpenClusters.of(value)
        adopted.block[:] = rows.block[unknown[awaited][first]]
        both = OpenClusters.of(np.append(self._kept.value, value))
        both.put(np.arange(len(self._kept)), self._kept)
        both.put(np.arange(len(self._kept), len(both)), adopted)
        self._kept = both
        return bool(len(value))

    def _table(self, rows: History, begun: History, names: Names, places: Int64s) -> OpenClusters:
        """Return the clusters at hand by place: what is kept, what is in flight, the window's writes."""
        table = OpenClusters.of(names.values)
        table.put(names.places(self._kept.value), self._kept)
        table.put_writes(names.places(begun.value), begun, np.arange(len(begun)), reported=False)
        writes = np.flatnonzero(rows.f == F.WRITE)
        table.put_writes(places[writes], rows, writes, reported=True)
        return table

    def _find_forbidden(self, rows: History, begun: History, names: Names, reads: Int64s) -> None:
        """Raise alarms for values written again, and for these reads of closed clusters."""
        if self._written.contain(names.written).any():
            again = (rows.f == F.WRITE) & self._written.contain(rows.value)
            self._alarm("twice", rows.block[again], rows.value[again])
        again = self._written.contain(begun.value) | np.isin(begun.value, names.written) | begun_twice(begun)
        self._alarm("twice", begun.block[again], begun.value[again])
        self._alarm("conflict", rows.block[reads], rows.value[reads])

    def _open_as_rows(self, names: Names, table: OpenClusters) -> tuple[History, History]:
        """Return the older writes and the reads kept as rows, their values by place + 1."""
        older = np.arange(names.first_older, names.count)
        writes = table.take(older)
        kept = self._kept.take(np.flatnonzero(self._kept.latest != NONE))
        number = names.places(kept.value) + 1
        return (
            rows_of(
                *(F.WRITE, writes.block, older + 1, writes.start, writes.finish),
                outcome=writes.outcome,
                boot=writes.boot,
            ),
            rows_of(F.READ, kept.block, number, kept.latest, kept.earliest),
        )

    def _take_findings(self, findings: Findings, joined: History, values: Int64s) -> None:
        """Turn the findings into alarms; the value is 0 where it is not one of `values`."""
        for kind, rows in (*findings.bad_reads.items(), ("twice", findings.twice)):
            places = np.clip(joined.value[rows], 0, len(values)) - 1
            self._alarm(kind, joined.block[rows], values[places])
        self._alarm("conflict", findings.conflicts, np.zeros_like(findings.conflicts))

    def _keep(self, table: OpenClusters, minf: Int64s, joined: History, limits: Int64s) -> None:
        """Close what no read to come may return, and keep the rest."""
        maxs = np.maximum(table.start, table.latest)
        seen = table.latest != NONE
        happened = ~table.closed & (table.outcome != Outcome.FAIL)
        live = happened & (seen | (table.outcome == Outcome.OK))
        initial = np.flatnonzero(
            (joined.f == F.READ) & (joined.outcome == Outcome.OK) & (joined.value == INITIAL)
        )
        ends = np.full(len(limits), NONE, dtype=np.int64)
        np.maximum.at(ends, joined.block[initial], joined.start[initial])
        table.closed |= dead(minf, maxs, live, table.block, limits, ends)
        still = joined.start[initial] > limits[joined.block[initial]]
        self._initial = unmarked(joined, initial[still])
        settled = seen & table.reported & ~table.closed & (maxs <= limits[table.block])
        table.settle(minf, maxs, np.flatnonzero(settled))
        kept = np.where(table.closed, ~table.reported, happened & (table.reported | seen))
        self._kept = table.take(np.flatnonzero(kept))
