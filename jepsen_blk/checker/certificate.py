"""A verdict that can be confirmed without trusting the checker: a witness of each anomaly, or an order.

A history with contradictions comes with the operations of each minimal witness. One without gets a
linearization: for each block its operations in an order that explains every read, and for each the
moment at which it took effect. Both can be confirmed by a program that knows nothing of clusters
(verify_certificate.py). The format is in docs/anomalies.md, "Certificates".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from jepsen_blk.checker.anomalies import Anomaly, find_anomalies
from jepsen_blk.checker.durability import judge
from jepsen_blk.checker.effect import closing_times
from jepsen_blk.checker.index import index_values
from jepsen_blk.checker.lost_tail import adopt_lost_tails
from jepsen_blk.checker.verdict import Verdict
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.interchange import operations
from jepsen_blk.history.record import INITIAL, F, History, Int64s, Outcome
from jepsen_blk.history.rows import select

FORMAT = 1
_BEFORE_ALL = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Linearization:
    """Every operation that took effect, block after block, each block's in an order that explains its reads.

    Shapes: `rows` (placed,), rows of the history; `points` (placed,), in ns, when each took effect, never
    falling within a block; `edges` (blocks + 1,): block i has `rows[edges[i]:edges[i + 1]]`.
    """

    rows: Int64s
    points: Int64s
    edges: Int64s


@dataclass(frozen=True, slots=True)
class _Clusters:
    """Writes that count and the reads of each; shapes (clusters,) but `read_of` (reads,), a place in them.

    The first `len(writes)` clusters are those of `writes`, the others those of the initial value.
    """

    writes: Int64s
    reads: Int64s
    read_of: Int64s
    block: Int64s
    minf: Int64s
    maxs: Int64s
    counts: np.ndarray[Any, np.dtype[np.bool_]]


def certificate(
    history: History, deadline: Deadline, verdict: Verdict, sha256: str
) -> Iterator[dict[str, Any]]:
    """Yield the certificate of a history that was judged with `verdict`, one object a line, the header first.

    `sha256` is the digest of the history's interchange file. The history has no power loss and no uncertain
    clock: what may survive one, or lie within the other, is no matter of one order.
    """
    judged = adopt_lost_tails(history)
    anomalies, _ = find_anomalies(judge(judged, deadline), deadline)
    adopted = _adopted(judged)
    header = {
        "certificate": FORMAT,
        "verdict": verdict,
        "deadline": deadline.value,
        "sha256": sha256,
        "ops": len(history),
        "lost_tails": sorted(history.lost_tails),
        "adopted": list(adopted.values()),
    }
    if anomalies:
        yield header | {"parts": len(anomalies)}
        for anomaly in anomalies:
            yield _witness(history, anomaly, adopted)
        return
    order = linearize(judged, deadline)
    yield header | {"parts": len(order.edges) - 1}
    lines = order.rows if judged.line is None else judged.line[order.rows]
    for low, high in zip(order.edges[:-1].tolist(), order.edges[1:].tolist(), strict=True):
        yield {
            "block": int(judged.block[order.rows[low]]),
            "lines": lines[low:high].tolist(),
            "points": order.points[low:high].tolist(),
        }


def linearize(history: History, deadline: Deadline) -> Linearization:
    """Give every operation that took effect a place and a point; only for a history without contradictions.

    Clusters, minf, maxs and the zones are those of registers.py (Gibbons and Korach, 1997). A cluster is
    forward if minf < maxs, else backward. The clusters of a block are put in order of min(minf, maxs), of
    equal ones the backward ones first, and each gets a point P: a forward one its minf, a backward one the
    greater of its maxs and the maxs of the last forward one before it. In a cluster the write comes first,
    then the reads by start; an operation's point is the greater of its start and P.

    Why this is right for every history without contradictions:

    1. Forward zones (minf, maxs) of a block do not overlap: F and G overlap iff minf(F) < maxs(G) and
       minf(G) < maxs(F), which is a conflict. So of the forward ones before a cluster in our order the
       last one, F, has the greatest maxs, and a forward cluster G after F has minf(G) >= maxs(F).
    2. A backward cluster B has maxs(B) <= P(B) <= minf(B). If P(B) is maxs(B), that is what backward means.
       Else P(B) = maxs(F) > maxs(B), and minf(F) < maxs(B) since F stands before B and backward ones come
       first on a tie. So F must precede B, and as they do not conflict, minf(B) >= maxs(F).
    3. Every point lies in its operation's interval. It is >= start by definition. A backward cluster's P is
       <= minf, hence <= the finish of each of its operations, and >= each start. In a forward one P = minf
       is <= every finish, and so is the operation's own start.
    4. Points never fall. Within a cluster: no read ended before its write began, so the write's start is
       <= minf <= finish; its point is thus P, and the reads follow by start. Between clusters: a forward
       cluster's points lie in [minf, maxs], a backward one's are all P. Take neighbours A, B in the order.
       B forward: if A is forward too, see 1. If A is backward, P(A) is maxs(A) <= min(minf, maxs)(B) =
       minf(B), or the maxs of a forward one before B, which is <= minf(B) by 1. B backward: P(B) is
       >= the maxs of the last forward one before it, and >= maxs(B) >= maxs(A) if A is backward too.
    5. Every read sees the latest write before it, since clusters stand one after another, write first.
    6. Points in the intervals that never fall respect time: if a ended before b began, point(a) <=
       finish(a) < start(b) <= point(b), so a stands before b. Equal stamps may take either order.

    The initial value is a cluster with minf before all times and no write: nothing sorts before it.
    An indeterminate write has its closing time as finish (effect.py) and is placed only if a read saw it;
    its point is no later than that read's finish, so one that is never closed needs no special care.
    """
    clusters = _clusters(history, deadline)
    live = np.flatnonzero(clusters.counts)
    minf, maxs, block = clusters.minf[live], clusters.maxs[live], clusters.block[live]
    order = np.lexsort((minf < maxs, np.minimum(minf, maxs), block))
    live, minf, maxs, block = live[order], minf[order], maxs[order], block[order]
    points = np.minimum(minf, maxs)
    if len(live):
        last = np.maximum.accumulate(np.where(minf < maxs, np.arange(len(live)), 0))
        inside = (minf >= maxs) & (minf[last] < maxs[last]) & (block[last] == block)
        points[inside] = np.maximum(points[inside], maxs[last[inside]])
    rank = np.full(len(clusters.counts), -1, dtype=np.int64)
    rank[live] = np.arange(len(live))
    placed = np.flatnonzero(clusters.counts[: len(clusters.writes)])
    rows = np.append(clusters.writes[placed], clusters.reads)
    rank_of = np.append(rank[placed], rank[clusters.read_of])
    by_start = history.start[rows]
    by_start[: len(placed)] = _BEFORE_ALL
    order = np.lexsort((by_start, rank_of))
    rows, rank_of = rows[order], rank_of[order]
    turns = np.flatnonzero(np.diff(history.block[rows])) + 1
    return Linearization(
        rows=rows,
        points=np.maximum(history.start[rows], points[rank_of]),
        edges=np.concatenate(([0], turns, [len(rows)])) if len(rows) else np.zeros(1, dtype=np.int64),
    )


def _clusters(history: History, deadline: Deadline) -> _Clusters:
    writes = np.flatnonzero((history.f == F.WRITE) & (history.outcome != Outcome.FAIL))
    reads = np.flatnonzero((history.f == F.READ) & (history.outcome == Outcome.OK))
    values = index_values(history)
    at = np.zeros(values.size + 1, dtype=np.int64)
    at[values.places(history.value[writes])] = np.arange(len(writes))
    read_of = at[values.places(history.value[reads])]
    initial = np.flatnonzero(history.value[reads] == INITIAL)
    blocks, which = np.unique(history.block[reads[initial]], return_inverse=True)
    read_of[initial] = len(writes) + which
    never = np.full(len(blocks), _BEFORE_ALL)
    opened = np.flatnonzero(history.outcome[writes] == Outcome.INFO)
    minf = np.append(history.finish[writes], never)
    minf[opened] = closing_times(history, writes[opened], deadline)
    maxs = np.append(history.start[writes], never)
    counts = np.append(history.outcome[writes] == Outcome.OK, np.ones(len(blocks), dtype=np.bool_))
    np.minimum.at(minf, read_of, history.finish[reads])
    np.maximum.at(maxs, read_of, history.start[reads])
    counts[read_of] = True
    block = np.append(history.block[writes], blocks)
    return _Clusters(writes, reads, read_of, block, minf, maxs, counts)


def _adopted(judged: History) -> dict[int, dict[str, Any]]:
    """Return by value the writes that stand in no file, with the negative lines that name them."""
    if judged.line is None:
        return {}
    rows = np.flatnonzero(judged.line < 0)
    lines = judged.line[rows].tolist()
    return {
        entry["value"]: {"line": line, **entry} for line, entry in zip(lines, _of(judged, rows), strict=True)
    }


def _witness(
    history: History,
    anomaly: Anomaly,
    adopted: dict[int, dict[str, Any]],
) -> dict[str, Any]:
    """Return an anomaly with its operations in full; an anomaly's own `ops` have no adopted writes."""
    lines = np.array(anomaly.ops, dtype=np.int64)
    rows = lines if history.line is None else np.searchsorted(history.line, lines)
    ops = [{"line": line, **entry} for line, entry in zip(anomaly.ops, _of(history, rows), strict=True)]
    named = (anomaly.older, anomaly.newer)
    ops += [entry for value, entry in adopted.items() if value in named]
    return {"kind": anomaly.kind, "block": anomaly.block, "text": anomaly.text, "ops": ops}


def _of(history: History, rows: Int64s) -> Iterator[dict[str, Any]]:
    return map(msgspec.to_builtins, operations(select(history, rows), slice(None)))
