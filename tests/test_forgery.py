"""No forged certificate passes the verifier, whatever was changed in it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import BUSY, STALE, Parts, certify, confirm, parts_of, store
from histories import atomic, history

from jepsen_blk.deadline import Deadline


def swap(parts: Parts) -> None:
    parts[1]["lines"][0], parts[1]["lines"][1] = parts[1]["lines"][1], parts[1]["lines"][0]


def move_before(parts: Parts) -> None:
    parts[1]["points"][-1] = 74


def move_after(parts: Parts) -> None:
    parts[1]["points"][0] = 51


def fall_back(parts: Parts) -> None:
    parts[1]["points"][0] = 21  # within its own interval, but the next point is 20


def read_before_its_write(parts: Parts) -> None:
    lines = parts[1]["lines"]
    lines[1], lines[2] = lines[2], lines[1]  # their points are equal and within both intervals


def drop(parts: Parts) -> None:
    del parts[1]["lines"][-1], parts[1]["points"][-1]


def repeat(parts: Parts) -> None:
    parts[1]["lines"].append(4)
    parts[1]["points"].append(90)


def rename_line(parts: Parts) -> None:
    parts[1]["lines"][0] = 17


def other_block(parts: Parts) -> None:
    parts[1]["block"] = 1


def leave_out_block(parts: Parts) -> None:
    parts[0]["parts"] = 0
    del parts[1]


def block_twice(parts: Parts) -> None:
    half = {name: parts[1][name][3:] for name in ("lines", "points")}
    parts.append({"block": 0, **half})
    parts[1] |= {name: parts[1][name][:3] for name in half}
    parts[0]["parts"] = 2


def other_count(parts: Parts) -> None:
    parts[0]["parts"] = 2


def other_digest(parts: Parts) -> None:
    parts[0]["sha256"] = "0" * 64


def other_verdict(parts: Parts) -> None:
    parts[0] |= {"verdict": "fail", "parts": 0}
    del parts[1:]


def invent_a_write(parts: Parts) -> None:
    op = {"f": "write", "process": -1, "block": 0, "value": 9, "start": 0, "finish": None, "outcome": "info"}
    parts[0]["adopted"] = [{"line": -1, "boot": 0, **op}]


ORDER_FORGERIES = [
    *(
        swap,
        move_before,
        move_after,
        fall_back,
        read_before_its_write,
        drop,
        repeat,
        rename_line,
        other_block,
        leave_out_block,
        block_twice,
    ),
    *(other_count, other_digest, other_verdict, invent_a_write),
]


@pytest.mark.parametrize("forge", ORDER_FORGERIES)
def test_a_forged_order_is_refuted(
    tmp_path: Path, forge: Callable[[Parts], None], capsys: pytest.CaptureFixture[str]
) -> None:
    files = certify(history(BUSY), tmp_path)
    assert confirm(files, capsys)[0] == 0
    parts = parts_of(files[0])
    forge(parts)
    store(files[0], parts)
    code, line = confirm(files, capsys)
    assert code == 1
    assert line.startswith("refuted: ")


def drop_op(parts: Parts) -> None:
    del parts[1]["ops"][1]


def drop_write(parts: Parts) -> None:
    del parts[1]["ops"][0]


def change_value(parts: Parts) -> None:
    parts[1]["ops"][0]["value"] = 5


def change_time(parts: Parts) -> None:
    parts[1]["ops"][1]["start"] = 101


def change_line(parts: Parts) -> None:
    parts[1]["ops"][0]["line"] = 17


def empty(parts: Parts) -> None:
    parts[1]["ops"] = []


def none_left(parts: Parts) -> None:
    parts[0]["parts"] = 0
    del parts[1]


@pytest.mark.parametrize(
    "forge",
    [drop_op, drop_write, change_value, change_time, change_line, empty, none_left, other_digest],
)
def test_a_forged_witness_is_refuted(
    tmp_path: Path, forge: Callable[[Parts], None], capsys: pytest.CaptureFixture[str]
) -> None:
    files = certify(history(STALE), tmp_path)
    assert confirm(files, capsys)[0] == 0
    parts = parts_of(files[0])
    forge(parts)
    store(files[0], parts)
    assert confirm(files, capsys)[0] == 1


def test_a_point_outside_or_an_operation_left_out_is_refuted_wherever_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = atomic(3, ops=120, blocks=3, info=0)
    files = certify(found, tmp_path, Deadline.NEVER)
    whole = files[0].read_text()
    rng = random.Random(1)
    for _ in range(150):
        parts = [json.loads(line) for line in whole.splitlines()]
        part = rng.choice(parts[1:])
        i = rng.randrange(len(part["lines"]))
        if rng.random() < 0.5:
            row = part["lines"][i]
            part["points"][i] = rng.choice([int(found.start[row]) - 1, int(found.finish[row]) + 1])
        else:
            del part["lines"][i], part["points"][i]
        store(files[0], parts)
        assert confirm(files, capsys)[0] == 1
