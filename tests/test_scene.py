"""What a drawing shows of a zombie: the write that came late, the read that shows it, and both orders."""

from __future__ import annotations

import pytest
from histories import INFO, Op, history, read, write

from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import Fence, History
from jepsen_blk.report.scene import Scene, scene_of

A, B = 1, 2
W_A, LOST_B = write(A, 0, 10), write(B, 12, 14, outcome=INFO)


def scene(whole: History, deadline: Deadline = Deadline.FENCE) -> Scene:
    (anomaly,) = check(whole, deadline).anomalies
    return scene_of(whole, anomaly.to_json())


def shown(drawn: Scene) -> list[tuple[str, str, bool]]:
    return [(bar.text if bar.f == "write" else bar.name, bar.tone, bar.bad) for bar in drawn.bars]


@pytest.mark.parametrize("deadline", [Deadline.FENCE, Deadline.ERROR])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [1, 3, 2, 0]])
def test_of_a_late_zombie_the_read_that_returned_it_is_the_bad_one(
    deadline: Deadline, rows: list[int]
) -> None:
    ops = [W_A, LOST_B, read(A, 40, 50), read(B, 60, 70)]
    drawn = scene(history([ops[row] for row in rows], [Fence(15)] * (deadline is Deadline.FENCE)), deadline)
    assert shown(drawn) == [
        ("write 1", "new", False),
        ("write 2", "old", False),
        ("1", "new", False),
        ("2", "old", True),
    ]
    assert len(drawn.orders) == 2


@pytest.mark.parametrize("ops", [[read(A, 40, 60), read(B, 50, 70)], [read(B, 40, 60), read(A, 50, 70)]])
def test_so_it_is_whichever_of_two_reads_at_once_began_first(ops: list[Op]) -> None:
    assert [bar.name for bar in scene(history([W_A, LOST_B, *ops], [Fence(15)])).bars if bar.bad] == ["2"]


@pytest.mark.parametrize("deadline", [Deadline.FENCE, Deadline.ERROR])
def test_of_a_zombie_over_an_acknowledged_write_it_is_the_read_that_returned_the_zombie(
    deadline: Deadline,
) -> None:
    ops = [write(A, 0, 10, outcome=INFO), write(B, 20, 30), read(A, 40, 50)]
    drawn = scene(history(ops, [Fence(15)] * (deadline is Deadline.FENCE)), deadline)
    assert shown(drawn) == [("write 1", "old", False), ("write 2", "new", False), ("1", "old", True)]


def test_a_write_that_was_never_reported_is_shown_up_to_its_fence_with_what_contradicts_it() -> None:
    drawn = scene(history([read(0, 20, 30), read(B, 40, 50)], [Fence(15)], lost_tails=[0]))
    assert [bar.who for bar in drawn.bars] == ["unreported", "process 0", "process 0"]
    assert (drawn.bars[0].text, drawn.bars[0].line, drawn.bars[0].end_ms) == ("write 2", -1, 15e-6)
    assert [order.text for order in drawn.orders] == [
        "the write 2 was closed before the read began; but never written comes before every write",
        "never written before 2: the read of never written ended before the read of 2 began",
    ]
