"""Every migration says what it met in flight and how long it kept the guest from its disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricate import journal_rows, passing_run, write_journal
from histories import INFO, Op, history, read
from histories import write as op

from jepsen_blk.blackout import Blackouts
from jepsen_blk.capacity import Capacity
from jepsen_blk.history.events import Event
from jepsen_blk.history.record import PENDING, F, History
from jepsen_blk.judge import judge_run

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
    folder: Path,
    *entries: dict[str, Any],
    events: tuple[Event, ...] = (END, RESUME),
    parts: tuple[History, ...] = (),
) -> dict[str, Any]:
    log = folder / "target.jsonl"
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"f":"wri')
    blackouts = Blackouts(events, log)
    for part in parts:
        blackouts.look(part)
    (move,) = blackouts.results()
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
    (alone,) = Blackouts((END, RESUME), tmp_path / "no log").results()
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
    pauses = [move["pause_ms"] for move in Blackouts(events, log).results()]
    assert pauses == ([None, 50] if second else [50, 50])


def test_writes_that_the_destinations_first_write_met_at_the_storage_overlap_with_it(tmp_path: Path) -> None:
    met = [write("x", 1, 90, 161), write("x", 1, 95, 300), write("x", 2, 120, 165)]
    over = [write("x", 3, 90, 160), write("x", 4, 161, 170), write("y", 5, 20, 200), write("z", 6, 90, 200)]
    first = [write("y", 7, 170, 171), write("y", 8, 160, 190), write("y", 9, 50, 55)]
    assert accounted(tmp_path, *met, *over, *first)["overlap"] == 2
    assert accounted(tmp_path, *met, *over)["overlap"] == 0


# The guest's clock is 1000 ms behind and stands still while the guest does: the stop is at its -900.
SENT = [write("x", 1, 80, 85), write("x", 2, 98, 300), write("y", 3, 170, 172), write("y", 2, 165, 171)]
SENT_OPS = [op(1, -921, -914), op(2, -903, -891), op(3, -894, -890)]


def indeterminate(folder: Path, *ops: Op, log: list[dict[str, Any]] | None = None, parts: int = 1) -> Any:
    rows = [
        row._replace(start=row.start * MS, finish=None if row.finish is None else row.finish * MS)
        for row in ops
    ]
    split = tuple(history(rows[number::parts]) for number in range(parts))
    return accounted(folder, *(SENT if log is None else log), parts=split)["indeterminate"]


@pytest.mark.parametrize("parts", [1, 3])
def test_operations_that_cross_the_stop_and_whose_outcome_nobody_knows_are_indeterminate(
    tmp_path: Path, parts: int
) -> None:
    across = [
        *(op(11, -950, None, outcome=INFO), op(12, -901, None, outcome=INFO)),
        *(op(13, -950, -880, outcome=INFO), read(0, -950, None, outcome=INFO)),
    ]
    before = op(21, -950, -910, outcome=INFO)
    after = [op(22, -885, None, outcome=INFO), read(0, -885, -880, outcome=INFO)]
    known = [op(23, -950, -880), read(0, -950, -880)]
    other = op(24, -950, None, outcome=INFO, boot=1)
    ops = [*across, before, *after, *known, other, *SENT_OPS]
    assert indeterminate(tmp_path, *ops, parts=parts) == 4


def test_without_a_write_of_the_source_nobody_can_tell_what_crossed_the_stop(tmp_path: Path) -> None:
    lost = op(11, -950, None, outcome=INFO)
    assert indeterminate(tmp_path, lost, *SENT_OPS, log=SENT[2:]) is None
    assert indeterminate(tmp_path, lost) is None


def test_a_guest_that_never_completed_a_write_again_has_all_it_left_open_indeterminate(
    tmp_path: Path,
) -> None:
    lost = [op(11, -950, None, outcome=INFO), op(12, -880, None, outcome=INFO)]
    assert indeterminate(tmp_path, *lost, *SENT_OPS, log=SENT[:2]) == 2


@pytest.mark.parametrize("windows", [False, True])
def test_a_run_is_judged_with_what_its_history_left_indeterminate_at_each_migration(
    tmp_path: Path, windows: bool
) -> None:
    run = passing_run(tmp_path / "run")
    rows = journal_rows((run / "history.blk").read_bytes())
    before = judge_run(run)["migrations"]
    stop = int(rows["start"].min()) + 1_290 * MS
    lost = np.flatnonzero((rows["f"] == F.WRITE) & (rows["start"] < stop))[-4:]
    rows["outcome"][lost] = INFO
    rows["finish"][lost] = PENDING
    write_journal(run / "history.blk", rows)
    small = Capacity(4_000_000, part_rows=2_000) if windows else None
    moves = judge_run(run, capacity=small)["migrations"]
    assert [move["indeterminate"] for move in before] == [0, 0, 0]
    assert [move["indeterminate"] for move in moves] == [4, 4, 4]
