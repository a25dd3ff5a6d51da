"""The conflict models and fences as pure decisions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepsen_blk.storage.conflict import Arbiter, ConflictModel, Decision, Write


def arrive(
    arbiter: Arbiter, number: int, node: str, blocks: Sequence[int] = (0,), connection: int = 0
) -> Write:
    write = Write(number, node, connection, blocks)
    arbiter.arrive(write)
    return write


@pytest.mark.parametrize(
    ("model", "second"),
    [
        (ConflictModel.ARRIVAL_ORDER, Decision.APPLY),
        (ConflictModel.IGNORE_SECOND, Decision.IGNORE),
        (ConflictModel.SERIALIZE, Decision.WAIT),
        (ConflictModel.REJECT_BUSY, Decision.BUSY),
        (ConflictModel.DROP_ON_DISCONNECT, Decision.APPLY),
    ],
)
def test_the_model_decides_a_write_to_a_block_that_has_one_in_flight(
    model: ConflictModel, second: Decision
) -> None:
    arbiter = Arbiter(model)
    assert arrive(arbiter, 1, "x").decision is Decision.APPLY
    assert arrive(arbiter, 2, "y").decision is second
    assert arrive(arbiter, 3, "y", [1]).decision is Decision.APPLY


@pytest.mark.parametrize("model", list(ConflictModel))
def test_a_block_is_free_again_once_its_write_has_finished(model: ConflictModel) -> None:
    arbiter = Arbiter(model)
    arbiter.finish(arrive(arbiter, 1, "x"))
    assert arrive(arbiter, 2, "y").decision is Decision.APPLY
    assert arbiter.in_flight("x") == []


def test_an_ignored_write_does_not_make_its_block_busy() -> None:
    arbiter = Arbiter(ConflictModel.IGNORE_SECOND)
    first = arrive(arbiter, 1, "x")
    ignored = arrive(arbiter, 2, "y")
    arbiter.finish(first)
    assert arrive(arbiter, 3, "y").decision is Decision.APPLY
    assert arbiter.finish(ignored) == []


def test_only_the_busy_blocks_of_a_long_write_are_ignored() -> None:
    arbiter = Arbiter(ConflictModel.IGNORE_SECOND)
    arrive(arbiter, 1, "x", [1])
    long = arrive(arbiter, 2, "y", [0, 1, 2])
    assert (long.decision, long.skipped) == (Decision.APPLY, {1})


def test_serialized_writes_are_woken_in_order_of_arrival() -> None:
    arbiter = Arbiter(ConflictModel.SERIALIZE)
    first, second, third = (arrive(arbiter, number, "x") for number in (1, 2, 3))
    assert arbiter.finish(first) == [second]
    assert second.decision is Decision.APPLY
    assert second.waited
    assert third.decision is Decision.WAIT
    assert arbiter.finish(second) == [third]


def test_a_fence_refuses_new_writes_and_lets_accepted_ones_go_on() -> None:
    arbiter = Arbiter(ConflictModel.ARRIVAL_ORDER)
    accepted = arrive(arbiter, 1, "x")
    assert arbiter.fence("x", abort=False) == []
    assert arrive(arbiter, 2, "x").decision is Decision.REFUSE
    assert arbiter.begin(accepted) is Decision.APPLY
    assert not arbiter.admits("x")
    assert arbiter.admits("y")
    arbiter.unfence("x")
    assert arrive(arbiter, 3, "x").decision is Decision.APPLY


def test_an_aborting_fence_ends_accepted_writes_but_for_those_being_applied() -> None:
    arbiter = Arbiter(ConflictModel.SERIALIZE)
    begun = arrive(arbiter, 1, "x")
    arbiter.begin(begun)
    waiting, other = arrive(arbiter, 2, "x"), arrive(arbiter, 3, "y")
    assert arbiter.fence("x", abort=True) == [waiting]
    assert arbiter.begin(waiting) is Decision.ABORT
    assert arbiter.in_flight("x") == [begun, waiting]
    arbiter.finish(waiting)
    assert arbiter.finish(begun) == [other]
    assert arbiter.in_flight("x") == []


def test_a_write_of_an_older_epoch_is_refused_when_applied_not_when_it_arrives() -> None:
    arbiter = Arbiter(ConflictModel.ARRIVAL_ORDER)
    old = arrive(arbiter, 1, "x", [0])
    arbiter.raise_epoch("y")
    late = arrive(arbiter, 2, "x", [1])
    new = arrive(arbiter, 3, "y", [0])
    assert [old.decision, late.decision, new.decision] == [Decision.APPLY] * 3
    assert [arbiter.begin(write) for write in (old, late, new)] == [
        Decision.REFUSE,
        Decision.REFUSE,
        Decision.APPLY,
    ]


@pytest.mark.parametrize("model", list(ConflictModel))
def test_the_single_writer_waits_until_the_others_are_flushed(model: ConflictModel) -> None:
    arbiter = Arbiter(model)
    first, second = arrive(arbiter, 1, "x", [0]), arrive(arbiter, 2, "x", [1])
    arbiter.single_writer("y")
    waiting = arrive(arbiter, 3, "y", [0])
    assert waiting.decision is Decision.WAIT
    assert arrive(arbiter, 4, "x", [5]).decision is Decision.REFUSE
    assert arbiter.finish(first) == []
    assert arbiter.finish(second) == [waiting]
    assert arbiter.begin(waiting) is Decision.APPLY
    assert arrive(arbiter, 5, "y", [9]).decision is Decision.APPLY


def test_the_single_writer_role_moves_back_behind_the_writes_that_wait() -> None:
    arbiter = Arbiter(ConflictModel.ARRIVAL_ORDER)
    old = arrive(arbiter, 1, "x")
    arbiter.single_writer("y")
    gated = arrive(arbiter, 2, "y")
    arbiter.single_writer("x")
    back = arrive(arbiter, 3, "x")
    assert arrive(arbiter, 4, "y").decision is Decision.REFUSE
    assert arbiter.finish(old) == [gated]
    assert arbiter.finish(gated) == [back]


def test_a_closed_connection_drops_its_own_writes_under_drop_on_disconnect_only() -> None:
    arbiter = Arbiter(ConflictModel.DROP_ON_DISCONNECT)
    lost = arrive(arbiter, 1, "x", connection=1)
    kept = arrive(arbiter, 2, "x", connection=2)
    assert arbiter.disconnect(1) == [lost]
    assert arbiter.begin(lost) is Decision.ABORT
    assert arbiter.begin(kept) is Decision.APPLY

    arbiter = Arbiter(ConflictModel.ARRIVAL_ORDER)
    write = arrive(arbiter, 1, "x", connection=1)
    assert arbiter.disconnect(1) == []
    assert arbiter.begin(write) is Decision.APPLY


_BLOCKS = st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from("xy"), _BLOCKS),
        st.tuples(st.sampled_from(["finish"]), st.integers(0, 20), st.none()),
        st.tuples(
            st.sampled_from(["single_writer", "fence", "unfence", "raise_epoch"]),
            st.sampled_from("xy"),
            st.none(),
        ),
    ),
    max_size=40,
)


@given(st.sampled_from(list(ConflictModel)), _STEPS)
def test_no_write_waits_for_ever_and_serialized_blocks_have_one_writer(
    model: ConflictModel, steps: list[tuple[str, object, list[int] | None]]
) -> None:
    arbiter = Arbiter(model)
    live: list[Write] = []

    def end(write: Write) -> None:
        arbiter.begin(write)
        live.remove(write)
        for woken in arbiter.finish(write):
            assert woken in live
            assert woken.decision is not Decision.WAIT

    for number, (what, subject, blocks) in enumerate(steps, start=1):
        runnable = [write for write in live if write.decision is not Decision.WAIT]
        if what == "write":
            live.append(arrive(arbiter, number, str(subject), blocks or ()))
        elif what == "finish" and runnable:
            end(runnable[int(str(subject)) % len(runnable)])
        elif what == "fence":
            arbiter.fence(str(subject), abort=number % 2 == 0)
        elif what in ("single_writer", "unfence", "raise_epoch"):
            getattr(arbiter, what)(str(subject))
        if model is ConflictModel.SERIALIZE:
            writing = [b for w in live if w.decision is Decision.APPLY for b in w.blocks]
            assert len(writing) == len(set(writing))
    while live:
        runnable = [write for write in live if write.decision is not Decision.WAIT]
        assert runnable, "every write left waits"
        end(runnable[0])
    assert arbiter.in_flight("x") == arbiter.in_flight("y") == []
