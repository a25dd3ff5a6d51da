"""The story tells what the storage did, in the order in which it did it, and nothing it cannot know."""

import json

import numpy as np
import pytest
from fabricate import BLOCK, NEW, OLD, failing_run
from failover_run import FENCE_MS, failover_run

from jepsen_blk.report.run_data import load_run
from jepsen_blk.report.series import MAX_POINTS
from jepsen_blk.report.story import Story, tell
from jepsen_blk.report.story_picture import draw_story, make_axis


def story_of(run_dir) -> Story:
    run = load_run(run_dir)
    story = tell(run, run.anomalies[0])
    assert story is not None
    return story


def test_the_founding_case_is_told_from_the_held_write_to_the_bad_read(tmp_path):
    texts = [step.text for step in story_of(failing_run(tmp_path / "run")).steps]
    expected = (
        "X sends write 4242 to block 17",
        "X loses its path",
        "moves live from X to Y while 4242 is still in flight",
        "Y sends 4242 again",
        "overwrites block 17 with 4243",
        "A read returns 4243",
        "late copy of 4242 that X had sent is applied, over 4243",
        "returns 4242: the acknowledged write 4243 is gone",
    )
    assert len(texts) == len(expected)
    for text, part in zip(texts, expected, strict=True):
        assert part in text


def test_steps_are_numbered_in_order_of_time(tmp_path):
    steps = story_of(failing_run(tmp_path / "run")).steps
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert [step.time_ms for step in steps] == sorted(step.time_ms for step in steps)


def test_the_block_is_seen_to_hold_the_old_the_new_and_the_old_value_again(tmp_path):
    contents = story_of(failing_run(tmp_path / "run")).contents
    assert [content.value for content in contents] == [OLD, NEW, OLD]


def test_an_ignored_write_is_not_said_to_have_been_overwritten(tmp_path):
    story = story_of(failing_run(tmp_path / "run", ignore_second=True))
    texts = " ".join(step.text for step in story.steps)
    assert "ignores it" in texts
    assert "4243 never reached the block" in texts
    assert [content.value for content in story.contents] == [OLD]


def test_guest_and_host_events_are_not_mixed_when_their_clocks_cannot_be_joined(tmp_path):
    story = story_of(failing_run(tmp_path / "run", with_target_log=False))
    assert not story.moves
    assert not story.bands
    assert not any("moves" in step.text for step in story.steps)
    assert story.steps[-1].bad


def test_operations_are_placed_on_the_node_where_the_guest_was(tmp_path):
    story = story_of(failing_run(tmp_path / "run"))
    assert [op.node for op in story.ops] == ["x → y", "y", "y", "y"]


def test_times_of_the_guest_agree_with_the_storages_across_the_migration(tmp_path):
    story = story_of(failing_run(tmp_path / "run"))
    write = next(op for op in story.ops if op.f == "write" and op.value == NEW)
    copy = next(copy for copy in story.copies if copy.value == NEW)
    assert write.start_ms <= copy.received_ms <= copy.end_ms <= write.finish_ms


