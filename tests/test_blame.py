"""The storage's log names the copy of the write that did the damage, and never more than it shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from histories import FAIL, INFO, history, read, write

from jepsen_blk.checker import blame
from jepsen_blk.checker.anomalies import Anomaly
from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import Fence, History
from jepsen_blk.stamp import SEQUENCE_BITS

S = 1_000_000_000
STALE = history(
    [
        write(4242, 100, 200, block=17),
        write(4243, 300, 400, block=17),
        read(4243, 500, 600, block=17),
        read(4242, 1600, 1700, block=17),
    ]
)


def culprit(anomaly: Anomaly, log: Path, fenced_ns: dict[int, int]) -> str | None:
    (told,) = blame.explain([anomaly], log, fenced_ns)
    return told


def line(
    id_: int, node: str, value: int, received: float, applied: float | None, done: float, **more: Any
) -> dict:
    times = {"received": int(received * S), "applied": applied and int(applied * S), "done": int(done * S)}
    entry = {"f": "write", "id": id_, "node": node, "block": 17, "value": value, "process": 3, **times}
    return entry | {"action": "apply", "outcome": "ok", "why": ""} | more


def log(folder: Path, *entries: dict, tail: str = "") -> Path:
    path = folder / "target.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + tail)
    return path


BOOT = 1 << SEQUENCE_BITS
LATE = history([write(7, 0, 10, outcome=INFO), read(0, 40, 50), read(7, 60, 70)], [Fence(15)])


def test_a_write_that_was_applied_behind_the_fence_of_its_guest_is_the_culprit(tmp_path: Path) -> None:
    path = log(tmp_path, line(1, "x", 7, 10, 13.1, 13.2))
    said = "write 7 of X, held 3.1 s, was applied 1.1 s after its guest had been fenced off"
    assert culprit(anomaly_of(LATE), path, {0: 12 * S, 1: 20 * S}) == said


@pytest.mark.parametrize("fenced", [{}, {1: 12 * S}, {0: int(13.1 * S)}], ids=["none", "another", "later"])
def test_without_a_fence_before_it_no_late_write_is_named(tmp_path: Path, fenced: dict[int, int]) -> None:
    assert culprit(anomaly_of(LATE), log(tmp_path, line(1, "x", 7, 10, 13.1, 13.2)), fenced) is None


def test_what_no_fence_closed_is_not_held_against_one(tmp_path: Path) -> None:
    (found,) = check(replace(LATE, fences=()), Deadline.ERROR).anomalies
    assert found.kind == "zombie-write"
    assert culprit(found, log(tmp_path, line(1, "x", 7, 10, 13.1, 13.2)), {0: 12 * S}) is None


def test_of_two_writes_the_one_that_came_behind_its_own_fence_is_named(tmp_path: Path) -> None:
    ops = [
        write(7, 0, 10),
        write(BOOT | 1, 12, None, outcome=INFO, boot=1),
        read(7, 40, 50),
        read(BOOT | 1, 60, 70),
    ]
    path = log(tmp_path, line(1, "x", 7, 9.99, 10, 10.1), line(2, "y", BOOT | 1, 13, 13.01, 13.02))
    said = f"write {BOOT | 1} of Y was applied 1.0 s after its guest had been fenced off"
    assert culprit(anomaly_of(history(ops, [Fence(15, 1)])), path, {0: 9 * S, 1: 12 * S}) == (
        f"write 7 of X was applied 1.0 s after its guest had been fenced off; {said}"
    )
    assert culprit(anomaly_of(history(ops, [Fence(15, 1)])), path, {0: 11 * S, 1: 12 * S}) == said


def test_a_late_write_over_an_acknowledged_one_is_told_by_that(tmp_path: Path) -> None:
    over = history(
        [write(7, 0, 10, outcome=INFO), write(BOOT | 1, 20, 30, boot=1), read(7, 40, 50)], [Fence(15)]
    )
    path = log(tmp_path, line(2, "y", BOOT | 1, 12, 12.01, 12.1), line(1, "x", 7, 13, 13.01, 13.2))
    assert culprit(anomaly_of(over), path, {0: 11 * S}) == (
        f"write 7 of X was applied 910 ms after write {BOOT | 1} had been acknowledged"
    )


def anomaly_of(given: History) -> Anomaly:
    (anomaly,) = check(given).anomalies
    return anomaly


def test_a_held_write_that_landed_late_is_the_culprit(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        {"f": "held", "id": 1, "hold": 1, "node": "x", "block": 17, "value": 4242, "time": 10 * S},
        line(2, "y", 4242, 10.3, 10.4, 10.5),
        line(3, "y", 4243, 10.6, 10.65, 10.7),
        {"f": "released", "hold": 1, "id": 1, "time": int(13.1 * S)},
        line(1, "x", 4242, 10, 13.1, 13.2),
        line(9, "x", 1, 10, 20, 30),
    )
    assert culprit(anomaly_of(STALE), path, {}) == (
        "write 4242 of X, held 3.1 s, was applied 2.4 s after write 4243 had been acknowledged"
    )


def test_ignored_writes_are_named_too(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        line(2, "y", 4242, 10.3, None, 10.3, action="ignore"),
        line(3, "y", 4243, 10.6, None, 10.7, action="ignore"),
        line(1, "x", 4242, 10, 13.1, 13.2),
    )
    assert culprit(anomaly_of(STALE), path, {}) == (
        "write 4242 of X, held 3.1 s, was applied 2.4 s after write 4243 had been acknowledged; "
        "the re-issue of 4242 from Y was ignored and completed; write 4243 of Y was ignored and completed"
    )


def test_a_lost_write_that_was_ignored_is_named_without_a_late_one(tmp_path: Path) -> None:
    lost = history([write(4242, 0, 10), write(4243, 20, 30), read(4242, 40, 50)])
    path = log(
        tmp_path, line(1, "x", 4242, 10, 10.1, 10.2), line(2, "x", 4243, 10.3, None, 10.4, action="ignore")
    )
    assert culprit(anomaly_of(lost), path, {}) == "write 4243 of X was ignored and completed"


def test_a_failed_write_that_was_applied_is_named(tmp_path: Path) -> None:
    aborted = history([write(7, 0, 10, outcome=FAIL), read(7, 40, 50)])
    path = log(tmp_path, line(1, "x", 7, 10, 10.1, 10.2, outcome="error"))
    assert culprit(anomaly_of(aborted), path, {}) == (
        "write 7 of X was applied although its guest was told that it failed"
    )


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = log(
        tmp_path, line(3, "y", 4243, 10.6, 10.65, 10.7), line(1, "x", 4242, 10, 13.1, 13.2), tail='{"f":"wri'
    )
    assert "of X" in (culprit(anomaly_of(STALE), path, {}) or "")


def test_no_culprit_is_named_where_the_log_shows_none(tmp_path: Path) -> None:
    anomaly = anomaly_of(STALE)
    assert culprit(anomaly, tmp_path / "missing.jsonl", {}) is None
    assert culprit(anomaly, log(tmp_path), {}) is None
    in_order = [line(1, "x", 4242, 10, 10.1, 10.2), line(3, "x", 4243, 10.6, 10.65, 10.7)]
    assert culprit(anomaly, log(tmp_path, *in_order), {}) is None
    phantom = history([write(1, 0, 5), read(-1, 10, 20), read(1, 30, 40)])
    assert culprit(anomaly_of(phantom), log(tmp_path, *in_order), {}) is None


def test_the_log_is_read_once_however_many_anomalies_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    entries = blame._entries

    def counted(path: Path) -> Iterator[dict[str, Any]]:
        read.append(path)
        return entries(path)

    monkeypatch.setattr(blame, "_entries", counted)
    path = log(tmp_path, line(1, "x", 7, 10, 13.1, 13.2))
    found = anomaly_of(STALE)
    assert blame.explain([found] * 5, path, {}) == blame.explain([found], path, {}) * 5
    assert len(read) == 2
