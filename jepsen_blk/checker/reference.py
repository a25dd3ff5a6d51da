"""The same rule as registers.py in slow, obvious Python: the oracle that the fast one is tested against.

It compares every pair of clusters as the definition says, with no order of comparison to get wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from jepsen_blk.checker.effect import closing_times
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import FOREIGN, INITIAL, TORN, F, History, Outcome


@dataclass(frozen=True, slots=True)
class _Write:
    block: int
    start: int
    finish: float
    outcome: int


@dataclass(slots=True)
class _Cluster:
    minf: float
    maxs: float


def check_slowly(history: History, deadline: Deadline) -> tuple[dict[int, str], set[int]]:
    """Return {row of a bad read: its kind} and the blocks with conflicting clusters.

    Values written twice are not judged, as in registers.py.
    """
    writes, twice = _writes(history, deadline)
    clusters: dict[int, dict[int, _Cluster]] = {}
    for value, write in writes.items():
        if write.outcome == Outcome.OK:
            clusters.setdefault(write.block, {})[value] = _Cluster(write.finish, write.start)
    bad: dict[int, str] = {}
    for row in range(len(history)):
        if history.f[row] != F.READ or history.outcome[row] != Outcome.OK or int(history.value[row]) in twice:
            continue
        kind = _kind(history, row, writes)
        if kind:
            bad[row] = kind
            continue
        value = int(history.value[row])
        own = clusters.setdefault(int(history.block[row]), {})
        if value not in own:
            write = writes.get(value, _Write(0, 0, float("-inf"), Outcome.OK))
            own[value] = _Cluster(write.finish, write.start if value != INITIAL else float("-inf"))
        own[value].minf = min(own[value].minf, int(history.finish[row]))
        own[value].maxs = max(own[value].maxs, int(history.start[row]))
    conflicts = {
        block
        for block, own in clusters.items()
        if any(a.minf < b.maxs and b.minf < a.maxs for a, b in combinations(own.values(), 2))
    }
    return bad, conflicts


def _writes(history: History, deadline: Deadline) -> tuple[dict[int, _Write], set[int]]:
    rows = np.flatnonzero(history.f == F.WRITE)
    writes: dict[int, _Write] = {}
    twice: set[int] = set()
    for row in rows:
        value = int(history.value[row])
        if value in writes:
            twice.add(value)
        finish = float(history.finish[row])
        if history.outcome[row] == Outcome.INFO:
            finish = float(closing_times(history, np.array([row]), deadline)[0])
        writes[value] = _Write(
            int(history.block[row]), int(history.start[row]), finish, int(history.outcome[row])
        )
    return {value: write for value, write in writes.items() if value not in twice}, twice


def _kind(history: History, row: int, writes: dict[int, _Write]) -> str:
    value = int(history.value[row])
    if value == INITIAL:
        return ""
    write = writes.get(value)
    if write is None:
        return {TORN: "torn", FOREIGN: "foreign"}.get(value, "phantom")
    if write.block != history.block[row]:
        return "misdirected"
    if write.outcome == Outcome.FAIL:
        return "aborted-read"
    return "future-read" if history.finish[row] < write.start else ""
