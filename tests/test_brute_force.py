"""The batch rule against a search over all orders, on hundreds of thousands of small histories."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from brute_force import (
    Bools,
    SmallHistories,
    last_moments,
    linearizable_blocks,
    linearizable_rows,
    mismatches,
    small_histories,
)

from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import FOREIGN, INITIAL, PENDING, PHANTOM, TORN, F, History, Outcome

BATCH = 8000
SIZES = (2, 3, 4, 5, 6, 6, 6, 7, 7, 7)
"""Operations of a history; the larger, the more there is to get wrong."""
SEEDS = 6


def searched() -> tuple[SmallHistories, dict[Deadline, Bools]]:
    """Return one batch with what the search says of it."""
    small = small_histories(1, BATCH, 6)
    return small, {deadline: linearizable_rows(small, deadline) for deadline in Deadline}


@pytest.mark.parametrize("deadline", Deadline)
def test_agrees_with_a_search_over_all_orders(deadline: Deadline) -> None:
    histories = fine = 0
    for seed in range(SEEDS):
        for place, ops in enumerate(SIZES):
            small = small_histories(1000 * place + seed, BATCH, ops)
            searched = linearizable_rows(small, deadline)
            assert mismatches(small, deadline, searched) == []
            histories += BATCH
            fine += int(np.count_nonzero(searched))
    print(f"{deadline}: {histories} histories, {fine} linearizable, {histories - fine} not, none misjudged")
    assert 0.4 < fine / histories < 0.7


def test_the_histories_hold_what_the_rule_must_get_right() -> None:
    small, fine = searched()
    read = (small.f == F.READ) & (small.outcome == Outcome.OK)
    write = small.f == F.WRITE
    info = write & (small.outcome == Outcome.INFO)
    failed = write & (small.outcome == Outcome.FAIL)
    own = small.value[:, None] == small.value[None, :]
    shares = {
        "ties": (small.finish[:, None] == small.start[None, :]).any(axis=(0, 1)),
        "an initial value read": (read & (small.value == INITIAL)).any(axis=0),
        "garbage": (read & np.isin(small.value, (PHANTOM, TORN, FOREIGN))).any(axis=0),
        "an indeterminate write": info.any(axis=0),
        "one that was seen": (own & read[:, None] & info[None, :]).any(axis=(0, 1)),
        "one without an end": (info & (small.finish == PENDING)).any(axis=0),
        "one that a fence closed": (last_moments(small, Deadline.FENCE) != PENDING)[None, info].any(),
        "a failed write that was seen": (own & read[:, None] & failed[None, :]).any(axis=(0, 1)),
        "fence stricter than never": fine[Deadline.NEVER] & ~fine[Deadline.FENCE],
        "error stricter than fence": fine[Deadline.FENCE] & ~fine[Deadline.ERROR],
    }
    assert {name: np.count_nonzero(there) > 20 for name, there in shares.items() if there.ndim} == {
        name: True for name, there in shares.items() if there.ndim
    }
    assert shares["one that a fence closed"]
    assert not (fine[Deadline.ERROR] & ~fine[Deadline.NEVER]).any()


def row_of(given: History, order: tuple[int, ...], moments: list[int]) -> bool:
    """Tell, by the letter of the definition, whether this row explains all its reads."""
    content = INITIAL
    for place, row in enumerate(order):
        if any(moments[later] < given.start[row] for later in order[place + 1 :]):
            return False
        if given.f[row] == F.WRITE:
            content = int(given.value[row])
        elif given.value[row] != content:
            return False
    return True


def by_the_letter(given: History, moments: list[int]) -> bool:
    ok = given.outcome == Outcome.OK
    must = np.flatnonzero(ok & (given.f != F.FLUSH)).tolist()
    may = np.flatnonzero((given.outcome == Outcome.INFO) & (given.f == F.WRITE)).tolist()
    return any(
        row_of(given, order, moments)
        for size in range(len(may) + 1)
        for chosen in combinations(may, size)
        for order in permutations((*must, *chosen))
    )


@pytest.mark.parametrize("deadline", Deadline)
def test_both_searches_follow_the_letter_of_the_definition(deadline: Deadline) -> None:
    for ops in (1, 3, 5):
        small = small_histories(ops, 250, ops)
        moments = last_moments(small, deadline)
        fine = linearizable_rows(small, deadline)
        for place in range(250):
            alone = small.alone(place)
            assert linearizable_blocks(alone, deadline) == {place: bool(fine[place])}
            assert by_the_letter(alone, moments[:, place].tolist()) == fine[place]


def test_the_verdict_follows_the_search() -> None:
    small, fine = searched()
    for place in range(0, BATCH, 20):
        alone = small.alone(place)
        result = check(alone)
        for deadline in Deadline:
            assert (result.deadlines[deadline] == "fail") == (not fine[deadline][place])
        assert bool(result.anomalies) == (not fine[Deadline.FENCE][place])
