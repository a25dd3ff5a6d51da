"""The engines of the batch check find exactly the same, whatever a history holds and in whatever order."""

from __future__ import annotations

import random
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from histories import FAIL, INFO, OK, Op, atomic, history, read, write

from jepsen_blk.checker import engine, registers
from jepsen_blk.checker.findings import READ_KINDS, Findings
from jepsen_blk.checker.reference import check_slowly
from jepsen_blk.checker.verdict import check
from jepsen_blk.checker.windows import WindowChecker
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import HistoryError
from jepsen_blk.history.record import PENDING, F, Fence, History

pytest.importorskip("numba", reason="numba is not installed (the extra `fast`)")
compiled = pytest.importorskip("jepsen_blk.checker.compiled.batch")


def as_lists(findings: Findings) -> dict[str, object]:
    """Return the findings as something that == compares; the order of the kinds counts."""
    found = {field.name: getattr(findings, field.name) for field in fields(findings)}
    found["bad_reads"] = [(kind, rows.tolist()) for kind, rows in findings.bad_reads.items()]
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}


def agree(given: History) -> list[Findings]:
    """Compare the engines under every deadline, and with the slow rule; return the findings of each."""
    found = []
    for deadline in Deadline:
        ours = compiled.check_registers(given, deadline)
        assert as_lists(ours) == as_lists(registers.check_registers(given, deadline))
        bad, conflicts = check_slowly(given, deadline)
        assert {int(row): kind for kind, rows in ours.bad_reads.items() for row in rows} == bad
        assert set(ours.conflicts.tolist()) == conflicts
        found.append(ours)
    return found


def messy(seed: int) -> History:
    """A few dozen operations with ties of stamps and every kind of outcome, value and fence."""
    rng = random.Random(seed)
    count, longest = rng.randrange(1, 40), rng.choice([3, 12, 60])
    ops = []
    for number in range(1, count + 1):
        start = rng.randrange(0, longest * 2)
        finish, block = start + rng.randrange(0, longest), rng.choice([0, 0, 0, 1, 2, 7])
        if rng.random() < 0.5:
            outcome = rng.choice([OK, OK, OK, INFO, FAIL])
            value = number if rng.random() < 0.97 else rng.randrange(1, count + 1)
            shown = None if outcome is INFO and rng.random() < 0.5 else finish
            ops.append(Op(F.WRITE, value, start, shown, block, outcome, rng.randrange(2)))
        else:
            value = rng.randint(-3, count + 1) if rng.random() < 0.2 else rng.randint(0, count)
            ops.append(Op(F.READ, value, start, finish, block, rng.choice([OK, OK, OK, INFO])))
        if rng.random() < 0.03:
            ops.append(Op(F.FLUSH, 0, start, finish))
    fences = [Fence(rng.randrange(longest * 3), rng.randrange(2)) for _ in range(rng.randrange(3))]
    return history(ops, fences)


def renumbered(given: History, spread: str) -> History:
    """The same history with values and blocks numbered as another tester would."""
    value, block = given.value, given.block
    if spread == "two boots":
        value = np.where((value > 0) & (value % 3 == 0), value | 1 << 40, value)
    elif spread == "too many boots":
        value = np.where(value > 0, value << 40 | 1, value)
    elif spread == "sparse values":
        value = np.where(value > 0, value * 7_919_000_003, value)
    elif spread == "sparse blocks":
        block = block * 10_000_000_019
    return replace(given, value=value, block=block)


def shuffled(given: History, seed: int) -> History:
    rows = np.random.default_rng(seed).permutation(len(given))
    names = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")
    return replace(given, **{name: getattr(given, name)[rows] for name in names})


def test_the_engines_agree_on_messy_histories() -> None:
    kinds, conflicts, seen_open, twice = set(), 0, 0, 0
    for seed in range(600):
        for findings in agree(messy(seed)):
            kinds.update(findings.bad_reads)
            conflicts += len(findings.conflicts)
            seen_open += findings.seen_open
            twice += len(findings.twice)
    assert kinds == set(READ_KINDS)  # or the histories would show less than they promise
    assert min(conflicts, seen_open, twice) > 100


