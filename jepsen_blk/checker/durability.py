"""What a power loss of the storage may take and what it may not: the judgement across crashes.

eras.py cuts the history at its crashes; between them each block is an atomic register, and registers.py
judges that. This module judges what survived, exactly and without search:

- A write d is durable in its home era if it was acknowledged before the crash that ended the era, and carried
  FUA or was acknowledged before the start of a flush that was completed before that crash. Comparisons are
  strict: a flush that began at the very time of an acknowledgement does not cover it.
- At a crash the block may fall back to any content that it had since all durable writes took effect. So v may
  survive iff the era can be put in an order in which every durable d other than v comes before v.
- That fails iff some chain of clusters leads from v to a d, each ending before the next begins (minf of the
  one < maxs of the other, see registers.py). No chain needs more than one cluster X between: where v does
  not lead to d itself, minf(X) < maxs(d) <= minf(v) < maxs(X), so X is a forward zone that holds minf(v); a
  second one in between would be a forward zone that overlaps X, which contradicts the era anyway. So let
      H     = the greatest maxs over the durable d other than v,
      t*(v) = the least of minf(v) and minf of the forward zone that holds minf(v):
  v may survive iff t*(v) >= H. What an era began with has minf = the crash before it, and comes first.

Blocks are independent. A value that lived through several crashes is asked at each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from jepsen_blk.checker.effect import closing_times
from jepsen_blk.checker.engine import Engine
from jepsen_blk.checker.eras import NONE, Era, split_at_crashes
from jepsen_blk.checker.findings import Findings
from jepsen_blk.checker.registers import check_registers
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import INITIAL, F, History, Int64s, Outcome


@dataclass(frozen=True, slots=True)
class Loss:
    """A crash after `era` took a durable write: `survivor` is a value, `read` the row that saw it later."""

    block: int
    survivor: int
    read: int
    era: Era


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judged history: `findings` of the whole, without its conflicts where it has crashes.

    `parts` are the histories between crashes with their own findings (without crashes: the whole), `losses`
    the durable writes that crashes took, `clashes` (n, 2) pairs of reads that saw two survivors of a crash.
    `first_seen`: of each value whose write a crash cut off the row of the first read of it.
    """

    history: History
    findings: Findings
    parts: tuple[tuple[History, Findings], ...]
    losses: tuple[Loss, ...]
    clashes: Int64s
    first_seen: dict[int, int]

    def contradicts(self) -> bool:
        """Tell whether anything in the history contradicts the storage's promises."""
        whole = bool(self.findings.bad_reads) or len(self.findings.twice) > 0
        ordered = any(len(found.conflicts) for _, found in self.parts)
        return whole or ordered or bool(self.losses) or len(self.clashes) > 0


@dataclass(frozen=True, slots=True)
class Witness:
    """Why a survivor was impossible: the value of the durable write, and the line numbers by start.

    `flushed`: a flush made it durable, not FUA. `since_ns`: when it was first acknowledged or seen.
    """

    value: int
    flushed: bool
    since_ns: int
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Clusters:
    """The clusters of some blocks in an era, shapes (clusters,): first the writes by value, then each
    block's initial value; `rows` of the writes in the era (NONE for the initial value), times in ns."""

    rows: Int64s
    places: Int64s
    values: Int64s
    closed: Int64s
    minf: Int64s
    maxs: Int64s
    durable: npt.NDArray[np.bool_]

    def starts(self, part: History) -> Int64s:
        """Return the starts of the writes themselves; that of an initial value is NONE."""
        return np.where(self.rows == NONE, NONE, part.start[self.rows])

    def of(self, values: Int64s, places: Int64s) -> Int64s:
        """Return the clusters of these values in the blocks at these places."""
        writes = int(np.count_nonzero(self.rows != NONE))
        return np.where(values == INITIAL, writes + places, np.searchsorted(self.values[:writes], values))


