"""The interchange form: one JSON object a line, so that any tester's history can be checked here.

Times are ns on one clock, value 0 means "never written"; a fence, a crash or a clock is a line of
its own (`lines.py` has the table). Every mistake is an error that names file and line (counted from 1, as
editors do), because a silently dropped or patched operation would change the verdict. Line numbers
in results count from 0.

A file is read in chunks of whole lines. A chunk in which all is right is decoded and checked as a
whole; any other is halved until the first line with a mistake is alone.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from jepsen_blk.errors import HistoryError
from jepsen_blk.history.lines import (
    OPERATION_KINDS,
    ClockLine,
    CrashLine,
    FenceLine,
    Line,
    Operation,
    Write,
    decode,
    explain,
    is_whole_lines,
)
from jepsen_blk.history.parts import Part
from jepsen_blk.history.record import PENDING, Clock, Crash, F, Fence, History, Int64s
from jepsen_blk.history.rows import lines
from jepsen_blk.history.rules import (
    OUTCOMES,
    cannot_read,
    cannot_write,
    crash_backward,
    first_mistake,
    repeated_write,
    written_twice,
)

_CHUNK_BYTES = 512 << 10
_LINE_BYTES = 100
"""About what a line takes; a part may have a chunk more than was asked for."""
_BLANKS = b" \t\r"
_TYPES: dict[str, type[np.generic]] = {
    "f": np.uint8,
    "outcome": np.uint8,
    "process": np.int32,
    "boot": np.int32,
    "block": np.int64,
    "value": np.int64,
    "start": np.int64,
    "finish": np.int64,
    "line": np.int64,
}
_OUTCOME_CODE = {name: outcome.value for name, outcome in OUTCOMES.items()}
_ROWS_A_WRITE = 1 << 16


def read_jsonl(path: Path) -> History:
    """Read an interchange file; raises HistoryError("FILE:LINE: what is wrong")."""
    (whole,) = jsonl_parts(path, PENDING)
    history, line = whole.history, lines(whole.history)
    twice = repeated_write(history.f, history.value)
    if twice is not None:
        again, before = line[list(twice)].tolist()
        raise written_again(path, int(history.value[twice[0]]), again, before)
    return replace(history, line=None) if np.array_equal(line, np.arange(len(line))) else history


def jsonl_parts(path: Path, rows: int) -> Iterator[Part]:
    """Read an interchange file in parts of about so many rows; raises HistoryError as `read_jsonl` does,
    but for values that are written again.
    """
    reader = _Reader(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            while chunk := file.read(min(_CHUNK_BYTES, rows * _LINE_BYTES)):
                reader.take(chunk + file.readline())
                if reader.rows >= rows:
                    yield Part(reader.cut(), file.tell() / size)
    except OSError as error:
        raise cannot_read(path, error) from error
    yield Part(reader.cut(), 1.0)


def written_again(path: Path, value: int, again: int, before: int) -> HistoryError:
    """Return the error for a value that is written in these two lines (from 0)."""
    return HistoryError(f"{path}:{again + 1}: {written_twice(value, f'line {before + 1}')}")


def write_jsonl(history: History, path: Path) -> None:
    """Write a history: row i becomes line i; fences, crashes and clocks come after the operations.

    Raises HistoryError if the file cannot be written.
    """
    try:
        with path.open("wb") as file:
            file.writelines(jsonl(history))
    except OSError as error:
        raise cannot_write(path, error) from error


def jsonl(history: History) -> Iterator[bytes]:
    """Yield what `write_jsonl` writes, in pieces of whole lines."""
    encoder = msgspec.json.Encoder()
    for begin in range(0, len(history), _ROWS_A_WRITE):
        yield encoder.encode_lines(operations(history, slice(begin, begin + _ROWS_A_WRITE)))
    marks: list[Line] = [FenceLine(time=fence.time_ns, boot=fence.boot) for fence in history.fences]
    marks += map(_crash_line, history.crashes)
    marks += [ClockLine(boot=clock.boot, uncertainty=clock.uncertainty_ns) for clock in history.clocks]
    yield encoder.encode_lines(marks)


def _crash_line(crash: Crash) -> CrashLine:
    known = crash.time_ns == crash.until_ns
    return CrashLine(time=crash.time_ns, until=UNSET if known else crash.until_ns)


def operations(history: History, rows: slice) -> Iterator[Line]:
    """Yield the lines of the operations in these rows."""
    names = {outcome: name for name, outcome in OUTCOMES.items()}
    fua = set(history.fua.tolist())
    columns = [getattr(history, name)[rows].tolist() for name in _TYPES if name != "line"]
    for f, outcome, process, boot, block, value, start, finish in zip(*columns, strict=True):
        own: dict[str, Any] = {} if f == F.FLUSH else {"block": block, "value": value}
        if f == F.WRITE and value in fua:
            own["fua"] = True
        yield OPERATION_KINDS[f](
            process=process,
            start=start,
            finish=None if finish == PENDING else finish,
            outcome=names[outcome],
            boot=boot,
            **own,
        )


class _Reader:
    """Collects chunks of lines into columns; `rows` have been collected since the last cut."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = 0
        self._unended = -1
        self._begin()

    def _begin(self) -> None:
        self.rows = 0
        self._parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _TYPES}
        self._fences: list[Fence] = []
        self._crashes: list[Crash] = []
        self._clocks: list[Clock] = []
        self._fua: list[int] = []

    def take(self, chunk: bytes) -> None:
        """Add the next whole lines of the file."""
        first = self._lines
        if first == 0:
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
        text = chunk.removesuffix(b"\n")
        count = text.count(b"\n") + 1
        self._lines += count
        if len(text) == len(chunk):
            self._unended = self._lines - 1
        numbers = np.arange(first, first + count)
        if not is_whole_lines(text, count):
            lines = [line.strip(_BLANKS) for line in text.split(b"\n")]
            numbers = numbers[[bool(line) for line in lines]]
            text = b"\n".join(filter(None, lines))
        if len(numbers):
            self._add(text, numbers)

    def cut(self) -> History:
        """Return what was read since the last cut as columns, with line numbers."""
        column: dict[str, Any] = {}
        for name, kind in _TYPES.items():
            column[name] = np.concatenate([np.empty(0, kind), *self._parts.pop(name)])
        history = History(
            **column,
            fences=tuple(self._fences),
            crashes=tuple(self._crashes),
            clocks=tuple(self._clocks),
            fua=np.array(self._fua, dtype=np.int64),
        )
        self._begin()
        return history

    def _add(self, text: bytes, numbers: Int64s) -> None:
        """Add the lines of these numbers (from 0), none of them blank."""
        try:
            entries = decode(text, len(numbers))
        except (ValueError, RecursionError) as error:
            if len(numbers) == 1:
                self._refuse(numbers[0], self._explain(numbers[0], text, error))
            lines, half = text.split(b"\n"), len(numbers) // 2
            self._add(b"\n".join(lines[:half]), numbers[:half])
            self._add(b"\n".join(lines[half:]), numbers[half:])
            return
        if not all(issubclass(kind, Operation) for kind in set(map(type, entries))):
            self._mark(entries, numbers)
            is_operation = [isinstance(entry, Operation) for entry in entries]
            entries, numbers = list(compress(entries, is_operation)), numbers[is_operation]
        self._append(entries, numbers)

    def _mark(self, entries: list[Any], numbers: Int64s) -> None:
        for entry, number in zip(entries, numbers, strict=True):
            if isinstance(entry, FenceLine):
                self._fences.append(Fence(entry.time, 0 if entry.boot is UNSET else entry.boot))
            elif isinstance(entry, CrashLine):
                crash = Crash(entry.time, entry.time if entry.until is UNSET else entry.until)
                if crash.until_ns < crash.time_ns:
                    self._refuse(number, crash_backward(crash))
                self._crashes.append(crash)
            elif isinstance(entry, ClockLine):
                self._clocks.append(Clock(entry.boot, entry.uncertainty))

    def _append(self, entries: list[Any], numbers: Int64s) -> None:
        values = [entry.value for entry in entries]
        row: dict[str, list[int]] = {
            "f": [entry.code for entry in entries],
            "outcome": [_OUTCOME_CODE[entry.outcome] for entry in entries],
            "process": [entry.process for entry in entries],
            "boot": [0 if entry.boot is UNSET else entry.boot for entry in entries],
            "block": [entry.block for entry in entries],
            "value": [value if type(value) is int else 0 for value in values],
            "start": [entry.start for entry in entries],
            "finish": [PENDING if entry.finish is None else entry.finish for entry in entries],
        }
        part = {name: np.array(column, _TYPES[name]) for name, column in row.items()}
        has_value = np.array([type(value) is int for value in values], np.bool_)
        mistake = first_mistake(part["f"], part["outcome"], has_value, part["start"], part["finish"])
        if mistake is not None:
            self._refuse(numbers[mistake.row], mistake.what)
        self._fua += [entry.value for entry in entries if type(entry) is Write and entry.fua is True]
        self.rows += len(numbers)
        for name, column in (part | {"line": numbers}).items():
            self._parts[name].append(column)

    def _explain(self, number: int, line: bytes, error: Exception) -> str:
        what = explain(line, error)
        cut = number == self._unended and not line.endswith(b"}")
        return f"{what}; the file ends within this line" if cut else what

    def _refuse(self, number: int, what: str) -> NoReturn:
        raise HistoryError(f"{self._path}:{number + 1}: {what}")