def test_a_held_write_that_never_ended_is_still_drawn(tmp_path):
    run_dir = failing_run(tmp_path / "run")
    lines = [json.loads(line) for line in (run_dir / "target.jsonl").read_text().splitlines()]
    held = next(line["id"] for line in lines if line["f"] == "held")
    kept = [line for line in lines if line.get("id") != held or line["f"] == "held"]
    (run_dir / "target.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    story = story_of(run_dir)
    assert story.copies[0].node == "x"
    assert story.copies[0].applied_ms is None
    assert story.late is None
    draw_story(story, "")


def told(run_dir) -> list[str]:
    return [step.text for step in story_of(run_dir).steps]


SENT = "X sends write 301 to block 17. That is after the fence."
GIVEN_UP = "X is given up, and its guest is fenced off: nothing of it may land from now on."
LATE_READ = "A read of block 17 returns 301, which one after the fence had not found."


def test_a_late_zombie_is_told_from_the_fence_to_the_read_that_shows_it(tmp_path):
    assert told(failover_run(tmp_path / "run", before=50)) == [
        "The guest on X writes 50 to block 17. It is applied and acknowledged.",
        GIVEN_UP,
        "A read returns 50.",
        SENT,
        "The late copy of 301 that X had sent is applied, over 50.",
        LATE_READ,
    ]


def test_a_late_zombie_on_a_block_that_was_never_written_came_over_nothing(tmp_path):
    assert told(failover_run(tmp_path / "run", before=0)) == [
        GIVEN_UP,
        "A read finds block 17 never written.",
        SENT,
        "The late copy of 301 that X had sent is applied.",
        LATE_READ,
    ]


def test_a_zombie_over_an_acknowledged_write_says_what_is_gone(tmp_path):
    assert told(failover_run(tmp_path / "run", before=0, rewrites=True)) == [
        GIVEN_UP,
        "The guest on Y writes 1:90 to block 17. It is applied and acknowledged.",
        SENT,
        "The late copy of 301 that X had sent is applied, over 1:90.",
        "A read of block 17 returns 301: the acknowledged write 1:90 is gone.",
    ]


def test_a_write_that_had_landed_before_the_fence_is_not_called_late(tmp_path):
    story = story_of(failover_run(tmp_path / "run", before=0, lands_ms=FENCE_MS - 20))
    assert story.late is None
    assert "X sends write 301 to block 17. It is applied and acknowledged." in [s.text for s in story.steps]


def test_a_guest_that_was_started_again_is_on_its_own_node_and_the_fence_on_that_of_the_lost_one(tmp_path):
    story = story_of(failover_run(tmp_path / "run", before=50))
    assert [(op.shown, op.node) for op in story.ops] == [("50", "x"), ("50", "y"), ("301", "y")]
    assert story.bad_read is story.ops[-1]
    assert (story.nodes, story.fence.node, story.late.value) == (("x", "y"), "x", 301)
    labels = [shape.text for shape in draw_story(story, "").shapes if shape.shape == "label"]
    assert {"fence", "the late copy overwrites 50"} <= set(labels)


def test_where_clocks_cannot_be_joined_a_late_zombie_is_told_without_its_fence(tmp_path):
    run_dir = failover_run(tmp_path / "run", before=0)
    (run_dir / "target.jsonl").unlink()
    assert told(run_dir) == ["A read finds block 17 never written.", LATE_READ]


def test_the_axis_keeps_the_order_of_events_and_gives_each_gap_room():
    times = [0.0, 0.2, 0.4, 3000.0, 3000.5, 90_000.0]
    axis = make_axis(times, 100, 1100)
    xs = [axis.x(time) for time in times]
    assert xs == sorted(xs)
    assert min(np.diff(xs)) > 20
    assert xs[0] == 100
    assert xs[-1] == pytest.approx(1100)


def test_everything_drawn_lies_on_the_canvas(tmp_path):
    for name, ignore in (("a", False), ("b", True)):
        picture = draw_story(story_of(failing_run(tmp_path / name, ignore_second=ignore)), "")
        for shape in picture.shapes:
            if shape.shape == "rect":
                assert shape.x >= 0
                assert shape.x + shape.width <= picture.width
                assert shape.y + shape.height <= picture.height
            elif shape.shape in ("badge", "label"):
                assert 0 <= shape.x <= picture.width
                assert 0 <= shape.y <= picture.height


def test_the_points_of_a_chart_are_bounded_and_keep_the_slowest_operation(tmp_path):
    from fabricate import long_run

    run = load_run(long_run(tmp_path / "run", operations=300_000))
    assert sum(len(points.time_ms) for points in run.series.points) <= MAX_POINTS
    slowest = (run.history.finish - run.history.start)[run.history.block != BLOCK].max() / 1e6
    assert slowest > 900
    assert any(points.latency_ms.max() >= slowest for points in run.series.points if len(points.latency_ms))