def judge(history: History, deadline: Deadline, engine: Engine = check_registers) -> Judgement:
    """Judge a history under one deadline, across its crashes; raises what the engine raises."""
    findings = engine(history, deadline)
    nothing = np.empty(0, dtype=np.int64)
    if not history.crashes:
        return Judgement(history, findings, ((history, findings),), (), nothing.reshape(0, 2), {})
    split = split_at_crashes(history, findings, deadline)
    parts = tuple((era.history, engine(era.history, deadline)) for era in split.eras)
    losses = [
        loss
        for era, (_, found) in zip(split.eras, parts, strict=True)
        for loss in _losses(history, era, found.conflicts, deadline)
    ]
    whole = replace(findings, conflicts=nothing)
    return Judgement(history, whole, parts, tuple(losses), split.clashes, split.first_seen)


def durable(history: History, part: History, writes: Int64s, crash_ns: int) -> npt.NDArray[np.bool_]:
    """Tell which rows of writes of `part`, an era of the history or all of it, had to survive a crash."""
    flushed = history.start[_flushes(history, crash_ns)].max(initial=NONE)
    acked = (part.outcome[writes] == Outcome.OK) & (part.finish[writes] < crash_ns)
    covered = (part.finish[writes] < flushed) | np.isin(part.value[writes], history.fua)
    return np.asarray(acked & covered)


def explain_loss(history: History, loss: Loss, deadline: Deadline) -> Witness:
    """Return the durable write that the survivor of `loss` must precede, and the operations that prove it."""
    era = loss.era
    clusters = _clusters(history, era, np.array([loss.block]), deadline)
    v = int(clusters.of(np.array([loss.survivor]), np.array([0]))[0])
    zone = int(_zone_around(clusters, np.array([v]))[0])
    durable = clusters.durable & (np.arange(len(clusters.rows)) != v)
    d = int(np.where(durable, clusters.maxs, NONE).argmax())
    chain = [v, d] if clusters.minf[v] < clusters.maxs[d] else [v, zone, d]
    rows = {int(clusters.rows[cluster]) for cluster in chain}
    for before, after in pairwise(chain):
        if clusters.closed[before] >= clusters.starts(era.history)[after]:
            rows |= {_first_done(loss, clusters, before), _last_begun(loss, clusters, after)}
    part = era.history
    ops = [(int(part.start[row]), _line(part, row)) for row in rows - {NONE}]
    flushed = not np.isin(clusters.values[d], history.fua)
    whole = [loss.read]
    if flushed:
        whole.append(_first_flush(history, int(clusters.closed[d]), era.end_ns))
    ops += [(int(history.start[row]), _line(history, row)) for row in whole]
    lines = dict.fromkeys(line for _, line in sorted(ops) if line >= 0)
    return Witness(int(clusters.values[d]), flushed, int(clusters.minf[d]), tuple(lines))


def _losses(history: History, era: Era, broken: Int64s, deadline: Deadline) -> Iterator[Loss]:
    """Yield what could not have survived the era; a block at odds with itself has no order to ask."""
    asked = ~np.isin(era.blocks, broken)
    blocks, values, reads = era.blocks[asked], era.values[asked], era.reads[asked]
    if not len(blocks):
        return
    clusters = _clusters(history, era, blocks, deadline)
    survivor = clusters.of(values, np.arange(len(blocks)))
    zone = _zone_around(clusters, survivor)
    earliest = np.where(zone == NONE, clusters.minf[survivor], clusters.minf[zone])
    others = clusters.durable.copy()
    others[survivor] = False
    greatest = np.full(len(blocks), NONE, dtype=np.int64)
    np.maximum.at(greatest, clusters.places[others], clusters.maxs[others])
    for place in np.flatnonzero(greatest > earliest).tolist():
        yield Loss(int(blocks[place]), int(values[place]), int(reads[place]), era)


