"""A history read from disk in windows is judged exactly as it is in memory, whatever it holds."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from histories import FAIL, INFO, Op, atomic, flush, history, read, write

from jepsen_blk.checker import engine
from jepsen_blk.checker.anomalies import Anomaly
from jepsen_blk.checker.large import check_large, sift
from jepsen_blk.checker.survey import MOST_LATE, survey
from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import UserError
from jepsen_blk.history.parts import Part
from jepsen_blk.history.record import PENDING, Clock, F, Fence, History
from jepsen_blk.history.rows import select
from jepsen_blk.stamp import SEQUENCE_BITS

ENOUGH = 10**9
BOOT1 = 1 << SEQUENCE_BITS


@pytest.fixture(params=["numpy", "numba"], autouse=True)
def engine_in_use(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test run with both engines."""
    if request.param == "numba":
        pytest.importorskip("numba", reason="numba is not installed (the extra `fast`)")
        monkeypatch.setattr(engine, "LEAST_OPS", 0)


@dataclass(frozen=True)
class Cut:
    """A history in parts of so many rows; only the last says which boots have a lost tail."""

    history: History
    size: int
    name: str = "a history"

    def __call__(self) -> Iterator[Part]:
        count = max(1, len(self.history))
        for low in range(0, count, self.size):
            rows = select(self.history, np.arange(low, min(low + self.size, len(self.history))))
            last = low + self.size >= count
            tails = self.history.lost_tails if last else frozenset[int]()
            yield Part(replace(rows, lost_tails=tails), min(1.0, (low + self.size) / count))


