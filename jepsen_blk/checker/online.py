"""The online check, one operation at a time: the same verdict as the batch check of what was reported so far.

A test that runs for days cannot wait for its end, nor keep all that it did. Damage is final (once two
clusters contradict each other, nothing that follows can reconcile them), so it can be reported at once.
What must be kept is one cluster a block, and what was in flight together.

The caller promises with each call: no operation that is reported later ends before the horizon, and
none begins before it but those it names as in flight. So on block b every read to come begins at L or
later, L being the horizon or the start of the oldest read in flight on b. A cluster E is closed once
another cluster B with minf(B) < L has minf(E) < maxs(B): E must precede B, and a read of E to come would
have to follow B. All of a block's clusters are judged before any is closed, since each may be what closes
another. A closed cluster whose write has been reported is forgotten; to read its value is a conflict.

Times, clusters and comparisons are those of registers.py. windows.py is the same in numpy.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from jepsen_blk.checker.written import Written
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import FOREIGN, INITIAL, PENDING, TORN, F, Fence, Outcome
from jepsen_blk.stamp import SEQUENCE_BITS

NO_BOOT = -1
"""Boot of a write in flight that may still be acknowledged, so that no fence closes it before its report."""
_BEFORE_ALL = -(2**62)


class Operation(NamedTuple):
    """A row of a history; `finish` is PENDING while it is in flight."""

    f: int
    outcome: int
    boot: int
    block: int
    value: int
    start: int
    finish: int


class Alarm(NamedTuple):
    """A contradiction: `kind` is that of a bad read (see registers.py), `conflict` or `twice`.

    `value` is 0 where it is not known, or where two clusters are as much at fault.
    """

    kind: str
    block: int
    value: int


@dataclass(slots=True)
class _Cluster:
    """A write and its reads. `reported`: the write's row came; `begun`: at least its start is known."""

    value: int
    block: int
    start: int = _BEFORE_ALL
    boot: int = NO_BOOT
    minf: int = PENDING
    maxs: int = _BEFORE_ALL
    seen: bool = False
    acked: bool = False
    reported: bool = False
    begun: bool = False
    closed: bool = False

    @property
    def live(self) -> bool:
        """An indeterminate write counts only if a read saw it."""
        return self.acked or self.seen


