"""The batch rule is exact: it agrees with exhaustive search, with the slow rule, and with real registers.

A counterexample found here is shrunk; test_brute_force.py tries very many more without that.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from brute_force import linearizable_blocks, linearizable_rows, mismatches, small_histories
from histories import FAIL, INFO, OK, Op, atomic, history, read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_blk.checker import registers
from jepsen_blk.checker.reference import check_slowly
from jepsen_blk.checker.registers import check_registers
from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import HistoryError
from jepsen_blk.history.record import F, Fence, History

DEADLINES = list(Deadline)


@st.composite
def tiny_histories(draw: st.DrawFn, most: int = 7) -> History:
    """A few overlapping operations on two blocks, with values that are mostly plausible."""
    count = draw(st.integers(1, most))
    ops: list[Op] = []
    for number in range(1, count + 1):
        start = draw(st.integers(0, 12))
        finish = start + draw(st.integers(0, 6))
        block = draw(st.sampled_from([0, 0, 0, 1]))
        if draw(st.booleans()):
            outcome = draw(st.sampled_from([OK, OK, OK, INFO, FAIL]))
            shown = None if outcome is INFO and draw(st.booleans()) else finish
            boot = draw(st.sampled_from([0, 0, 1]))
            ops.append(Op(F.WRITE, number, start, shown, block, outcome, boot))
        else:
            value = draw(st.integers(-3 if draw(st.integers(0, 9)) == 0 else 0, count))
            ops.append(Op(F.READ, value, start, finish, block, draw(st.sampled_from([OK, OK, OK, INFO]))))
    fences = [Fence(draw(st.integers(0, 18)), boot) for boot in draw(st.lists(st.integers(0, 1), max_size=2))]
    return history(ops, fences)


def bad_blocks(found: History, deadline: Deadline) -> set[int]:
    findings = check_registers(found, deadline)
    rows = [row for rows in findings.bad_reads.values() for row in rows]
    return {int(block) for block in findings.conflicts} | {int(found.block[row]) for row in rows}


@settings(max_examples=500, deadline=None, derandomize=True)
@given(tiny_histories(), st.sampled_from(DEADLINES))
def test_agrees_with_exhaustive_search_on_tiny_histories(tiny: History, deadline: Deadline) -> None:
    searched = linearizable_blocks(tiny, deadline)
    assert bad_blocks(tiny, deadline) == {block for block, fine in searched.items() if not fine}


@settings(max_examples=800, deadline=None, derandomize=True)
@given(tiny_histories(most=16), st.sampled_from(DEADLINES))
def test_agrees_with_the_slow_rule(tiny: History, deadline: Deadline) -> None:
    bad, conflicts = check_slowly(tiny, deadline)
    findings = check_registers(tiny, deadline)
    assert {int(block) for block in findings.conflicts} == conflicts
    assert {int(row): kind for kind, rows in findings.bad_reads.items() for row in rows} == bad


@settings(max_examples=400, deadline=None, derandomize=True)
@given(tiny_histories(most=14), st.sampled_from(DEADLINES))
def test_each_bad_block_has_an_anomaly_and_no_other_has(tiny: History, deadline: Deadline) -> None:
    result = check(tiny, deadline)
    bad = bad_blocks(tiny, deadline)
    assert {anomaly.block for anomaly in result.anomalies} == bad
    assert (result.verdict == "fail") == bool(bad)
    for other in DEADLINES:
        assert (result.deadlines[other] == "fail") == bool(bad_blocks(tiny, other))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", ["dense", "two boots", "sparse values", "sparse blocks"])
def test_agrees_with_the_slow_rule_however_values_and_blocks_are_numbered(seed: int, spread: str) -> None:
    healthy = atomic(seed, ops=1500, blocks=20)
    rng = np.random.default_rng(seed)
    value = healthy.value.copy()
    reads = np.flatnonzero(healthy.f == F.READ)
    spoiled = rng.choice(reads, 12, replace=False)
    value[spoiled] = rng.choice(value, 12)
    block = healthy.block
    if spread == "two boots":
        value = np.where((value > 0) & (value % 3 == 0), value | 1 << 40, value)
    elif spread == "sparse values":
        value = np.where(value > 0, value * 7_919_000_003, value)
    elif spread == "sparse blocks":
        block = block * 10_000_000_019
    damaged = replace(healthy, value=value, block=block)
    for deadline in DEADLINES:
        bad, conflicts = check_slowly(damaged, deadline)
        findings = check_registers(damaged, deadline)
        assert set(findings.conflicts.tolist()) == conflicts
        assert {int(row): kind for kind, rows in findings.bad_reads.items() for row in rows} == bad
        assert bad or conflicts


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(1, 6), st.booleans())
def test_never_flags_a_real_atomic_register(seed: int, blocks: int, closed: bool) -> None:
    simulated = atomic(seed, ops=200, blocks=blocks, info=0.2, closed=closed)
    for deadline in DEADLINES if closed else [Deadline.NEVER]:
        assert not bad_blocks(simulated, deadline)


def test_order_of_rows_does_not_matter() -> None:
    healthy = atomic(5, ops=600, blocks=5)
    rows = list(range(len(healthy)))
    random.Random(1).shuffle(rows)
    names = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")
    shuffled = replace(healthy, **{name: getattr(healthy, name)[rows] for name in names})
    assert not bad_blocks(shuffled, Deadline.ERROR) - bad_blocks(healthy, Deadline.ERROR)


def test_equal_stamps_are_concurrent() -> None:
    touching = history([write(1, 0, 10), write(2, 10, 20), read(1, 20, 30)])
    assert not bad_blocks(touching, Deadline.FENCE)
    apart = history([write(1, 0, 10), write(2, 11, 20), read(1, 21, 30)])
    assert bad_blocks(apart, Deadline.FENCE) == {0}


def test_an_unfenced_zombie_is_legal_unless_its_error_closed_it() -> None:
    zombie = history([write(1, 0, 5, outcome=INFO), write(2, 10, 20), read(2, 30, 35), read(1, 40, 45)])
    assert [bad_blocks(zombie, deadline) for deadline in DEADLINES] == [set(), set(), {0}]
    fenced = replace(zombie, fences=(Fence(8),))
    assert [bad_blocks(fenced, deadline) for deadline in DEADLINES] == [set(), {0}, {0}]


def test_a_fence_closes_only_earlier_writes_of_its_own_boot() -> None:
    ops = [write(1, 6, None, outcome=INFO), write(2, 10, 20), read(2, 30, 35), read(1, 40, 45)]
    assert not bad_blocks(history(ops, [Fence(5)]), Deadline.FENCE)
    assert not bad_blocks(history(ops, [Fence(6)]), Deadline.FENCE)
    assert not bad_blocks(history(ops, [Fence(8, boot=1)]), Deadline.FENCE)
    assert bad_blocks(history(ops, [Fence(5), Fence(8)]), Deadline.FENCE) == {0}


@pytest.mark.parametrize(
    ("ops", "matters"),
    [
        ([write(1, 0, 5), read(1, 6, 8)], False),
        ([write(1, 0, 5, outcome=INFO), read(0, 6, 8)], False),
        ([write(1, 0, 5, outcome=INFO), read(1, 6, 8)], True),
    ],
)
def test_the_deadline_matters_only_if_an_indeterminate_write_was_seen(ops: list[Op], matters: bool) -> None:
    assert check_registers(history(ops)).seen_open == matters


def test_a_closed_write_that_nobody_saw_need_not_have_happened() -> None:
    ops = [write(1, 0, 5), write(2, 6, 8, outcome=INFO), read(1, 20, 25)]
    assert not bad_blocks(history(ops, [Fence(9)]), Deadline.ERROR)


def test_a_value_written_twice_is_reported_and_not_judged() -> None:
    findings = check_registers(history([write(1, 0, 5), write(1, 6, 8, block=1), read(1, 20, 25)]))
    assert findings.twice.tolist() == [0, 1]
    assert not findings.bad_reads


def test_blocks_not_read_after_their_last_acknowledged_write_are_named() -> None:
    ops = [write(1, 0, 5, block=3), read(1, 6, 7, block=3), write(2, 8, 9, block=3), write(3, 0, 5, block=4)]
    assert check_registers(history([*ops, read(3, 5, 6, block=4)])).unread.tolist() == [3]


def test_times_of_unrelated_clocks_are_refused() -> None:
    with pytest.raises(HistoryError, match="73 years"):
        check_registers(history([write(1, 0, 5), write(2, (1 << 61) - 5, 1 << 61)]))


def test_times_may_be_as_late_as_they_like() -> None:
    late = 1 << 61
    ops = [write(1, late, late + 5), write(2, late + 10, late + 20), read(1, late + 30, late + 40)]
    assert check_registers(history(ops)).conflicts.tolist() == [0]


def test_times_on_one_clock_may_span_almost_73_years() -> None:
    late = (1 << 61) - 3  # the longest there is
    ops = [
        op
        for block in range(6)
        for op in (
            write(2 * block + 1, 0, 5, block),
            write(2 * block + 2, 10, 20, block),
            read(2 * block + (1 if block == 5 else 2), late, late + 2, block),
        )
    ]
    assert check_registers(history(ops)).conflicts.tolist() == [5]


def test_an_empty_history_has_no_findings() -> None:
    assert not len(check_registers(history([])).conflicts)


def test_only_the_values_that_were_written_twice_are_reported_as_such() -> None:
    ops = [write(1, 0, 5), write(2, 10, 15), write(1, 6, 8, block=1), read(2, 20, 25)]
    assert check_registers(history(ops)).twice.tolist() == [0, 2]


def test_a_failed_write_of_another_block_is_misdirected_and_nothing_else() -> None:
    ops = [write(1, 0, 5, block=1, outcome=FAIL), read(1, 10, 15)]
    assert {kind: rows.tolist() for kind, rows in check_registers(history(ops)).bad_reads.items()} == {
        "misdirected": [1]
    }


def test_the_size_of_slices_and_ranges_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_histories(7, 300, 5)
    fine = linearizable_rows(small, Deadline.FENCE)
    monkeypatch.setattr(registers, "_SLICE", 64)
    monkeypatch.setattr(registers, "_RANGE", 3)
    assert mismatches(small, Deadline.FENCE, fine) == []
