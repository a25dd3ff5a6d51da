"""One block's part of a history as clusters: a write and the reads that saw it.

The batch check says only which blocks are in conflict; what follows (kind, witness, graph) looks at
those blocks alone, so it may take its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jepsen_blk.checker.effect import closing_times
from jepsen_blk.checker.findings import Findings
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import INITIAL, F, History, Int64s, Outcome

BEFORE_ALL = -(2**62)
"""Start and finish of the imagined write of the initial value."""
NO_ROW = -1


@dataclass(frozen=True, slots=True)
class Cluster:
    """A write and its reads: `reads` are rows by start, `write` is a row (NO_ROW for the initial value).

    `finish` is the write's own: its acknowledgement, or its closing time if it is indeterminate, in ns.
    `order` is the cluster's place by minf among those of its block.
    """

    value: int
    write: int
    acked: bool
    start: int
    finish: int
    reads: Int64s
    order: int


@dataclass(frozen=True, slots=True)
class BlockClusters:
    """The clusters of a block in order of minf, made when asked for: a hot block may have a million.

    Shapes: `writes` (rows, NO_ROW for the initial value), `values`, `finish`, `minf`, `maxs`, `low`, `high`
    (clusters,); `reads` (reads,), rows of all good reads by start; `by_value`, the same by value and start:
    `low` to `high` there are a cluster's own.
    """

    history: History
    block: int
    writes: Int64s
    values: Int64s
    finish: Int64s
    minf: Int64s
    maxs: Int64s
    low: Int64s
    high: Int64s
    reads: Int64s
    by_value: Int64s

    def cluster(self, place: int) -> Cluster:
        """Return the cluster at this place in order of minf."""
        row = int(self.writes[place])
        return Cluster(
            value=int(self.values[place]),
            write=row,
            acked=bool(row == NO_ROW or self.history.outcome[row] == Outcome.OK),
            start=BEFORE_ALL if row == NO_ROW else int(self.history.start[row]),
            finish=int(self.finish[place]),
            reads=self.by_value[self.low[place] : self.high[place]],
            order=place,
        )

    def starts(self, rows: Int64s) -> Int64s:
        """Return the starts of these rows, in ns."""
        return self.history.start[rows]

    def finishes(self, rows: Int64s) -> Int64s:
        """Return the finishes of these rows (reads or acknowledged writes), in ns."""
        return self.history.finish[rows]


def block_clusters(
    history: History, blocks: Int64s, findings: Findings, deadline: Deadline
) -> Iterator[BlockClusters]:
    """Yield the clusters of each of `blocks`, without bad reads and values that were written twice."""
    rows = np.flatnonzero(np.isin(history.block, blocks))
    write = history.f[rows] == F.WRITE
    read = (history.f[rows] == F.READ) & (history.outcome[rows] == Outcome.OK)
    rows = rows[(write & (history.outcome[rows] != Outcome.FAIL)) | read]
    bad = [np.empty(0, dtype=np.int64), *findings.bad_reads.values()]
    rows = rows[
        ~np.isin(rows, np.concatenate(bad)) & ~np.isin(history.value[rows], history.value[findings.twice])
    ]
    rows = rows[np.argsort(history.block[rows], kind="stable")]
    edges = np.flatnonzero(np.diff(history.block[rows])) + 1
    for own in np.split(rows, edges):
        if len(own):
            yield _of_block(history, own, deadline)


def _of_block(history: History, rows: Int64s, deadline: Deadline) -> BlockClusters:
    writes = rows[history.f[rows] == F.WRITE]
    finish = history.finish[writes].copy()
    opened = np.flatnonzero(history.outcome[writes] == Outcome.INFO)
    finish[opened] = closing_times(history, writes[opened], deadline)
    reads = rows[history.f[rows] == F.READ]
    reads = reads[np.argsort(history.start[reads], kind="stable")]
    by_value = reads[np.argsort(history.value[reads], kind="stable")]
    start = np.append(history.start[writes], BEFORE_ALL)
    acked = np.append(history.outcome[writes] == Outcome.OK, False)  # the initial value counts if it was read
    values = np.append(history.value[writes], INITIAL)
    by = np.argsort(values)
    own = by[np.searchsorted(values[by], history.value[by_value])]  # of each read its cluster
    writes = np.append(writes, NO_ROW)
    finish = np.append(finish, BEFORE_ALL)
    low = np.searchsorted(history.value[by_value], values, side="left")
    high = np.searchsorted(history.value[by_value], values, side="right")
    read = high > low
    minf, maxs = finish.copy(), start.copy()
    np.minimum.at(minf, own, history.finish[by_value])
    np.maximum.at(maxs, own, history.start[by_value])
    live = np.flatnonzero(acked | read)
    live = live[np.lexsort((maxs[live], minf[live]))]
    return BlockClusters(
        history=history,
        block=int(history.block[rows[0]]),
        writes=writes[live],
        values=values[live],
        finish=finish[live],
        minf=minf[live],
        maxs=maxs[live],
        low=low[live],
        high=high[live],
        reads=reads,
        by_value=by_value,
    )
