"""The smallest set of operations that already contradicts an atomic register.

Clusters A and B conflict when some a1 of A ends before some b1 of B begins, and some b2 of B ends
before some a2 of A begins. Only the write, the read that ended first, the read that began last, and
the first to end among those that began after the other cluster's write or minf can matter, so few
combinations have to be tried. To the four come the two writes, without which the reads would be phantoms.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from jepsen_blk.checker.clusters import NO_ROW, BlockClusters, Cluster


class _Candidate(NamedTuple):
    row: int
    start: int
    finish: int


def minimal_witness(block: BlockClusters, a: Cluster, b: Cluster, bad_read: int) -> tuple[int, ...]:
    """Return the rows of a smallest witness of the conflict of `a` and `b`, by start.

    Among equally small ones it prefers those with row `bad_read`, which the anomaly's text is about.
    """
    ours = _candidates(block, a, b, bad_read)
    theirs = _candidates(block, b, a, bad_read)
    before = [(x, y) for x, y in product(ours, theirs) if x.finish < y.start]
    after = [(y, x) for x, y in product(ours, theirs) if y.finish < x.start]
    best: tuple[int, ...] = ()
    for pair in product(before, after):
        rows = {candidate.row for both in pair for candidate in both} | {a.write, b.write}
        for cluster in (a, b):
            if not cluster.acked and rows.isdisjoint(cluster.reads.tolist()):
                rows.add(int(cluster.reads[0]))  # an optional write counts only if a read saw it
        rows.discard(NO_ROW)
        if not best or (len(rows), bad_read not in rows) < (len(best), bad_read not in best):
            best = tuple(rows)
    history = block.history
    return tuple(sorted(best, key=lambda row: (int(history.start[row]), row)))


def _candidates(block: BlockClusters, own: Cluster, other: Cluster, bad_read: int) -> list[_Candidate]:
    reads, starts, finishes = own.reads, block.starts(own.reads), block.finishes(own.reads)
    chosen = {_Candidate(own.write, own.start, own.finish)}
    rows: set[int] = set()
    if len(reads):
        rows = {int(reads[finishes.argmin()]), int(reads[starts.argmax()])}
        for moment in (other.finish, int(block.minf[other.order])):
            later = np.flatnonzero(starts > moment)
            if len(later):
                rows.add(int(reads[later[finishes[later].argmin()]]))
        if bad_read in reads:
            rows.add(bad_read)
    for row in rows:
        chosen.add(_Candidate(row, int(block.history.start[row]), int(block.history.finish[row])))
    return sorted(chosen)
