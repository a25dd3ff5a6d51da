"""The history graph of one failing block, to be looked at: which order forbids which.

Bounded to the neighbourhood of the witness, since a graph of a whole history is of no use to an eye
and costs gigabytes. The verdict never depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np

from jepsen_blk.checker.effect import closing_times
from jepsen_blk.checker.lost_tail import adopt_lost_tails
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import FOREIGN, INITIAL, PENDING, PHANTOM, TORN, F, History, Int64s, Outcome

MOST_NODES = 60
_VALUES = {INITIAL: "initial", PHANTOM: "phantom", TORN: "torn", FOREIGN: "foreign"}


def history_graph(history: History, anomaly: Mapping[str, Any]) -> nx.DiGraph:
    """Return the graph of an anomaly as results.json has it (`block` and `ops`).

    Nodes are line numbers (negative: a write that its dead guest never reported) with f, process, block,
    value, start, finish (ns, PENDING if it never ended), outcome, in_witness and label. Edges have a `kind`:
    process, real-time (without those that follow from others), reads-from, or conflict (the orders in
    the witness that contradict each other; it takes precedence where two kinds coincide).
    """
    history = adopt_lost_tails(history)
    line = history.line if history.line is not None else np.arange(len(history), dtype=np.int64)
    witness = witness_rows(history, anomaly)
    rows = _neighbourhood(history, int(anomaly["block"]), witness)
    graph = nx.DiGraph()
    within = set(witness.tolist())
    for row in rows.tolist():
        graph.add_node(int(line[row]), **_attributes(history, row), in_witness=row in within)
    for kind, pairs in (
        ("real-time", _real_time(history, rows)),
        ("process", _process(history, rows)),
        ("reads-from", _reads_from(history, rows)),
        ("conflict", _contradiction(history, witness[history.f[witness] != F.FLUSH])),
    ):
        graph.add_edges_from(((int(line[a]), int(line[b])) for a, b in pairs), kind=kind)
    return graph


def witness_rows(history: History, anomaly: Mapping[str, Any]) -> Int64s:
    """Return the rows of an anomaly's witness; writes that a lost tail wrote are in it, but not in its `ops`.

    Their guest never reported them, so the history must be one in which lost tails have been adopted.
    """
    line = history.line if history.line is not None else np.arange(len(history), dtype=np.int64)
    named = np.isin(line, np.array(anomaly["ops"], dtype=np.int64))
    return np.flatnonzero(named | (line < 0) & np.isin(history.value, history.value[named]))


def _attributes(history: History, row: int) -> dict[str, Any]:
    f = F(int(history.f[row])).name.lower()
    value = int(history.value[row])
    return {
        "f": f,
        "process": int(history.process[row]),
        "block": int(history.block[row]),
        "value": value,
        "start": int(history.start[row]),
        "finish": int(history.finish[row]),
        "outcome": Outcome(int(history.outcome[row])).name.lower(),
        "label": f if f == "flush" else f"{f} {_VALUES.get(value, value)}",
    }


def _neighbourhood(history: History, block: int, witness: Int64s) -> Int64s:
    """Return the witness, the writes and reads of its values, and the nearest in time, by start."""
    own = np.flatnonzero((history.block == block) & (history.f != F.FLUSH))
    own = np.union1d(own, witness)
    if len(own) > MOST_NODES:
        moments = history.start[witness] if len(witness) else history.start[own[:1]]
        near = np.abs(history.start[own][:, None] - moments[None, :]).min(axis=1)
        related = np.isin(history.value[own], history.value[witness]) & (history.f[own] == F.WRITE)
        near = np.where(related, -1, near)
        near[np.isin(own, witness)] = -2
        own = own[np.argsort(near, kind="stable")[:MOST_NODES]]
    return own[np.argsort(history.start[own], kind="stable")]


def _real_time(history: History, rows: Int64s) -> list[tuple[int, int]]:
    """Return the orders by time that no operation in between implies."""
    start, finish = history.start[rows], history.finish[rows]
    pairs = []
    for i, row in enumerate(rows.tolist()):
        after = np.flatnonzero(start > finish[i])
        if len(after):
            horizon = finish[after].min()
            pairs += [(row, int(rows[j])) for j in after.tolist() if start[j] <= horizon]
    return pairs


def _process(history: History, rows: Int64s) -> list[tuple[int, int]]:
    last: dict[tuple[int, int], int] = {}
    pairs = []
    for row in rows.tolist():
        who = (int(history.boot[row]), int(history.process[row]))
        before = last.get(who)
        if before is not None and history.finish[before] <= history.start[row] != PENDING:
            pairs.append((before, row))
        last[who] = row
    return pairs


def _reads_from(history: History, rows: Int64s) -> list[tuple[int, int]]:
    writes = {int(history.value[row]): row for row in rows.tolist() if history.f[row] == F.WRITE}
    return [
        (writes[value], row)
        for row in rows.tolist()
        if history.f[row] == F.READ and (value := int(history.value[row])) in writes
    ]


def _contradiction(history: History, witness: Int64s) -> list[tuple[int, int]]:
    """Return one order of the witness each way between its two values: a1 before b1, b2 before a2.

    Indeterminate writes count as closed as early as any deadline closes them.
    """
    finish = dict(zip(witness.tolist(), history.finish[witness].tolist(), strict=True))
    opened = witness[(history.outcome[witness] == Outcome.INFO) & (history.f[witness] == F.WRITE)]
    closing = closing_times(history, opened, Deadline.ERROR)
    finish.update(zip(opened.tolist(), closing.tolist(), strict=True))
    pairs: dict[tuple[int, int], tuple[int, int]] = {}
    for a in witness.tolist():
        for b in witness.tolist():
            values = int(history.value[a]), int(history.value[b])
            if values[0] != values[1] and finish[a] < history.start[b]:
                pairs.setdefault(values, (a, b))
    return [pair for values, pair in pairs.items() if values[::-1] in pairs]
