"""What is written of the kinds of anomalies is what the checker does: their examples are judged by it."""

from __future__ import annotations

import pytest
from histories import INFO, Op, history, read, write

from jepsen_blk.checker import anomalies
from jepsen_blk.checker.anomalies import Anomaly
from jepsen_blk.checker.classify import RANKS
from jepsen_blk.checker.kinds import KINDS, kind_named
from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import UserError
from jepsen_blk.history.record import Fence

A, B = 1, 2
W_A, W_B = write(A, 0, 10), write(B, 20, 30)


@pytest.mark.parametrize("name", anomalies.KINDS)
def test_the_example_of_a_kind_is_found_as_exactly_that_kind_without_a_doubt(name: str) -> None:
    kind = KINDS[name]
    result = check(kind.history(), kind.deadline)
    assert [(found.kind, found.could_be) for found in result.anomalies] == [(name, ())]
    assert result.verdict == "fail"


def test_every_kind_that_is_reported_is_defined_in_the_order_of_its_report() -> None:
    assert [name for name in KINDS if name in anomalies.KINDS] == list(anomalies.KINDS)
    assert set(RANKS) <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_an_example_is_minimal_enough_to_be_looked_at_and_in_order_of_start(kind) -> None:
    starts = [row.start for row in kind.rows]
    assert starts == sorted(starts)
    assert 2 <= len(kind.rows) <= 6


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_says_all_that_there_is_to_say(kind) -> None:
    said = (kind.title, kind.definition, kind.meaning, kind.witness, kind.evidence, *kind.causes)
    assert kind.causes
    assert all(text and text == text.strip() and "  " not in text for text in said)


# A conflict that nothing has looked at since, and the reads that would turn it into each other kind.
UNDETERMINED = {
    "lost-write": ([W_A, W_B, read(A, 40, 50)], {"stale-read": [B], "stale-overwrite": [B, A]}),
    "stale-overwrite": ([W_A, W_B, read(B, 40, 50), read(A, 60, 70)], {"stale-read": [B]}),
    "stale-read": ([W_A, W_B, read(B, 40, 60), read(A, 50, 70)], {"stale-overwrite": [A]}),
    "resurrected-write": (
        [write(A, 0, 10, outcome=INFO), read(A, 12, 18), W_B, read(B, 40, 50), read(A, 60, 70)],
        {"stale-read": [B]},
    ),
    "reverted-to-initial": ([W_B, read(B, 40, 50), read(0, 60, 70)], {"stale-read": [B]}),
}


@pytest.mark.parametrize("name", UNDETERMINED)
def test_without_later_reads_an_anomaly_says_what_else_it_may_be(name: str) -> None:
    ops, others = UNDETERMINED[name]
    (found,) = check(history(ops), Deadline.NEVER).anomalies
    assert (found.kind, found.could_be) == (name, tuple(others))
    assert found.text.endswith(f"; undetermined, may also be {' or '.join(others)}: no later read tells")
    assert found.to_json()["could_be"] == list(others)


@pytest.mark.parametrize(
    ("name", "other"), [(name, other) for name, (_, others) in UNDETERMINED.items() for other in others]
)
def test_later_reads_turn_an_undetermined_anomaly_into_what_it_may_be(name: str, other: str) -> None:
    ops, others = UNDETERMINED[name]
    later = [read(value, 100 + 20 * i, 110 + 20 * i) for i, value in enumerate(others[other])]
    (found,) = check(history([*ops, *later]), Deadline.NEVER).anomalies
    assert found.kind == other


@pytest.mark.parametrize("name", UNDETERMINED)
def test_a_later_read_of_a_newer_write_tells_nothing(name: str) -> None:
    ops, others = UNDETERMINED[name]
    (found,) = check(history([*ops, write(3, 80, 90), read(3, 100, 110)]), Deadline.NEVER).anomalies
    assert found.could_be == tuple(others)


def test_a_block_that_went_back_to_never_written_without_a_trace_of_its_write_may_have_been_stale() -> None:
    (found,) = check(history([W_B, read(0, 40, 50)])).anomalies
    assert (found.kind, found.could_be) == ("reverted-to-initial", ("stale-read",))


def test_a_block_of_which_a_stale_read_said_never_written_may_have_gone_back_to_that() -> None:
    (found,) = check(history([W_B, read(B, 40, 60), read(0, 50, 70)])).anomalies
    assert (found.kind, found.could_be) == ("stale-read", ("reverted-to-initial",))


@pytest.mark.parametrize(("start", "others"), [(70, ("stale-read",)), (71, ())])
def test_only_a_read_that_began_after_the_bad_one_tells(start: int, others: tuple[str, ...]) -> None:
    ops = [W_A, W_B, read(B, 40, 50), read(A, 60, 70), read(A, start, 90)]
    (found,) = check(history(ops)).anomalies
    assert (found.kind, found.could_be) == ("stale-overwrite", others)


def test_a_zombie_depends_on_no_later_read() -> None:
    ops = [write(A, 0, None, outcome=INFO), W_B, read(A, 40, 50)]
    (found,) = check(history(ops, [Fence(15)])).anomalies
    assert (found.kind, found.could_be) == ("fenced-zombie", ())


LOST_B = write(B, 12, None, outcome=INFO)
AT_ONCE = [read(A, 40, 60), read(B, 50, 70)]


def late(*ops: Op) -> Anomaly:
    (found,) = check(history(ops, [Fence(15)])).anomalies
    return found


def test_a_late_zombie_that_was_read_after_the_older_content_is_no_other_kind() -> None:
    found = late(W_A, LOST_B, read(A, 40, 50), read(B, 60, 70))
    assert (found.kind, found.could_be) == ("fenced-zombie", ())


@pytest.mark.parametrize(
    ("older", "first", "other"),
    [
        (A, [W_A], "stale-overwrite"),
        (A, [write(A, 0, None, outcome=INFO), read(A, 9, 11)], "resurrected-write"),
        (0, [], "reverted-to-initial"),
    ],
)
def test_a_later_read_of_the_older_content_may_show_that_a_late_zombie_was_undone(
    older: int, first: list[Op], other: str
) -> None:
    ops = [*first, LOST_B, read(older, 40, 60), read(B, 50, 70)]
    assert (late(*ops).kind, late(*ops).could_be) == ("fenced-zombie", (other,))
    assert late(*ops, read(older, 80, 90)).kind == other
    assert (late(*ops, read(B, 80, 90)).kind, late(*ops, read(B, 80, 90)).could_be) == ("fenced-zombie", ())


def test_of_two_closed_writes_that_were_read_at_once_one_is_a_zombie_whatever_is_read_later() -> None:
    ops = [write(A, 0, None, outcome=INFO), LOST_B, *AT_ONCE]
    for later in ([], [read(A, 80, 90)], [read(B, 80, 90)]):
        assert (late(*ops, *later).kind, late(*ops, *later).could_be) == ("fenced-zombie", ())


def test_an_unknown_kind_is_named_with_those_that_are_close() -> None:
    with pytest.raises(
        UserError, match=r"no kind of anomaly 'stale-overwirte'.*did you mean 'stale-overwrite'"
    ):
        kind_named("stale-overwirte")
    with pytest.raises(UserError) as far:
        kind_named("xyzzy")
    assert "did you mean" not in str(far.value)
