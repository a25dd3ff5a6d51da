"""Writes that a dead guest never reported: which values are adopted, and as what."""

from __future__ import annotations

from histories import OK, history, read, write

from jepsen_blk.checker.lost_tail import adopt_lost_tails
from jepsen_blk.history.record import PENDING, F, History, Outcome
from jepsen_blk.stamp import SEQUENCE_BITS

BOOT = 1 << SEQUENCE_BITS
"""What a value of boot 1 begins with; its sequence numbers begin at 1."""


def adopted(given: History) -> list[tuple[int, ...]]:
    """Return (line, value, process, boot, block, start) of the rows that were added."""
    made = adopt_lost_tails(given)
    assert made.line is not None or len(made) == len(given)
    rows = range(len(given), len(made))
    assert all(
        (made.f[row], made.outcome[row], made.finish[row]) == (F.WRITE, Outcome.INFO, PENDING) for row in rows
    )
    columns = (made.line, made.value, made.process, made.boot, made.block, made.start)
    return [tuple(int(column[row]) for column in columns if column is not None) for row in rows]


def test_each_unreported_value_is_adopted_once_with_a_line_of_its_own_outside_the_file() -> None:
    ops = [
        write(BOOT + 1, 5, 9, 3, boot=1),
        write(BOOT + 2, 7, 9, 4, boot=1),
        read(BOOT + 8, 20, 30, 3),
        read(BOOT + 9, 40, 50, 4),
        read(BOOT + 8, 60, 70, 3),
    ]
    assert adopted(history(ops, lost_tails=[1])) == [(-1, BOOT + 8, -1, 1, 3, 7), (-2, BOOT + 9, -1, 1, 4, 7)]


def test_only_values_of_a_boot_that_lost_its_tail_are_adopted() -> None:
    strangers = [BOOT - 1, BOOT, 2 * BOOT, 2 * BOOT + 1, 3 * BOOT + 1, 1]
    ops = [read(value, 10 * i, 10 * i + 5) for i, value in enumerate(strangers, start=1)]
    assert adopted(history(ops, lost_tails=[1])) == []
    assert [row[1] for row in adopted(history(ops, lost_tails=[2]))] == [2 * BOOT + 1]


def test_a_value_that_was_reported_or_only_seen_in_vain_is_not_adopted() -> None:
    ops = [
        write(BOOT + 1, 0, 5, boot=1),
        read(BOOT + 1, 10, 15),
        read(BOOT + 2, 20, 25, outcome=Outcome.INFO),
        read(0, 30, 35, outcome=OK),
    ]
    assert adopted(history(ops, lost_tails=[1])) == []


def test_a_write_of_the_first_boot_without_any_report_may_have_begun_at_any_time() -> None:
    assert adopted(history([read(1, 10, 15, 2)], lost_tails=[0])) == [(-1, 1, -1, 0, 2, 0)]
