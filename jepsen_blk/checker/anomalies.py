"""From what the batch check found to anomalies that a person can act on.

One damage must not become a flood: each block is reported once a kind, its conflicts only by the most telling
kind, and the whole list is bounded, with a reason that says how much was left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jepsen_blk.checker.classify import RANKS, Conflict, could_be, most_telling
from jepsen_blk.checker.clusters import NO_ROW, BlockClusters, block_clusters
from jepsen_blk.checker.durability import Judgement, Loss, explain_loss
from jepsen_blk.checker.witness import minimal_witness
from jepsen_blk.checker.wording import show_ms, tell_conflict, tell_undetermined
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import INITIAL, PENDING, F, History, Int64s

MOST_SHOWN = 100
KINDS = (
    "future-read",
    "split-brain",
    "torn",
    "misdirected",
    "aborted-read",
    "durability-loss",
    "split-survivor",
    *(kind for kind in RANKS if kind != "split-brain"),
    "phantom",
)
"""All kinds, in the order in which they are reported."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One contradiction: its kind, where, and the line numbers (from 0) of a minimal witness by start.

    `severity_ms` is for how long the newer write had been acknowledged, seen, or if it came late, closed when
    the bad read began.
    `older` and `newer` are the values at odds, None where there is only one or none. `could_be` names the
    other kinds that it may be as well: it is undetermined, since no read came later to tell them apart.
    """

    kind: str
    block: int
    ops: tuple[int, ...]
    severity_ms: float
    text: str
    older: int | None = None
    newer: int | None = None
    could_be: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the object of results.json."""
        return {
            "kind": self.kind,
            "block": self.block,
            "ops": list(self.ops),
            "severity_ms": self.severity_ms,
            "text": self.text,
            "could_be": list(self.could_be),
        }


def find_anomalies(judged: Judgement, deadline: Deadline) -> tuple[tuple[Anomaly, ...], str | None]:
    """Return at most MOST_SHOWN anomalies, the most telling kinds first, and a word on those left out."""
    history, findings = judged.history, judged.findings
    found = [*_duplicates(history, findings.twice)]
    total = len(set(history.value[findings.twice].tolist()))
    for kind, rows in findings.bad_reads.items():
        first = _first_of_each_block(history, rows)
        total += len(first)
        found += [_bad_read(history, kind, int(row)) for row in first[:MOST_SHOWN]]
    for part, own in judged.parts:
        total += len(own.conflicts)
        for block in block_clusters(part, own.conflicts[:MOST_SHOWN], own, deadline):
            conflict = most_telling(block, deadline)
            if conflict:
                found.append(_conflict(block, conflict))
    lost = list({loss.block: loss for loss in reversed(judged.losses)}.values())
    clashes = _first_of_each_block(history, judged.clashes[:, 1])
    total += len(lost) + len(clashes)
    found += [_loss(history, loss, deadline) for loss in lost[:MOST_SHOWN]]
    found += [_clash(judged, int(row)) for row in clashes[:MOST_SHOWN]]
    found = [_with_first_reads(judged, anomaly) for anomaly in found]
    found.sort(key=lambda anomaly: (KINDS.index(anomaly.kind), anomaly.block))
    left_out = total - min(len(found), MOST_SHOWN)
    more = f"{left_out} more anomalies are not listed" if left_out else None
    return tuple(found[:MOST_SHOWN]), more


def _lines(history: History, rows: tuple[int, ...]) -> tuple[int, ...]:
    """Return the line numbers of rows; adopted writes stand in no file and have none."""
    if history.line is None:
        return rows
    return tuple(int(line) for line in history.line[list(rows)] if line >= 0)


def _first_of_each_block(history: History, rows: Int64s) -> Int64s:
    by_start = rows[np.argsort(history.start[rows], kind="stable")]
    return by_start[np.sort(np.unique(history.block[by_start], return_index=True)[1])]


def _conflict(block: BlockClusters, conflict: Conflict) -> Anomaly:
    severity_ms = round((int(block.history.start[conflict.bad_read]) - conflict.since_ns) / 1e6, 6)
    rows = minimal_witness(block, conflict.older, conflict.newer, conflict.bad_read)
    others = could_be(block, conflict)
    return Anomaly(
        kind=conflict.kind,
        block=block.block,
        ops=_lines(block.history, rows),
        severity_ms=severity_ms,
        text=tell_conflict(block, conflict, severity_ms) + tell_undetermined(others),
        older=conflict.older.value,
        newer=conflict.newer.value,
        could_be=others,
    )


