"""The storage's log names the copy of the write that did the damage, and never more than it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from histories import FAIL, history, read, write

from jepsen_blk.checker.anomalies import Anomaly
from jepsen_blk.checker.blame import explain
from jepsen_blk.checker.verdict import check
from jepsen_blk.history.record import History

S = 1_000_000_000
STALE = history(
    [
        write(4242, 100, 200, block=17),
        write(4243, 300, 400, block=17),
        read(4243, 500, 600, block=17),
        read(4242, 1600, 1700, block=17),
    ]
)


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
    assert explain(anomaly_of(STALE), path) == (
        "write 4242 of X, held 3.1 s, was applied 2.4 s after write 4243 had been acknowledged"
    )


def test_ignored_writes_are_named_too(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        line(2, "y", 4242, 10.3, None, 10.3, action="ignore"),
        line(3, "y", 4243, 10.6, None, 10.7, action="ignore"),
        line(1, "x", 4242, 10, 13.1, 13.2),
    )
    assert explain(anomaly_of(STALE), path) == (
        "write 4242 of X, held 3.1 s, was applied 2.4 s after write 4243 had been acknowledged; "
        "the re-issue of 4242 from Y was ignored and completed; write 4243 of Y was ignored and completed"
    )


def test_a_lost_write_that_was_ignored_is_named_without_a_late_one(tmp_path: Path) -> None:
    lost = history([write(4242, 0, 10), write(4243, 20, 30), read(4242, 40, 50)])
    path = log(
        tmp_path, line(1, "x", 4242, 10, 10.1, 10.2), line(2, "x", 4243, 10.3, None, 10.4, action="ignore")
    )
    assert explain(anomaly_of(lost), path) == "write 4243 of X was ignored and completed"


def test_a_failed_write_that_was_applied_is_named(tmp_path: Path) -> None:
    aborted = history([write(7, 0, 10, outcome=FAIL), read(7, 40, 50)])
    path = log(tmp_path, line(1, "x", 7, 10, 10.1, 10.2, outcome="error"))
    assert explain(anomaly_of(aborted), path) == (
        "write 7 of X was applied although its guest was told that it failed"
    )


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = log(
        tmp_path, line(3, "y", 4243, 10.6, 10.65, 10.7), line(1, "x", 4242, 10, 13.1, 13.2), tail='{"f":"wri'
    )
    assert "of X" in (explain(anomaly_of(STALE), path) or "")


def test_no_culprit_is_named_where_the_log_shows_none(tmp_path: Path) -> None:
    anomaly = anomaly_of(STALE)
    assert explain(anomaly, tmp_path / "missing.jsonl") is None
    assert explain(anomaly, log(tmp_path)) is None
    in_order = [line(1, "x", 4242, 10, 10.1, 10.2), line(3, "x", 4243, 10.6, 10.65, 10.7)]
    assert explain(anomaly, log(tmp_path, *in_order)) is None
    phantom = history([write(1, 0, 5), read(-1, 10, 20), read(1, 30, 40)])
    assert explain(anomaly_of(phantom), log(tmp_path, *in_order)) is None
