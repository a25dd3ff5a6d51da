"""The sets of values and blocks that the checkers keep are what a plain set or dictionary would be."""

from __future__ import annotations

import random

import numpy as np
import pytest
from histories import history, read, write

from jepsen_blk.checker import index
from jepsen_blk.checker.index import Index, index_blocks, index_values
from jepsen_blk.checker.written import Written, WrittenInBulk
from jepsen_blk.history.record import Int64s
from jepsen_blk.stamp import SEQUENCE_BITS

BOOT = 1 << SEQUENCE_BITS
VALUES = {
    "one run": [3, 4, 5],
    "a run with a gap": [3, 5, 6],
    "one value": [7],
    "two boots, the later one first": [BOOT + 1, BOOT + 2, 1, 2, 3],
    "runs that touch": [BOOT - 1, BOOT],
    "too far apart": [1, 1 << 30, 2, (1 << 30) + 1],
    "none": [],
}


def array(values: list[int]) -> Int64s:
    return np.array(values, dtype=np.int64)


def assert_index(found: Index, keys: list[int], around: list[int]) -> None:
    """Every key has a place of its own, from which it can be told, and of the others none takes one."""
    places = found.places(array(keys)).tolist()
    assert sorted(set(places)) == sorted(places)
    assert all(0 <= place < found.size for place in places)
    assert found.keys(array(places)).tolist() == keys
    every = found.keys(np.arange(found.size)).tolist()
    assert sorted(set(every)) == every
    others = [key for key in around if key not in every]
    assert set(found.places(array(others)).tolist()) <= {-1}
    firsts, ends = found.runs()
    runs = zip(firsts.tolist(), ends.tolist(), ends.tolist()[1:], strict=False)
    assert len(ends) == len(firsts) + 1 > 1
    assert [key + i for key, low, end in runs for i in range(end - low)] == every
    assert ends[-1] == found.size


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("slice_", [1, 2, 1 << 17])
def test_every_value_written_has_a_place(name: str, slice_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_SLICE", slice_)
    values = VALUES[name]
    ops = [write(value, i, i + 1) for i, value in enumerate(values)]
    found = index_values(history([*ops, read(99, 0, 1)]))
    around = [value + step for value in values for step in (-2, -1, 1, 2)]
    assert_index(found, values, [*around, -1, 0, 99, BOOT, 2 * BOOT])
    dense = {"a run with a gap": 4}.get(name, len(values))
    assert found.size == dense


def test_values_of_more_boots_than_there_may_be_runs_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "MOST_RUNS", 3)
    for boots in (3, 4, 5):
        values = [boot * BOOT + number for boot in range(boots) for number in (1, 3)]
        found = index_values(history([write(value, 0, 1) for value in values]))
        assert_index(found, values, [0, 2, BOOT + 2, 9 * BOOT])
        assert found.size == (9 if boots == 3 else 2 * boots)


@pytest.mark.parametrize(
    ("values", "size"), [([1, 3, 5], 5), ([1, 2, 6], 6), ([1, 3, 7], 3), ([1, BOOT + 4, BOOT + 1], 5)]
)
def test_a_run_of_which_more_than_half_is_missing_is_sorted(
    values: list[int], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_SLACK", 0)
    found = index_values(history([write(value, 0, 1) for value in values]))
    assert found.size == size
    assert_index(found, values, [0, 2, 4, 8, BOOT])


@pytest.mark.parametrize(
    ("blocks", "size"), [([0, 2], 3), ([5], 6), ([-1, 4], 2), ([0, 1 << 40], 2), ([1 << 40], 1), ([], 0)]
)
def test_every_block_has_a_place(blocks: list[int], size: int) -> None:
    found = index_blocks(history([read(0, 0, 1, block) for block in blocks]))
    assert found.size == size
    assert_index(found, blocks, [-2, -1, 1, 3, 7, 1 << 41])


def test_blocks_are_sorted_where_a_cell_for_each_would_cost_more_than_the_history() -> None:
    slack = 1 << 20
    assert index_blocks(history([read(0, 0, 1, slack)])).size == slack + 1
    assert index_blocks(history([read(0, 0, 1, slack + 1)])).size == 1


def test_values_written_are_kept_as_what_a_set_would_hold_in_as_few_intervals_as_there_are() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        single, bulk, plain = Written(), WrittenInBulk(), set[int]()
        for _ in range(12):
            free = [value for value in range(1, 30) if value not in plain]
            new = sorted(rng.sample(free, rng.randrange(0, 3)))
            bulk.add_all(array(new))
            for value in rng.sample(new, len(new)):
                single.add(value)
            plain.update(new)
            asked = list(range(-1, 32))
            expected = [value in plain for value in asked]
            assert [value in single for value in asked] == expected
            assert bulk.contain(array(asked)).tolist() == expected
            starts = sorted(value for value in plain if value - 1 not in plain)
            assert single._lows == bulk._lows.tolist() == starts


def test_intervals_that_meet_a_set_are_told_and_added_once() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        written, plain = WrittenInBulk(), set[int]()
        for _ in range(6):
            cuts = sorted(rng.sample(range(1, 40), 2 * rng.randrange(0, 4)))
            lows, ends = cuts[::2], cuts[1::2]
            new = {value for low, end in zip(lows, ends, strict=True) for value in range(low, end)}
            assert written.meet(array(lows), array(ends)) == bool(new & plain)
            written.add_runs(array(lows), array(ends))
            plain |= new
            assert written.contain(np.arange(42)).tolist() == [value in plain for value in range(42)]