def _loss(history: History, loss: Loss, deadline: Deadline) -> Anomaly:
    """A durable write that a power loss took: an older content of the block survived instead."""
    witness = explain_loss(history, loss, deadline)
    severity_ms = round((int(history.start[loss.read]) - witness.since_ns) / 1e6, 6)
    how = "was acknowledged and flushed" if witness.flushed else "was acknowledged with FUA"
    back = "the initial value" if loss.survivor == INITIAL else f"{loss.survivor}, which came before it"
    return Anomaly(
        kind="durability-loss",
        block=loss.block,
        ops=witness.lines,
        severity_ms=severity_ms,
        text=f"write {witness.value} to block {loss.block} {how}, then the storage lost power; "
        f"{show_ms(severity_ms)} after the acknowledgement a read returned {back}",
        older=loss.survivor,
        newer=witness.value,
    )


def _clash(judged: Judgement, row: int) -> Anomaly:
    """Two reads after a power loss, of two values from before it."""
    history = judged.history
    other = int(judged.clashes[judged.clashes[:, 1] == row][0, 0])
    rows = tuple(sorted((other, row), key=lambda row: (int(history.start[row]), row)))
    first, second = (int(history.value[row]) for row in rows)
    shown = ["the initial value" if value == INITIAL else str(value) for value in (first, second)]
    block = int(history.block[row])
    return Anomaly(
        kind="split-survivor",
        block=block,
        ops=_lines(history, _with_writes(history, rows)),
        severity_ms=round((int(history.start[rows[1]]) - int(history.finish[rows[0]])) / 1e6, 6),
        text=f"block {block} held {shown[0]} after the storage had lost power, and later {shown[1]}; "
        "neither was written since, and only one can have survived",
        older=second,
        newer=first,
    )


def _with_first_reads(judged: Judgement, anomaly: Anomaly) -> Anomaly:
    """Add the reads that show that a write took effect before the crash that cut it off, and not after it."""
    history = judged.history
    line = history.line if history.line is not None else np.arange(len(history))
    rows = np.flatnonzero(np.isin(line, anomaly.ops))
    for value in {anomaly.older, anomaly.newer}:
        first = judged.first_seen.get(value, NO_ROW) if value is not None else NO_ROW
        if first == NO_ROW:
            continue
        times = (crash.time_ns for crash in history.crashes)
        crash_ns = min((time for time in times if time > history.finish[first]), default=PENDING)
        reads = (history.f[rows] == F.READ) & (history.value[rows] == value)
        if not (reads & (history.finish[rows] < crash_ns)).any():
            rows = np.append(rows, first)
    by_start = rows[np.argsort(history.start[rows], kind="stable")]
    return replace(anomaly, ops=_lines(history, tuple(by_start.tolist())))


def _with_writes(history: History, reads: tuple[int, ...]) -> tuple[int, ...]:
    """Return the rows of these reads and of the writes that they saw, by start."""
    wrote = np.flatnonzero((history.f == F.WRITE) & np.isin(history.value, history.value[list(reads)]))
    return tuple(sorted((*wrote.tolist(), *reads), key=lambda row: (int(history.start[row]), row)))


def _bad_read(history: History, kind: str, row: int) -> Anomaly:
    value, block = int(history.value[row]), int(history.block[row])
    writes = np.flatnonzero((history.value == value) & (history.f == F.WRITE))
    write = int(writes[0]) if len(writes) else None
    severity_ms = 0.0
    if kind == "future-read" and write is not None:
        severity_ms = round((int(history.start[write]) - int(history.finish[row])) / 1e6, 6)
    where = "" if write is None else str(int(history.block[write]))
    texts = {
        "torn": f"a read of block {block} found two different writes in one block",
        "foreign": f"a read of block {block} found data of another run",
        "phantom": f"a read of block {block} found "
        + ("bytes that no write of any run left" if value < 0 else f"value {value}, which nothing wrote"),
        "misdirected": f"a read of block {block} returned {value}, which was written to block {where}",
        "aborted-read": f"a read of block {block} returned {value}, whose write certainly failed",
        "future-read": f"a read of block {block} returned {value} and ended {show_ms(severity_ms)} before "
        "its write began: the harness or a clock is wrong",
    }
    rows = (row,) if write is None else tuple(sorted((write, row), key=lambda r: (int(history.start[r]), r)))
    return Anomaly(
        kind="phantom" if kind == "foreign" else kind,
        block=block,
        ops=_lines(history, rows),
        severity_ms=severity_ms,
        text=texts[kind],
        older=value if value > 0 else None,
    )


def _duplicates(history: History, twice: Int64s) -> list[Anomaly]:
    """Two writes of one value: two copies of a guest, or a tester that repeats itself."""
    found: dict[int, list[int]] = {}
    for row in twice[: 4 * MOST_SHOWN].tolist():
        found.setdefault(int(history.value[row]), []).append(row)
    return [
        Anomaly(
            kind="split-brain",
            block=int(history.block[rows[0]]),
            ops=_lines(history, (rows[0], rows[1])),
            severity_ms=0.0,
            text=f"value {value} was written twice, to block {int(history.block[rows[0]])} and to block "
            f"{int(history.block[rows[1]])}: two copies of the guest are running",
            older=value,
            newer=value,
        )
        for value, rows in found.items()
        if len(rows) > 1
    ][:MOST_SHOWN]
