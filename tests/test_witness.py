"""A witness contradicts an atomic register by itself, and no smaller one of its two writes does."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from brute_force import contradicts
from histories import INFO, OK, Op, atomic, history, read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_blk.checker.clusters import block_clusters
from jepsen_blk.checker.graph import MOST_NODES, history_graph
from jepsen_blk.checker.registers import check_registers
from jepsen_blk.checker.verdict import check
from jepsen_blk.checker.witness import minimal_witness
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import F, Fence, History

NAMES = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")
VALUE_KINDS = {"phantom", "torn", "misdirected", "future-read", "aborted-read"}


@st.composite
def one_block(draw: st.DrawFn) -> History:
    ops = []
    for value in (1, 2, 3):
        start = draw(st.integers(0, 12))
        outcome = draw(st.sampled_from([OK, OK, INFO]))
        ops.append(write(value, start, start + draw(st.integers(0, 5)), outcome=outcome))
    for _ in range(draw(st.integers(2, 6))):
        start = draw(st.integers(0, 30))
        ops.append(read(draw(st.integers(0, 3)), start, start + draw(st.integers(0, 4))))
    return history(ops, [Fence(draw(st.integers(0, 20)))])


@settings(max_examples=700, deadline=None, derandomize=True)
@given(one_block(), st.sampled_from(list(Deadline)))
def test_a_witness_contradicts_and_none_of_its_two_writes_is_smaller(
    found: History, deadline: Deadline
) -> None:
    assert_smallest(found, deadline)


def assert_smallest(found: History, deadline: Deadline) -> None:
    for anomaly in check(found, deadline).anomalies:
        if anomaly.kind in VALUE_KINDS:
            continue
        assert contradicts(found, list(anomaly.ops), deadline)
        good = [row for row in range(len(found)) if found.value[row] in (anomaly.older, anomaly.newer)]
        future = {
            row
            for row in good
            for other in good
            if found.f[row] == F.READ
            and found.f[other] == F.WRITE
            and found.value[row] == found.value[other]
            and found.finish[row] < found.start[other]
        }
        good = [row for row in good if row not in future]
        for size in range(1, len(anomaly.ops)):
            assert not any(contradicts(found, list(rows), deadline) for rows in combinations(good, size))


SMALLEST: dict[str, tuple[list[Op], list[Op], tuple[int, ...]]] = {
    "the read that began last": (
        [write(1, 33, 39), write(2, 13, 15, outcome=INFO)],
        [read(2, 55, 55), read(1, 78, 83), read(2, 36, 39), read(1, 43, 43)],
        (1, 0, 2, 3),
    ),
    "the first done of those after the other write": (
        [write(1, 0, 7), write(2, 4, 12, outcome=INFO)],
        [read(2, 11, 13), read(2, 4, 4), read(1, 1, 1), read(1, 10, 11), read(2, 8, 9)],
        (0, 1, 6, 5),
    ),
    "the first done of those after the other's first read": (
        [write(1, 8, 21, outcome=INFO), write(2, 12, 16, outcome=INFO)],
        [read(2, 25, 27), read(1, 12, 15), read(2, 34, 41), read(1, 29, 46), read(2, 13, 22)],
        (0, 1, 3, 2, 5),
    ),
    "one that began when the other write was done is not after it": (
        [write(1, 0, 6), write(2, 2, 8, outcome=INFO)],
        [read(2, 6, 8), read(2, 8, 8), read(1, 10, 21), read(2, 10, 15), read(2, 9, 16)],
        (0, 1, 3, 4),
    ),
    "of several the read that the text is about": (
        [write(1, 0, 10), write(2, 20, 30)],
        [read(1, 32, 35), read(2, 40, 50), read(1, 60, 70), read(1, 80, 90)],
        (0, 1, 4),
    ),
}
"""Writes, reads, and a witness that holds an operation which is chosen for one reason only."""


@pytest.mark.parametrize("choice", SMALLEST)
def test_a_smallest_witness_is_found_whatever_operations_it_is_made_of(choice: str) -> None:
    writes, reads, rows = SMALLEST[choice]
    found = history([*writes, *reads])
    assert_smallest(found, Deadline.FENCE)
    (anomaly,) = check(found).anomalies
    assert anomaly.ops == rows


def test_a_witness_against_the_initial_value_has_no_row_for_its_write() -> None:
    found = history([write(2, 20, 30), read(0, 60, 70)])
    (block,) = block_clusters(found, np.array([0]), check_registers(found), Deadline.FENCE)
    assert minimal_witness(block, block.cluster(0), block.cluster(1), bad_read=1) == (0, 1)


def damaged() -> tuple[History, dict[str, object]]:
    """A block with 600 healthy operations and a stale overwrite in their midst."""
    healthy = atomic(11, ops=600, blocks=1, info=0)
    last = int(healthy.finish.max())
    w1, w2 = write(9001, last + 10, last + 20), write(9002, last + 30, last + 40)
    bad = history([w1, w2, read(9002, last + 50, last + 60), read(9001, last + 70, last + 80)])
    merged = {name: np.append(getattr(healthy, name), getattr(bad, name)) for name in NAMES}
    whole = History(**merged)
    (anomaly,) = check(whole).anomalies
    return whole, anomaly.to_json()


def test_the_graph_is_bounded_and_holds_the_witness() -> None:
    whole, anomaly = damaged()
    graph = history_graph(whole, anomaly)
    assert graph.number_of_nodes() == MOST_NODES
    shown = {node for node, data in graph.nodes(data=True) if data["in_witness"]}
    assert sorted(shown) == sorted(anomaly["ops"])  # type: ignore[call-overload]
    node = graph.nodes[min(shown)]
    fields = {"f", "process", "block", "value", "start", "finish", "outcome", "in_witness", "label"}
    assert set(node) == fields
    assert node["label"] == "write 9001"


def test_the_graph_shows_the_orders_that_contradict_each_other() -> None:
    whole, anomaly = damaged()
    graph = history_graph(whole, anomaly)
    edges = {kind: [] for kind in ("process", "real-time", "reads-from", "conflict")}  # type: ignore[var-annotated]
    for a, b, data in graph.edges(data=True):
        edges[data["kind"]].append((a, b))
    assert all(edges.values())
    first, second, _, bad = range(len(whole) - 4, len(whole))
    assert sorted(edges["conflict"]) == [(first, second), (second, bad)]
    assert (first, bad) in edges["reads-from"]


@pytest.mark.parametrize("late", [False, True])
def test_the_graph_of_a_write_that_was_never_reported_has_its_contradiction(late: bool) -> None:
    ops = [read(0, 20, 30), read(2, 40, 50)] if late else [write(3, 20, 30, boot=1), read(2, 40, 50)]
    fenced = history(ops, [Fence(15)], lost_tails=[0])
    (anomaly,) = check(fenced, "fence").anomalies
    assert (anomaly.kind, anomaly.ops) == ("fenced-zombie", (0, 1))
    graph = history_graph(fenced, anomaly.to_json())
    assert [node for node, data in graph.nodes(data=True) if data["in_witness"]] == [-1, 0, 1]
    assert graph.edges[-1, 0]["kind"] == graph.edges[0, 1]["kind"] == "conflict"


@pytest.mark.parametrize("finish", [12, None])
def test_the_graph_of_a_fenced_write_has_its_contradiction_too(finish: int | None) -> None:
    ops = [write(1, 0, finish, outcome=INFO), write(2, 20, 30), read(1, 40, 50)]
    fenced = history(ops, [Fence(15)])
    (anomaly,) = check(fenced, "fence").anomalies
    kinds = {(a, b): data["kind"] for a, b, data in history_graph(fenced, anomaly.to_json()).edges(data=True)}
    assert kinds[0, 1] == kinds[1, 2] == "conflict"
