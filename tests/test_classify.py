"""Which of several conflicts of a block is told, and by which of several reads and writes."""

from __future__ import annotations

import pytest
from histories import FAIL, INFO, history, read, write

from jepsen_blk.checker import classify
from jepsen_blk.checker.anomalies import Anomaly
from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import History, Outcome

A, B, C = 1, 2, 3
W_A, W_B = write(A, 0, 10), write(B, 20, 30)
LOST_A = write(A, 0, 10, outcome=INFO)


def only(result_of: History, deadline: Deadline = Deadline.NEVER) -> Anomaly:
    (anomaly,) = check(result_of, deadline).anomalies
    return anomaly


def test_a_newer_write_that_was_seen_is_told_before_one_that_was_not() -> None:
    unseen = write(C, 20, 31)
    anomaly = only(history([W_A, W_B, unseen, read(B, 40, 50), read(A, 60, 70)]))
    assert (anomaly.kind, anomaly.older, anomaly.newer) == ("stale-overwrite", A, B)


@pytest.mark.parametrize(("seen_until", "kind"), [(15, "resurrected-write"), (25, "stale-overwrite")])
def test_a_resurrected_write_was_seen_before_the_newer_one_began(seen_until: int, kind: str) -> None:
    ops = [LOST_A, read(A, 12, seen_until), W_B, read(B, 40, 50), read(A, 60, 70)]
    assert only(history(ops)).kind == kind


@pytest.mark.parametrize("outcome", [INFO, FAIL])
def test_what_a_failed_read_may_have_returned_does_not_change_the_kind(outcome: Outcome) -> None:
    ops = [W_A, W_B, read(A, 40, 50), read(B, 60, 70, outcome=outcome)]
    assert only(history(ops)).kind == "lost-write"


def test_a_block_with_very_many_conflicts_costs_a_bounded_number_of_comparisons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = 0
    judge = classify._classify

    def counted(*arguments: object) -> object:
        nonlocal judged
        judged += 1
        return judge(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(classify, "_classify", counted)
    ops = [write(value, 10 * value, 10 * value + 5) for value in range(1, 301)]
    ops += [read(value, 10_000 + value, 20_000 + value) for value in range(1, 301)]
    assert only(history(ops)).newer == 300
    assert judged <= 64 * 3 * 8
