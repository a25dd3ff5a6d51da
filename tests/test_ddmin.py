"""Delta debugging on made-up predicates: what is left fails, in its order, and nothing of it can go."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_blk.shrink.ddmin import ddmin

Predicate = Callable[[tuple[int, ...]], bool]


def reduce(items: tuple[int, ...], fails: Predicate) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Return what is left of the items, and everything that was tried."""
    tried: list[tuple[int, ...]] = []

    async def ask(part: tuple[int, ...]) -> bool:
        tried.append(part)
        return fails(part)

    return asyncio.run(ddmin(items, ask)), tried


def is_part(part: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    left = iter(whole)
    return all(item in left for item in part)


def without_each(items: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [items[:at] + items[at + 1 :] for at in range(len(items))]


@settings(deadline=None)
@given(st.integers(1, 24), st.data())
def test_where_a_set_is_to_blame_exactly_that_set_is_left(count: int, data: st.DataObject):
    needed = data.draw(st.sets(st.integers(0, count - 1)))
    left, _ = reduce(tuple(range(count)), lambda part: needed <= set(part))
    assert left == tuple(sorted(needed))


@settings(deadline=None)
@given(st.integers(1, 10), st.data())
def test_whatever_fails_the_rest_still_fails_keeps_its_order_and_is_1_minimal(
    count: int, data: st.DataObject
):
    items = tuple(range(count))
    failing = data.draw(st.sets(st.sets(st.sampled_from(items)).map(lambda part: tuple(sorted(part)))))
    left, tried = reduce(items, lambda part: part in failing)
    assert left == items or left in failing
    assert is_part(left, items)
    assert not any(smaller in failing for smaller in without_each(left))
    assert len(tried) <= count**2 + 3 * count


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32))
def test_what_is_tried_is_a_part_of_what_failed_last(count: int, salt: int):
    failed = tuple(range(count))

    def fails(part: tuple[int, ...]) -> bool:
        nonlocal failed
        assert is_part(part, failed)
        assert len(part) < len(failed)
        if hash((salt, part)) % 3:
            return False
        failed = part
        return True

    assert reduce(failed, fails)[0] == failed


def test_one_of_many_is_found_in_about_twice_their_logarithm():
    for culprit in (0, 37, 99):
        left, tried = reduce(tuple(range(100)), lambda part, culprit=culprit: culprit in part)
        assert left == (culprit,)
        assert len(tried) <= 2 * 7 + 1


def test_the_last_part_is_tried_first():
    _, tried = reduce(tuple(range(8)), lambda part: 7 in part)
    assert tried == [(4, 5, 6, 7), (6, 7), (7,), ()]


@pytest.mark.parametrize(("items", "calls"), [((), 0), ((1,), 1)])
def test_if_nothing_is_needed_nothing_is_left(items: tuple[int, ...], calls: int):
    left, tried = reduce(items, lambda _part: True)
    assert (left, len(tried)) == ((), calls)