def _clusters(history: History, era: Era, blocks: Int64s, deadline: Deadline) -> _Clusters:
    part = era.history
    rows = np.flatnonzero(np.isin(part.block, blocks))
    writes = rows[part.f[rows] == F.WRITE]
    writes = writes[np.argsort(part.value[writes])]
    reads = rows[part.f[rows] == F.READ]
    closed = part.finish[writes]
    opened = np.flatnonzero(part.outcome[writes] == Outcome.INFO)
    closed[opened] = closing_times(part, writes[opened], deadline)
    initial = np.full(len(blocks), NONE, dtype=np.int64)
    closed = np.append(closed, initial)
    clusters = _Clusters(
        rows=np.append(writes, initial),
        places=np.append(np.searchsorted(blocks, part.block[writes]), np.arange(len(blocks))),
        values=np.append(part.value[writes], np.full(len(blocks), INITIAL)),
        closed=closed,
        minf=closed.copy(),
        maxs=np.append(part.start[writes], initial),
        durable=np.append(durable(history, part, writes, era.end_ns), initial != NONE),
    )
    own = clusters.of(part.value[reads], np.searchsorted(blocks, part.block[reads]))
    np.minimum.at(clusters.minf, own, part.finish[reads])
    np.maximum.at(clusters.maxs, own, part.start[reads])
    return clusters


def _flushes(history: History, crash_ns: int) -> Int64s:
    """Return the rows of the flushes that were completed before a crash."""
    done = (history.f == F.FLUSH) & (history.outcome == Outcome.OK) & (history.finish < crash_ns)
    return np.flatnonzero(done)


def _zone_around(clusters: _Clusters, asked: Int64s) -> Int64s:
    """Return for each asked cluster the forward zone of its block that holds its minf, or NONE.

    The zones of a block lie apart, so the last one to begin before can be the only one.
    """
    zones = np.flatnonzero(clusters.minf < clusters.maxs)
    both = np.concatenate([asked, zones])
    is_zone = np.arange(len(both)) >= len(asked)
    order = np.lexsort((is_zone, clusters.minf[both], clusters.places[both]))
    last = np.maximum.accumulate(np.where(is_zone[order], np.arange(len(both)), NONE))
    found = np.full(len(both), NONE, dtype=np.int64)
    found[order] = np.where(last == NONE, NONE, both[order][last])
    zone = found[: len(asked)]
    holds = (zone != NONE) & (clusters.places[zone] == clusters.places[asked])
    return np.where(holds & (clusters.minf[asked] < clusters.maxs[zone]), zone, NONE)


def _first_flush(history: History, acked_ns: int, crash_ns: int) -> int:
    """Return the row of the flush that was completed first of those that cover an acknowledgement."""
    rows = _flushes(history, crash_ns)
    rows = rows[history.start[rows] > acked_ns]
    return int(rows[history.finish[rows].argmin()])


def _first_done(loss: Loss, clusters: _Clusters, cluster: int) -> int:
    """Return the row of the cluster's operation that ended first, NONE for the write of an initial value."""
    if clusters.closed[cluster] == clusters.minf[cluster]:
        return int(clusters.rows[cluster])
    reads = _seen(loss, clusters, cluster)
    return int(reads[loss.era.history.finish[reads].argmin()])


def _last_begun(loss: Loss, clusters: _Clusters, cluster: int) -> int:
    """Return the row of the cluster's operation that began last."""
    part = loss.era.history
    if clusters.starts(part)[cluster] == clusters.maxs[cluster]:
        return int(clusters.rows[cluster])
    reads = _seen(loss, clusters, cluster)
    return int(reads[part.start[reads].argmax()])


def _seen(loss: Loss, clusters: _Clusters, cluster: int) -> Int64s:
    part = loss.era.history
    own = (part.f == F.READ) & (part.value == clusters.values[cluster])
    return np.flatnonzero(own & (part.block == loss.block))


def _line(history: History, row: int) -> int:
    return row if history.line is None else int(history.line[row])
