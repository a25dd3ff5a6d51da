"""A history as Parquet, for notebooks and databases: the columns of `History`, compressed.

f and outcome are names, as in the interchange form; a null finish is an operation that never
completed, a null value or block is none. What is not a column (fences, crashes, clocks, values written
with FUA, lost tails) is JSON in the file's metadata. The rules are those of the interchange form, and
so are the words; rows count from 0. pyarrow is needed here only, hence an extra.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from jepsen_blk.errors import HistoryError, UserError
from jepsen_blk.history.parts import Part
from jepsen_blk.history.record import PENDING, Clock, Crash, F, Fence, History, Int64s, Outcome
from jepsen_blk.history.rules import (
    BLOCK,
    BOOT,
    OPERATIONS,
    OUTCOMES,
    PROCESS,
    SEEN,
    TIME,
    WRITTEN,
    Range,
    cannot_read,
    cannot_write,
    crash_backward,
    first_mistake,
    one_of,
    out_of_range,
    repeated_write,
    shown,
    written_twice,
)

_KEY = b"jepsen_blk"
_INTEGERS = {"process": PROCESS, "boot": BOOT, "block": BLOCK, "value": SEEN, "start": TIME, "finish": TIME}
_TYPES = {"process": np.int32, "boot": np.int32}
_ROW_GROUP = 1 << 20


def write_parquet(history: History, path: Path) -> None:
    """Write a history as Parquet.

    Raises HistoryError if the file cannot be written, UserError without pyarrow.
    """
    pa, pq = _pyarrow()
    flush = history.f == F.FLUSH
    nulls = {"block": flush, "value": flush, "finish": history.finish == PENDING}
    columns = {
        "f": _names(pa, history.f, [f.name.lower() for f in F]),
        "outcome": _names(pa, history.outcome, [outcome.name.lower() for outcome in Outcome]),
    }
    columns |= {name: pa.array(getattr(history, name), mask=nulls.get(name)) for name in _INTEGERS}
    marks = {
        "fences": [{"time": fence.time_ns, "boot": fence.boot} for fence in history.fences],
        "crashes": [{"time": crash.time_ns, "until": crash.until_ns} for crash in history.crashes],
        "clocks": [{"boot": clock.boot, "uncertainty": clock.uncertainty_ns} for clock in history.clocks],
        "fua": history.fua.tolist(),
        "lost_tails": sorted(history.lost_tails),
    }
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(marks)})
    try:
        pq.write_table(table, path, row_group_size=_ROW_GROUP, compression="zstd")
    except OSError as error:
        raise cannot_write(path, error) from error


def _names(pa: Any, codes: npt.NDArray[np.uint8], names: list[str]) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), names)


def read_parquet(path: Path) -> History:
    """Read a Parquet history: all columns but `boot` must be there, in any order, others are ignored.

    Raises HistoryError("FILE: row N: what is wrong") with N from 0, UserError without pyarrow.
    """
    with _opened(path) as file:
        history = _Reader(path, file.read(columns=_wanted(file)), 0).history(_metadata(file))
    twice = repeated_write(history.f, history.value)
    if twice is not None:
        raise row_written_again(path, int(history.value[twice[0]]), *twice)
    return history


def parquet_parts(path: Path, rows: int) -> Iterator[Part]:
    """Read a Parquet history in parts of at most so many rows; raises as `read_parquet` does, but for
    values that are written again.
    """
    with _opened(path) as file:
        count = file.metadata.num_rows
        marks, first = _metadata(file), 0
        for batch in file.iter_batches(batch_size=rows, columns=_wanted(file)):
            line = np.arange(first, first + len(batch), dtype=np.int64)
            history = replace(_Reader(path, _table(batch), first).history(marks), line=line)
            first += len(batch)
            yield Part(history, first / count)
        if not first:
            yield Part(_Reader(path, file.read(columns=_wanted(file)), 0).history(marks), 1.0)


def count_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file."""
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def row_written_again(path: Path, value: int, again: int, before: int) -> HistoryError:
    """Return the error for a value that is written in these two rows."""
    return HistoryError(f"{path}: row {again}: {written_twice(value, f'row {before}')}")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a Parquet file, and say in our words what goes wrong while it is read."""
    pa, pq = _pyarrow()
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except OSError as error:
        raise cannot_read(path, error) from error
    except pa.ArrowException as error:
        raise HistoryError(f"{path}: not a Parquet file that can be read: {_line(error)}") from error


def _wanted(file: Any) -> list[str]:
    return [name for name in ("f", "outcome", *_INTEGERS) if name in file.schema_arrow.names]


def _metadata(file: Any) -> bytes:
    marks: bytes = (file.schema_arrow.metadata or {}).get(_KEY, b"{}")
    return marks


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet needs pyarrow, which is not installed; run `pip install 'jepsen-blk[parquet]'`"
        ) from error
    return pyarrow, pyarrow.parquet


def _table(batch: Any) -> Any:
    pa, _ = _pyarrow()
    return pa.Table.from_batches([batch])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


class _Reader:
    """Makes columns of a table, and names the row of a mistake; `first` is the file's number of its row 0."""

    def __init__(self, path: Path, table: Any, first: int) -> None:
        self._path = path
        self._pa, _ = _pyarrow()
        self._table = table
        self._first = first

    def history(self, marks: bytes) -> History:
        """Return the history, with the marks of the metadata."""
        f = self._codes("f", OPERATIONS)
        outcome = self._codes("outcome", OUTCOMES)
        optional = {"block": f == F.FLUSH, "finish": np.ones(len(f), np.bool_)}
        optional["value"] = (f == F.FLUSH) | ((f == F.READ) & (outcome != Outcome.OK))
        column: dict[str, Any] = {}
        for name, allowed in _INTEGERS.items():
            column[name] = self._integers(name, allowed, optional.get(name))
        flush = f == F.FLUSH
        column["block"][flush] = column["value"][flush] = 0
        low = (f == F.WRITE) & (column["value"] < WRITTEN.least)
        self._refuse_where(low, "value", column["value"], WRITTEN)
        present = np.ones(len(f), np.bool_)
        mistake = first_mistake(f, outcome, present, column["start"], column["finish"])
        if mistake is not None:
            self._refuse(*mistake)
        return History(f=f, outcome=outcome, **column, **self._marks(marks))

    def _column(self, name: str) -> Any:
        count = self._table.column_names.count(name)
        if count != 1:
            raise HistoryError(
                f"{self._path}: there {'are two columns' if count else 'is no column'} {name!r}"
            )
        return self._table.column(name).combine_chunks()

    def _codes(self, name: str, codes: dict[str, Any]) -> npt.NDArray[np.uint8]:
        column = self._column(name)
        types = self._pa.types
        kind = column.type.value_type if types.is_dictionary(column.type) else column.type
        if not (types.is_string(kind) or types.is_large_string(kind)):
            raise HistoryError(f"{self._path}: column {name!r} must be of strings, not {column.type}")
        column = column.cast(kind).dictionary_encode()
        found = column.dictionary.to_pylist()
        index: Int64s = column.indices.fill_null(len(found)).to_numpy(zero_copy_only=False).astype(np.int64)
        bad = ~np.array([text in codes for text in found] + [False])[index]
        if bad.any():
            row = int(bad.argmax())
            value = None if index[row] == len(found) else found[index[row]]
            self._refuse(row, f"{name!r} must be {one_of(codes)}, not {shown(value)}")
        return np.array([codes.get(text, 0) for text in found] + [0], np.uint8)[index]

    def _integers(
        self, name: str, allowed: Range, optional: npt.NDArray[np.bool_] | None
    ) -> npt.NDArray[Any]:
        kind = _TYPES.get(name, np.int64)
        if name == "boot" and name not in self._table.column_names:
            return np.zeros(len(self._table), kind)
        column = self._column(name)
        if not self._pa.types.is_integer(column.type):
            raise HistoryError(f"{self._path}: column {name!r} must be of integers, not {column.type}")
        null = column.is_null().to_numpy(zero_copy_only=False)
        wrong = null if optional is None else null & ~optional
        if wrong.any():
            self._refuse(int(wrong.argmax()), f"{name!r} is null")
        values: npt.NDArray[Any] = column.fill_null(0).to_numpy(zero_copy_only=False)
        self._refuse_where((values < allowed.least) | (values > allowed.most), name, values, allowed)
        values = values.astype(kind)
        if name == "finish":
            values[null] = PENDING
        return values

    def _marks(self, text: bytes) -> dict[str, Any]:
        try:
            marks = json.loads(text)
            fences = tuple(
                Fence(_time(fence["time"]), _time(fence["boot"])) for fence in marks.get("fences", ())
            )
            crashes = tuple(map(_crash, marks.get("crashes", ())))
            clocks = tuple(
                Clock(_time(clock["boot"]), _time(clock["uncertainty"])) for clock in marks.get("clocks", ())
            )
            fua = np.array([_time(value) for value in marks.get("fua", ())], dtype=np.int64)
            lost_tails = frozenset(map(_time, marks.get("lost_tails", ())))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HistoryError(
                f"{self._path}: the metadata under {_KEY.decode()!r} must be a JSON object with fences, "
                f"crashes, clocks, fua and lost_tails: {_line(error)}"
            ) from error
        return {
            "fences": fences,
            "crashes": crashes,
            "clocks": clocks,
            "fua": fua,
            "lost_tails": lost_tails,
        }

    def _refuse_where(self, wrong: npt.NDArray[np.bool_], name: str, values: Int64s, allowed: Range) -> None:
        if wrong.any():
            row = int(wrong.argmax())
            self._refuse(row, out_of_range(name, int(values[row]), *allowed))

    def _refuse(self, row: int, what: str) -> NoReturn:
        raise HistoryError(f"{self._path}: row {self._first + row}: {what}")


def _crash(mark: dict[str, object]) -> Crash:
    crash = Crash(_time(mark["time"]), _time(mark["until"]))
    if crash.until_ns < crash.time_ns:
        raise ValueError(crash_backward(crash))
    return crash


def _time(value: object) -> int:
    if type(value) is not int or not TIME.least <= value <= TIME.most:
        raise ValueError(f"{shown(value)} is no time or boot")
    return value