@pytest.mark.parametrize("spread", ["dense", "two boots", "too many boots", "sparse values", "sparse blocks"])
@pytest.mark.parametrize("order", ["completion", "none"])
def test_the_engines_agree_however_values_blocks_and_rows_are_ordered(spread: str, order: str) -> None:
    for seed in range(3):
        healthy = atomic(seed, ops=2000, blocks=20)
        rng = np.random.default_rng(seed)
        value = healthy.value.copy()
        spoiled = rng.choice(np.flatnonzero(healthy.f == F.READ), 12, replace=False)
        value[spoiled[:6]] = rng.choice(value, 6)
        for row in spoiled[6:]:
            value[row] = rng.choice(value[healthy.block == healthy.block[row]])
        damaged = renumbered(replace(healthy, value=value), spread)
        found = agree(damaged if order == "completion" else shuffled(damaged, seed))
        assert all(len(findings.conflicts) and findings.bad_reads for findings in found)


def test_one_hot_block_whose_writes_are_in_no_order_is_checked_in_time() -> None:
    count = 40_000
    start = np.random.default_rng(3).permutation(count) * 10
    ops = [
        write(number, int(start[number - 1]), int(start[number - 1]) + 5) for number in range(1, count + 1)
    ]
    last = int(start.argmax())
    stale = history([*ops, read(last, count * 10, count * 10 + 1)])
    assert not len(compiled.check_registers(history(ops)).conflicts)
    assert compiled.check_registers(stale).conflicts.tolist() == [0]
    assert registers.check_registers(stale).conflicts.tolist() == [0]


def test_a_write_seen_before_its_closing_time_and_one_seen_after_agree() -> None:
    ops = [write(1, 0, None, outcome=INFO), read(1, 2, 4), write(2, 10, 20), read(2, 30, 35), read(1, 40, 45)]
    for findings in agree(history(ops, [Fence(3), Fence(8)])):
        assert findings.seen_open
        assert findings.conflicts.tolist() == [0]


@pytest.mark.parametrize("ops", [[], [read(0, 1, 2)], [read(5, 1, 2)], [Op(F.FLUSH, 0, 1, 2)]])
def test_the_engines_agree_on_histories_without_a_write(ops: list[Op]) -> None:
    agree(history(ops))


@pytest.mark.parametrize("check_registers", [registers.check_registers, compiled.check_registers])
def test_every_engine_refuses_times_of_unrelated_clocks(check_registers: engine.Engine) -> None:
    apart = history([write(1, 0, 5), write(2, 1 << 62, (1 << 62) + 1)])
    with pytest.raises(HistoryError, match="73 years"):
        check_registers(apart, Deadline.FENCE)
    failed = history([write(1, 0, 5), write(2, 1 << 62, PENDING - 1, outcome=FAIL)])
    assert not len(check_registers(failed, Deadline.FENCE).conflicts)


def test_the_result_does_not_depend_on_the_engine() -> None:
    for seed in range(50):
        given = messy(seed)
        assert check(given, engine=compiled.check_registers) == check(given, engine=registers.check_registers)


def test_columns_that_are_read_only_or_strided_are_checked_alike() -> None:
    healthy = atomic(1, ops=500, blocks=5)
    table = np.zeros(len(healthy), dtype=[("pad", "u1"), ("value", "<i8"), ("start", "<i8")])
    table["value"], table["start"] = healthy.value, healthy.start
    table.flags.writeable = False
    agree(replace(healthy, value=table["value"], start=table["start"]))


def test_numba_is_chosen_for_long_histories_only(monkeypatch: pytest.MonkeyPatch) -> None:
    short = atomic(1, ops=50, blocks=2)
    assert engine.choose_engine(short) is registers.check_registers
    monkeypatch.setattr(engine, "LEAST_OPS", len(short))
    assert engine.choose_engine(short) is compiled.check_registers
    assert engine.choose_windows(len(short)) is not WindowChecker
    assert engine.choose_windows(len(short) - 1) is WindowChecker
    for module in ("batch", "online"):  # as where numba is not installed
        monkeypatch.setitem(sys.modules, f"jepsen_blk.checker.compiled.{module}", None)
    assert engine.choose_engine(short) is registers.check_registers
    assert engine.choose_windows(len(short)) is WindowChecker
