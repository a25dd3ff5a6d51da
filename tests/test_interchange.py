"""The interchange file: what goes out comes back, and each mistake is named with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import FAIL, INFO, Op, atomic, history, read, write

from jepsen_blk.checker.verdict import check
from jepsen_blk.errors import HistoryError
from jepsen_blk.history.interchange import read_jsonl, write_jsonl
from jepsen_blk.history.record import PENDING, F, Fence, History

WRITE = {
    "f": "write",
    "process": 3,
    "block": 17,
    "value": 4242,
    "start": 1000,
    "finish": 1500,
    "outcome": "ok",
}
NAMES = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")


def store(path: Path, *entries: dict[str, Any] | str) -> Path:
    lines = (entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def same(a: History, b: History) -> bool:
    columns = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in NAMES)
    return columns and (a.fences, a.crashes) == (b.fences, b.crashes)


def test_the_designs_example_is_read(tmp_path: Path) -> None:
    path = store(
        tmp_path / "h.jsonl",
        '{"f":"write","process":3,"block":17,"value":4242,"start":1000,"finish":1500,"outcome":"ok","boot":0}',
        '{"f":"read","process":1,"block":17,"value":4242,"start":1600,"finish":1650,"outcome":"ok","boot":0}',
        '{"f":"write","process":2,"block":17,"value":4243,"start":1700,"finish":null,"outcome":"info","boot":0}',
        '{"f":"fence","time":2000,"boot":0}',
    )
    got = read_jsonl(path)
    assert got.f.tolist() == [F.WRITE, F.READ, F.WRITE]
    assert got.finish.tolist() == [1500, 1650, PENDING]
    assert got.fences == (Fence(2000, 0),)
    assert got.line is None
    assert check(got).verdict == "pass"


def test_a_history_comes_back_as_it_was_written(tmp_path: Path) -> None:
    made = history(
        [*_ops(atomic(1, ops=300, blocks=4)), Op(F.FLUSH, 0, 5, 6), write(999, 1, 2, outcome=FAIL, boot=2)],
        fences=[Fence(7, 1), Fence(9)],
        crashes=[44],
    )
    write_jsonl(made, tmp_path / "h.jsonl")
    assert same(read_jsonl(tmp_path / "h.jsonl"), made)


def _ops(made: History) -> list[Op]:
    columns = (made.f, made.value, made.start, made.finish, made.block, made.outcome, made.boot, made.process)
    return [Op(*(int(value) for value in row)) for row in zip(*columns, strict=True)]  # type: ignore[arg-type]


def test_witnesses_name_lines_of_the_file_though_fences_stand_between(tmp_path: Path) -> None:
    path = store(
        tmp_path / "h.jsonl",
        {"f": "fence", "time": 1},
        WRITE,
        {**WRITE, "value": 4243, "start": 1600, "finish": 1700},
        "",
        {
            "f": "read",
            "process": 1,
            "block": 17,
            "value": 4242,
            "start": 1800,
            "finish": 1900,
            "outcome": "ok",
        },
    )
    (anomaly,) = check(read_jsonl(path)).anomalies
    assert (anomaly.kind, anomaly.ops) == ("lost-write", (1, 2, 4))


def test_reads_that_did_not_succeed_need_no_value_and_flushes_no_block(tmp_path: Path) -> None:
    path = store(
        tmp_path / "h.jsonl",
        {"f": "read", "process": 0, "block": 1, "start": 0, "finish": 5, "outcome": "fail"},
        {"f": "read", "process": 0, "block": 1, "value": None, "start": 0, "finish": None, "outcome": "info"},
        {"f": "flush", "process": 0, "start": 0, "finish": 5, "outcome": "ok"},
    )
    assert read_jsonl(path).f.tolist() == [F.READ, F.READ, F.FLUSH]


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("{", "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ({**WRITE, "f": "append"}, "'f' must be read, write, flush, fence or crash, not 'append'"),
        ({**WRITE, "f": ["write"]}, "'f' must be"),
        ({**WRITE, "outcome": "OK"}, "'outcome' must be ok, fail or info, not 'OK'"),
        ({k: v for k, v in WRITE.items() if k != "outcome"}, "'outcome' must be ok, fail or info, not None"),
        ({k: v for k, v in WRITE.items() if k != "block"}, "'block' is missing"),
        ({k: v for k, v in WRITE.items() if k != "finish"}, "'finish' is missing"),
        ({**WRITE, "finish": None}, "'finish' is null but the outcome is ok"),
        ({**WRITE, "finish": 999}, "finish 999 is before start 1000"),
        ({**WRITE, "start": -1}, "'start' must be from 0"),
        ({**WRITE, "start": 1.5}, "'start' must be an integer, not 1.5"),
        ({**WRITE, "process": True}, "'process' must be an integer, not True"),
        ({**WRITE, "value": 0}, "'value' must be from 1"),
        ({**WRITE, "value": 1 << 63}, "'value' must be from 1"),
        ({**WRITE, "f": "read", "value": -4}, "'value' must be from -3"),
        ({**WRITE, "value": 7}, "value 7 was written in line 1 already"),
        ({"f": "fence"}, "'time' is missing"),
        ({"f": "crash", "time": "now"}, "'time' must be an integer"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, entry: dict[str, Any] | str, what: str) -> None:
    path = tmp_path / "h.jsonl"
    lines = [json.dumps({**WRITE, "value": 7}), entry if isinstance(entry, str) else json.dumps(entry)]
    path.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    with pytest.raises(HistoryError) as caught:
        read_jsonl(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="cannot read"):
        read_jsonl(tmp_path / "none.jsonl")


def test_pending_reads_are_no_evidence(tmp_path: Path) -> None:
    write_jsonl(
        history([write(1, 0, 5), read(0, 6, None, outcome=INFO), read(1, 7, 8)]), tmp_path / "h.jsonl"
    )
    assert check(read_jsonl(tmp_path / "h.jsonl")).verdict == "pass"
