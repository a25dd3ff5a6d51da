"""One block's part of a history as clusters: a write and the reads that saw it.

The batch check says only which blocks are in conflict; what follows (kind, witness, graph) looks at
those blocks alone, so it may take its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jepsen_blk.checker.effect import closing_times
from jepsen_blk.checker.registers import Findings
from jepsen_blk.history.record import INITIAL, PENDING, F, History, Int64s, Outcome
from jepsen_blk.spec import Deadline

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
    """The clusters of a block in order of minf; the columns belong to the whole history, by row.

    Shapes: `minf`, `maxs`, `seen` (clusters,); `reads` (reads,), rows of all good reads by start.
    """

    history: History
    block: int
    clusters: tuple[Cluster, ...]
    minf: Int64s
    maxs: Int64s
    reads: Int64s

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
    reads = rows[history.f[rows] == F.READ]
    reads = reads[np.argsort(history.start[reads], kind="stable")]
    finish = history.finish[writes].copy()
    opened = np.flatnonzero(history.outcome[writes] == Outcome.INFO)
    finish[opened] = closing_times(history, writes[opened], deadline)
    by_value = reads[np.argsort(history.value[reads], kind="stable")]
    values = history.value[by_value]
    found: list[tuple[int, int, Cluster]] = []
    for row, end in [*zip(writes.tolist(), finish.tolist(), strict=True), (NO_ROW, BEFORE_ALL)]:
        value = INITIAL if row == NO_ROW else int(history.value[row])
        low, high = np.searchsorted(values, [value, value + 1])
        own = by_value[low:high]
        acked = row == NO_ROW or history.outcome[row] == Outcome.OK
        if not len(own) and (row == NO_ROW or not acked):
            continue
        start = BEFORE_ALL if row == NO_ROW else int(history.start[row])
        minf = min(end, int(history.finish[own].min(initial=PENDING)))
        maxs = max(start, int(history.start[own].max(initial=BEFORE_ALL)))
        found.append((minf, maxs, Cluster(value, row, bool(acked), start, end, own, 0)))
    found.sort(key=lambda item: item[:2])
    clusters = [
        Cluster(c.value, c.write, c.acked, c.start, c.finish, c.reads, place)
        for place, (_, _, c) in enumerate(found)
    ]
    return BlockClusters(
        history=history,
        block=int(history.block[rows[0]]),
        clusters=tuple(clusters),
        minf=np.array([item[0] for item in found], dtype=np.int64),
        maxs=np.array([item[1] for item in found], dtype=np.int64),
        reads=reads,
    )
