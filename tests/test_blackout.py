"""Every migration says what it met in flight and how long it kept the guest from its disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk.blackout import account
from jepsen_blk.history.events import Event

MS = 1_000_000
MOVE = {
    "source": "x",
    "destination": "y",
    "mode": "precopy",
    "begin_ns": 50 * MS,
    "stopped_ns": 100 * MS,
    "end_ns": 130 * MS,
    "total_ms": 80.0,
    "downtime_ms": 20.0,
    "transferred_bytes": 7,
}
END = Event(130 * MS, "migration", "precopy", "end", "y", MOVE)
RESUME = Event(150 * MS, "migration", "precopy", "resume", "y", {})


def write(node: str, value: int, received_ms: int, done_ms: int, f: str = "write") -> dict[str, Any]:
    return {"f": f, "node": node, "value": value, "received": received_ms * MS, "done": done_ms * MS}


def accounted(
    folder: Path, *entries: dict[str, Any], events: tuple[Event, ...] = (END, RESUME)
) -> dict[str, Any]:
    log = folder / "target.jsonl"
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"f":"wri')
    (move,) = account(events, log)
    return move


def test_what_the_migrations_event_says_is_taken_over_without_what_no_reader_needs(tmp_path: Path) -> None:
    move = accounted(tmp_path)
    assert (
        move.items() >= {name: value for name, value in MOVE.items() if name != "transferred_bytes"}.items()
    )
    assert "transferred_bytes" not in move


def test_writes_that_cross_the_stop_are_in_flight_and_those_sent_again_reissued(tmp_path: Path) -> None:
    crossing = [write("x", 1, 90, 101), write("x", 2, 100, 300), write("x", 2, 95, 200)]
    others = [write("x", 3, 80, 100), write("x", 4, 101, 110), write("y", 5, 90, 110), write("z", 6, 90, 110)]
    again = [
        write("y", 1, 160, 161),
        write("y", 3, 160, 161),
        write("y", 2, 100, 161),
        write("x", 2, 160, 161),
    ]
    move = accounted(tmp_path, *crossing, *others, *again)
    assert (move["in_flight"], move["reissued"]) == (2, 1)


def test_a_blackout_is_told_for_the_guest_its_first_write_and_the_storage(tmp_path: Path) -> None:
    before = [write("x", 1, 80, 97), write("x", 2, 70, 90), write("x", 3, 95, 400), write("y", 9, 20, 99)]
    after = [
        write("y", 4, 170, 190),
        write("y", 5, 160, 200),
        write("y", 6, 50, 155),
        write("x", 7, 110, 120),
    ]
    move = accounted(tmp_path, *before, *after, write("y", 8, 140, 141, f="read"))
    assert move["pause_ms"] == 50
    assert move["first_write_ms"] == 60
    assert move["stall_ms"] == 190 - 97


def test_what_did_not_happen_is_none_and_not_nought(tmp_path: Path) -> None:
    move = accounted(tmp_path, write("x", 1, 80, 97), events=(END,))
    assert (move["pause_ms"], move["first_write_ms"], move["stall_ms"]) == (None, None, None)
    (alone,) = account((END, RESUME), tmp_path / "no log")
    assert (alone["in_flight"], alone["pause_ms"]) == (0, 50)


@pytest.mark.parametrize("second", [True, False])
def test_a_guest_that_ran_on_only_after_a_later_migration_has_no_pause_of_the_first(
    tmp_path: Path, second: bool
) -> None:
    back = MOVE | {"source": "y", "destination": "x", "stopped_ns": 180 * MS}
    end = Event(200 * MS, "migration", "precopy", "end", "x", back)
    events = (
        END,
        *(() if second else (RESUME,)),
        end,
        Event(230 * MS, "migration", "precopy", "resume", "x", {}),
    )
    log = tmp_path / "target.jsonl"
    pauses = [move["pause_ms"] for move in account(events, log)]
    assert pauses == ([None, 50] if second else [50, 50])