def any_history(seed: int) -> History:
    """Registers of one boot or two, damaged or not, with marks, in any order of rows."""
    rng = random.Random(seed)
    made = atomic(
        seed,
        ops=rng.choice([0, 5, 30, 120]),
        blocks=rng.choice([1, 2, 5, 20]),
        processes=rng.choice([2, 8, 30]),
        info=rng.choice([0, 0.05, 0.3]),
        closed=rng.random() < 0.5,
    )
    if rng.random() < 0.2:
        made = replace(made, block=made.block * 10**12 + 5)
    if rng.random() < 0.5:
        made = with_second_boot(made, rng.randrange(len(made) + 1))
    if rng.random() < 0.2:  # ties
        start = made.start // 40 * 40
        made = replace(
            made, start=start, finish=np.where(made.finish == PENDING, PENDING, made.finish // 40 * 40)
        )
    damage(made, rng)
    order = np.arange(len(made))
    tails: list[int] = []
    if rng.random() < 0.4:
        tails = rng.choice([[0], [0, 1]])
        lost = rng.sample(order.tolist(), min(4, len(made)))
        order = np.array([row for row in order if row not in lost or made.f[row] == F.READ], dtype=np.int64)
    if rng.random() < 0.3:  # cut off, so that some blocks are not read again
        order = order[: rng.randrange(len(order) + 1)]
    match rng.randrange(6):
        case 0:
            rng.shuffle(order)
        case 1:
            order = order[np.argsort(made.start[order], kind="stable")]
        case 2:
            order = order[np.argsort(made.block[order], kind="stable")]
    span = int(made.start.max(initial=0)) + 1
    return replace(
        select(made, order),
        line=None,
        lost_tails=frozenset(tails),
        fences=tuple(Fence(rng.randrange(span), rng.randrange(2)) for _ in range(rng.choice([0, 0, 1, 3]))),
        clocks=tuple(
            Clock(rng.randrange(2), rng.choice([0, 5, 60])) for _ in range(rng.choice([0, 0, 1, 2]))
        ),
    )


def with_second_boot(made: History, first: int) -> History:
    """Let the rows from `first` on, and the values that they write, be of boot 1."""
    boot, value = made.boot.copy(), made.value.copy()
    boot[first:] = 1
    moved = value[first:][made.f[first:] == F.WRITE]
    value[np.isin(value, moved)] += BOOT1
    return replace(made, boot=boot, value=value)


def damage(made: History, rng: random.Random) -> None:
    """Change a few operations in place: what a read saw, whether a write failed, its value or its block."""
    for _ in range(rng.choice([0, 0, 1, 2, 4]) if len(made) else 0):
        row = rng.randrange(len(made))
        if made.f[row] == F.READ:
            made.value[row] = rng.choice([*rng.choices(made.value.tolist(), k=4), 0, -1, -2, -3, 999_999])
        elif rng.random() < 0.4 and made.finish[row] != PENDING:
            made.outcome[row] = FAIL
        elif rng.random() < 0.5:
            made.value[row] = rng.choice(made.value[made.f == F.WRITE].tolist())
        else:
            made.block[row] = rng.choice(made.block.tolist())


@pytest.mark.parametrize("first", range(0, 120, 40))
def test_windows_of_any_size_end_in_the_result_of_the_check_in_memory(first: int) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(first, first + 40):
        made, rng = any_history(seed), random.Random(seed)
        for size in (rng.choice([1, 3, 7]), rng.choice([20, 50, 1000])):
            parts, deadline = Cut(made, size), rng.choice(list(Deadline))
            surveyed = survey(parts, most_late=rng.choice([0, 3, 10, MOST_LATE]))
            expected = check(made, deadline)
            assert check_large(parts, surveyed, deadline, ENOUGH) == expected, (seed, size)
            alarmed = sift(parts, surveyed, deadline, ENOUGH).bad.any() or len(surveyed.twice) > 0
            assert alarmed == (expected.verdict == "fail"), (seed, size)  # there are no false alarms either
            kinds.update({anomaly.kind for anomaly in expected.anomalies} | {expected.verdict})
    assert {"pass", "unknown", "fail", "phantom", "misdirected", "split-brain", "torn"} <= set(kinds)


def test_verdicts_are_the_same_and_a_reason_is_given_where_the_failing_blocks_do_not_fit() -> None:
    cut_short = 0
    for seed in range(80):
        made, rng = any_history(seed), random.Random(seed)
        parts, deadline = Cut(made, rng.choice([3, 10, 40])), rng.choice(list(Deadline))
        expected = check(made, deadline)
        try:
            got = check_large(parts, survey(parts), deadline, most_rows=rng.choice([10, 30]))
        except UserError:
            continue
        assert got.deadlines == expected.deadlines
        assert set(got.anomalies) <= set(expected.anomalies)
        if got != expected:
            cut_short += 1
            assert got.reasons[-1].endswith("have anomalies, but their operations do not fit in memory")
    assert cut_short > 5


def stale_in_each(blocks: int) -> History:
    """In each block a write is acknowledged, and the one before it comes back much later."""
    ops: list[Op] = []
    for block in range(blocks):
        first = 10 * block + 1
        ops += [
            write(first, 10 * block, 10 * block + 5, block),
            write(first + 1, 10 * block + 6, 10 * block + 9, block),
        ]
    ops += [read(10 * block + 1, 9000 + block, 9500 + block, block) for block in range(blocks)]
    return history(ops)


def test_every_failing_block_is_found_though_the_first_windows_fail_already() -> None:
    made = stale_in_each(30)
    parts = Cut(made, 4)
    result = check_large(parts, survey(parts), Deadline.FENCE, ENOUGH)
    assert [anomaly.block for anomaly in result.anomalies] == list(range(30))
    assert result == check(made)


def test_a_flood_is_counted_as_in_memory() -> None:
    parts = Cut(stale_in_each(250), 50)
    result = check_large(parts, survey(parts), Deadline.FENCE, ENOUGH)
    assert result.reasons == ("150 more anomalies are not listed",)


def only(made: History, size: int) -> Anomaly:
    parts = Cut(made, size)
    (anomaly,) = check_large(parts, survey(parts), Deadline.FENCE, ENOUGH).anomalies
    assert (anomaly,) == check(made).anomalies
    return anomaly


def test_a_read_of_another_blocks_forgotten_write_is_misdirected() -> None:
    ops = [
        write(1, 0, 5, block=3),
        write(2, 6, 9, block=3),
        read(2, 10, 15, block=3),
        read(1, 90, 95, block=8),
    ]
    anomaly = only(history(ops), 1)
    assert (anomaly.kind, anomaly.block, anomaly.ops) == ("misdirected", 8, (0, 3))


def test_a_lost_tail_first_read_on_another_block_is_adopted_there() -> None:
    ops = [write(1, 0, 5), read(7, 10, 15, block=1), read(1, 20, 25), read(7, 30, 35, block=2)]
    anomaly = only(replace(history(ops), lost_tails=frozenset([0])), 1)
    assert (anomaly.kind, anomaly.block) == ("misdirected", 2)


def test_two_writes_of_one_value_far_apart_are_a_split_brain() -> None:
    ops = [write(5, 0, 10), read(5, 20, 30), write(6, 40, 50, block=1), write(5, 60, 70, block=2)]
    anomaly = only(history(ops), 1)
    assert (anomaly.kind, anomaly.ops) == ("split-brain", (0, 3))


def most_kept(made: History, size: int = 50, most_late: int = MOST_LATE) -> int:
    parts = Cut(made, size)
    sifted = sift(parts, survey(parts, most_late), Deadline.ERROR, ENOUGH)
    assert not sifted.bad.any()
    return sifted.most_kept


def test_what_is_kept_does_not_grow_with_a_clean_history() -> None:
    short, long = (most_kept(atomic(3, ops, blocks=8, info=0)) for ops in (1000, 8000))
    assert long < 2 * short < 100


def test_one_operation_that_lasts_throughout_keeps_open_no_more_than_its_own_block() -> None:
    made = atomic(3, ops=8000, blocks=8, info=0)
    last = int(made.finish.max())
    slow_read = history([read(0, 1, last + 1, block=77)])
    lost_write = history([write(10**6, 2, None, block=5, outcome=INFO)])
    usual = most_kept(made)
    for slow in (slow_read, lost_write):
        columns = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")
        both = {name: np.append(getattr(made, name), getattr(slow, name)) for name in columns}
        assert most_kept(replace(made, **both)) <= usual + 2
        assert most_kept(replace(made, **both), most_late=0) > 1000


def test_more_open_writes_than_fit_are_an_error_that_names_the_file() -> None:
    backward = atomic(3, ops=2000, blocks=8, info=0)
    parts = Cut(select(backward, np.arange(len(backward))[::-1]), 50)
    with pytest.raises(UserError, match=r"^a history: more than 300 writes are open at once"):
        check_large(parts, survey(parts), Deadline.FENCE, most_rows=300)


def test_a_survey_knows_what_the_whole_file_says() -> None:
    ops = [
        flush(0, 5),
        write(4, 10, 15),
        write(4, 20, 25),
        read(9, 30, 35, block=2),
        write(9, 28, 50, block=2),
    ]
    made = replace(history(ops, fences=[Fence(7), Fence(8, 1)]), clocks=(Clock(0, 3),))
    found = survey(Cut(made, 2))
    assert (found.twice.tolist(), found.again) == ([4], (4, 2))
    assert (found.marks.fences, found.marks.clocks) == (made.fences, made.clocks)
    assert found.early.value.tolist() == [9]  # read in a part before that of its write
    assert (found.tally.ops, found.tally.writes, found.tally.looked) == (5, 3, 1)
    assert found.horizons.tolist() == [17, PENDING - 3, PENDING - 3]
