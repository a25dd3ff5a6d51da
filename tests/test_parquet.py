"""Histories as Parquet: what goes out comes back, and each mistake is named with its row or column."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from histories import INFO, atomic, differences, history, read, write
from hypothesis import given, settings
from stored import histories

from jepsen_blk.errors import HistoryError, UserError
from jepsen_blk.history import parquet
from jepsen_blk.history.parquet import read_parquet, write_parquet
from jepsen_blk.history.record import PENDING, F, History

COLUMNS: dict[str, list[Any]] = {
    "f": ["write", "read", "flush"],
    "outcome": ["ok", "ok", "info"],
    "process": [1, 2, 3],
    "block": [17, 17, None],
    "value": [5, 5, None],
    "start": [0, 20, 40],
    "finish": [10, 30, None],
}


def store(folder: Path, columns: dict[str, Any], marks: object = None) -> Path:
    table = pa.table(columns)
    if marks is not None:
        table = table.replace_schema_metadata(
            {"jepsen_blk": marks if isinstance(marks, str) else json.dumps(marks)}
        )
    pq.write_table(table, folder / "h.parquet")
    return folder / "h.parquet"


@given(histories())
@settings(max_examples=60, deadline=None)
def test_any_history_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, made: History
) -> None:
    path = tmp_path_factory.mktemp("h") / "h.parquet"
    made = replace(made, lost_tails=frozenset(made.boot[:2].tolist()))
    write_parquet(made, path)
    assert differences(read_parquet(path), made) == []


def test_what_another_tool_wrote_is_read(tmp_path: Path) -> None:
    columns = {**COLUMNS, "process": pa.array([1, 2, 3], pa.uint64()), "node": ["a", "b", "c"]}
    got = read_parquet(store(tmp_path, columns))
    assert got.f.tolist() == [F.WRITE, F.READ, F.FLUSH]
    assert got.finish.tolist() == [10, 30, PENDING]
    assert got.boot.tolist() == got.block.tolist()[2:] * 3 == [0, 0, 0]


def test_many_row_groups_are_one_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_ROW_GROUP", 2)
    made = atomic(3, ops=50, blocks=2)
    write_parquet(made, tmp_path / "h.parquet")
    assert pq.ParquetFile(tmp_path / "h.parquet").num_row_groups > 20
    assert differences(read_parquet(tmp_path / "h.parquet"), made) == []


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    names = [*COLUMNS, "value"]
    table = pa.Table.from_arrays([pa.array(COLUMNS[name]) for name in names], names=names)
    pq.write_table(table, tmp_path / "h.parquet")
    with pytest.raises(HistoryError, match=r"h\.parquet: there are two columns 'value'"):
        read_parquet(tmp_path / "h.parquet")


def test_damage_within_a_file_is_refused(tmp_path: Path) -> None:
    write_parquet(atomic(3, ops=500, blocks=2), tmp_path / "h.parquet")
    content = bytearray((tmp_path / "h.parquet").read_bytes())
    content[200:1200] = bytes(1000)
    (tmp_path / "h.parquet").write_bytes(content)
    with pytest.raises(HistoryError, match=r"h\.parquet: (?!.*None)"):
        read_parquet(tmp_path / "h.parquet")


def test_names_and_nulls_are_what_a_notebook_sees(tmp_path: Path) -> None:
    write_parquet(history([write(1, 0, None, outcome=INFO), read(-1, 5, 6)]), tmp_path / "h.parquet")
    rows = pq.read_table(tmp_path / "h.parquet").to_pylist()
    assert [row["f"] for row in rows] == ["write", "read"]
    assert [row["outcome"] for row in rows] == ["info", "ok"]
    assert [row["finish"] for row in rows] == [None, 6]


@pytest.mark.parametrize(
    ("name", "column", "what"),
    [
        ("f", None, "there is no column 'f'"),
        ("start", None, "there is no column 'start'"),
        ("f", [0, 1, 2], "column 'f' must be of strings, not int64"),
        ("f", ["write", "append", "flush"], "row 1: 'f' must be read, write or flush, not 'append'"),
        ("f", ["write", None, "flush"], "row 1: 'f' must be read, write or flush, not None"),
        ("outcome", ["ok", "ok", "OK"], "row 2: 'outcome' must be ok, fail or info, not 'OK'"),
        ("process", [1.0, 2.0, 3.0], "column 'process' must be of integers, not double"),
        ("process", [True, True, True], "column 'process' must be of integers, not bool"),
        ("process", [1, 2, 2**31], "row 2: 'process' must be from 0 to 2147483647, not 2147483648"),
        ("process", [1, None, 3], "row 1: 'process' is null"),
        ("boot", [0, 0, None], "row 2: 'boot' is null"),
        ("block", [17, None, None], "row 1: 'block' is null"),
        ("value", [5, None, None], "row 1: 'value' is null"),
        ("value", [0, 5, None], "row 0: 'value' must be from 1 to 9223372036854775806, not 0"),
        ("value", [5, -4, None], "row 1: 'value' must be from -3 to 9223372036854775806, not -4"),
        ("start", [0, -1, 40], "row 1: 'start' must be from 0"),
        ("start", pa.array([0, 2**64 - 1, 40], pa.uint64()), "row 1: 'start' must be from 0"),
        ("finish", [10, 30, PENDING], "row 2: 'finish' must be from 0"),
        ("finish", [10, 19, None], "row 1: finish 19 is before start 20"),
        ("finish", [10, None, None], "row 1: 'finish' is null but the outcome is ok; only info may be"),
    ],
)
def test_a_mistake_is_named_with_its_row(tmp_path: Path, name: str, column: Any, what: str) -> None:
    columns = {key: values for key, values in {**COLUMNS, name: column}.items() if values is not None}
    path = store(tmp_path, columns)
    with pytest.raises(HistoryError) as caught:
        read_parquet(path)
    assert str(caught.value).startswith(f"{path}: {what}")


def test_a_value_written_twice_is_named_with_both_rows(tmp_path: Path) -> None:
    columns = {**COLUMNS, "f": ["write", "write", "flush"]}
    with pytest.raises(HistoryError, match=r"row 1: value 5 was written in row 0 already; each write needs"):
        read_parquet(store(tmp_path, columns))


@pytest.mark.parametrize(
    "marks",
    [
        "{",
        [1],
        {"fences": [{"time": 1}]},
        {"crashes": [{"time": 9, "until": 5}]},
        {"crashes": [{"time": 9}]},
        {"crashes": 3},
        {"lost_tails": ["a"]},
    ],
)
def test_metadata_that_says_nothing_clear_is_refused(tmp_path: Path, marks: object) -> None:
    with pytest.raises(HistoryError, match="the metadata under 'jepsen_blk' must be a JSON object"):
        read_parquet(store(tmp_path, COLUMNS, marks))


def test_a_file_that_is_no_parquet_or_cut_off_or_missing_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path, COLUMNS)
    for content in (b"", b"f,process\n", path.read_bytes()[:-20], path.read_bytes()[:100]):
        path.write_bytes(content)
        with pytest.raises(HistoryError, match=r"h\.parquet: not a Parquet file that can be read"):
            read_parquet(path)
    with pytest.raises(HistoryError, match="cannot read the history"):
        read_parquet(tmp_path / "none.parquet")
    with pytest.raises(HistoryError, match="cannot write the history"):
        write_parquet(history([]), tmp_path / "none" / "h.parquet")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(tmp_path, COLUMNS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"Parquet needs pyarrow.*pip install 'jepsen-blk\[parquet\]'"):
        read_parquet(path)