class OnlineChecker:
    """Checks one history under one deadline.

    `fences` are those known beforehand. The values of `open_boots` may be read before their write is
    reported, or without it ever being (a lost tail): such a write is taken as indeterminate, with nothing
    known of its start.
    """

    def __init__(
        self, deadline: Deadline, fences: Iterable[Fence] = (), open_boots: Iterable[int] = ()
    ) -> None:
        self.alarms: list[Alarm] = []
        self._deadline = deadline
        self._open_boots = set(open_boots)
        self._fences: dict[int, list[int]] = {}
        self._by_value: dict[int, _Cluster] = {}
        self._by_block: dict[int, list[_Cluster]] = {}
        self._initial: dict[int, int] = {}
        self._written = Written()
        self._crowded: set[int] = set()
        """Blocks with more than one cluster, or one that may be closed later."""
        for fence in fences:
            self.fence(fence)

    @property
    def kept(self) -> int:
        """Number of clusters in memory."""
        return len(self._by_value)

    def feed(
        self, rows: Iterable[Operation], horizon_ns: int, in_flight: Iterable[Operation] = ()
    ) -> list[Alarm]:
        """Take in reported operations, in any order; return all alarms so far.

        `in_flight` names what began before the horizon and is not reported yet; its writes are taken as
        indeterminate until they are. The order of calls is that of the horizons.
        """
        reads = []
        for row in rows:
            if row.f == F.WRITE:
                self._report(row)
            elif row.f == F.READ and row.outcome == Outcome.OK:
                reads.append(row)
        oldest: dict[int, int] = {}
        for row in in_flight:
            if row.f == F.WRITE:
                self._begin(row)
            elif row.f == F.READ:
                oldest[row.block] = min(oldest.get(row.block, horizon_ns), row.start)
        for row in reads:
            self._read(row)
        for block in list(self._crowded):
            self._close(block, oldest.get(block, horizon_ns))
        return self.alarms

    def fence(self, fence: Fence) -> None:
        """Close the indeterminate writes of the fence's boot; comes before any horizon that passes it."""
        insort(self._fences.setdefault(fence.boot, []), fence.time_ns)
        for cluster in list(self._by_value.values()):
            if cluster.boot == fence.boot and not cluster.acked and cluster.begun:
                self._lower(cluster, self._closing(cluster.boot, cluster.start))

    def open_boot(self, boot: int) -> None:
        """From here on, values of this boot may be read before their writes are reported."""
        self._open_boots.add(boot)

    def end_boot(self, boot: int) -> None:
        """All writes of this boot have been reported: whatever else was read, nothing wrote."""
        self._open_boots.discard(boot)
        for cluster in self._by_value.values():
            if not cluster.begun and cluster.value >> SEQUENCE_BITS == boot:
                self._alarm("phantom", cluster.block, cluster.value)

    def _alarm(self, kind: str, block: int, value: int) -> None:
        self.alarms.append(Alarm(kind, block, value))

    def _closing(self, boot: int, start: int) -> int:
        """Return the first fence of the boot after this start; see effect.py."""
        if self._deadline is Deadline.NEVER:
            return PENDING
        fences = self._fences.get(boot, [])
        place = bisect_right(fences, start)
        return fences[place] if place < len(fences) else PENDING

    def _begin(self, row: Operation) -> None:
        """Take note of a write in flight."""
        cluster = self._by_value.get(row.value)
        other = (
            cluster is not None and cluster.begun and (cluster.block, cluster.start) != (row.block, row.start)
        )
        if other or row.value in self._written:
            self._alarm("twice", row.block, row.value)
        elif cluster is None or not cluster.begun:
            self._date(row, cluster)

    def _date(self, row: Operation, cluster: _Cluster | None) -> _Cluster | None:
        """Give a write's cluster, which reads may have begun, its start; None if those reads are bad."""
        if cluster is None:
            cluster = self._add(_Cluster(row.value, row.block))
        elif cluster.block != row.block:
            self._alarm("misdirected", cluster.block, row.value)
            return None
        elif cluster.minf < row.start:
            self._alarm("future-read", row.block, row.value)
            return None
        cluster.begun = True
        cluster.start, cluster.boot = row.start, row.boot
        cluster.maxs = max(cluster.maxs, row.start)
        self._lower(cluster, self._closing(row.boot, row.start))
        return cluster

    def _report(self, row: Operation) -> None:
        """Take in the report of a write: what became of it is known."""
        if row.value in self._written:
            self._alarm("twice", row.block, row.value)
            return
        self._written.add(row.value)
        cluster = self._by_value.get(row.value)
        if row.outcome == Outcome.FAIL:
            if cluster is not None:
                if cluster.seen:
                    self._alarm("aborted-read", cluster.block, row.value)
                self._forget(cluster)
            return
        if cluster is None or not cluster.begun:
            cluster = self._date(row, cluster)
            if cluster is None:
                return
        cluster.reported = True
        cluster.acked = row.outcome == Outcome.OK
        cluster.boot = row.boot
        if cluster.acked:
            self._lower(cluster, row.finish)
        else:
            error = row.finish if self._deadline is Deadline.ERROR else PENDING
            self._lower(cluster, min(error, self._closing(row.boot, row.start)))
        if cluster.closed:
            self._forget(cluster)

    def _read(self, row: Operation) -> None:
        if row.value == INITIAL:
            self._initial[row.block] = max(self._initial.get(row.block, _BEFORE_ALL), row.start)
            for other in self._by_block.get(row.block, ()):
                self._compare(other)
            return
        cluster = self._by_value.get(row.value) or self._adopt(row)
        if cluster is None:
            return
        if cluster.block != row.block:
            self._alarm("misdirected", row.block, row.value)
        elif row.finish < cluster.start:
            self._alarm("future-read", row.block, row.value)
        elif cluster.closed:
            self._alarm("conflict", row.block, row.value)
        else:
            cluster.seen = True
            cluster.maxs = max(cluster.maxs, row.start)
            cluster.minf = min(cluster.minf, row.finish)
            self._compare(cluster)

    def _adopt(self, row: Operation) -> _Cluster | None:
        """Return a new cluster for a value whose write may still be reported; else the read is bad."""
        if row.value in self._written:
            self._alarm("conflict", row.block, row.value)
        elif row.value > 0 and row.value >> SEQUENCE_BITS in self._open_boots:
            return self._add(_Cluster(row.value, row.block))
        else:
            kind = {TORN: "torn", FOREIGN: "foreign"}.get(row.value, "phantom")
            self._alarm(kind, row.block, row.value)
        return None

    def _lower(self, cluster: _Cluster, finish: int) -> None:
        cluster.minf = min(cluster.minf, finish)
        self._compare(cluster)

    def _compare(self, cluster: _Cluster) -> None:
        """Raise an alarm if this cluster and another of its block must each precede the other."""
        if not cluster.live or cluster.closed:
            return
        if cluster.minf < self._initial.get(cluster.block, _BEFORE_ALL) or any(
            other.minf < cluster.maxs and cluster.minf < other.maxs
            for other in self._by_block[cluster.block]
            if other is not cluster and other.live
        ):
            self._alarm("conflict", cluster.block, cluster.value)

    def _add(self, cluster: _Cluster) -> _Cluster:
        self._by_value[cluster.value] = cluster
        own = self._by_block.setdefault(cluster.block, [])
        own.append(cluster)
        if len(own) > 1:
            self._crowded.add(cluster.block)
        return cluster

    def _forget(self, cluster: _Cluster) -> None:
        del self._by_value[cluster.value]
        if not cluster.closed:
            self._by_block[cluster.block].remove(cluster)

    def _close(self, block: int, oldest_ns: int) -> None:
        """Close what no read that begins at `oldest_ns` or later may return."""
        own = self._by_block[block]
        closers = sorted(
            (c for c in own if c.live and c.minf < oldest_ns), key=lambda c: c.maxs, reverse=True
        )[:2]
        dead = [c for c in own if any(c.minf < other.maxs for other in closers if other is not c)]
        for cluster in dead:
            own.remove(cluster)
            cluster.closed = True
            if cluster.reported:
                self._forget(cluster)
        if len(own) < 2:
            self._crowded.discard(block)
