"""Jepsen's history.edn of a register test with independent keys, in and out.

Jepsen writes an operation as two entries, its invocation and its completion; a key is a block here. What
Jepsen can say and we cannot (cas, a write of nil) is refused, and what it leaves open stays open: an
:info, and an invocation without completion, is a write that may take effect for ever. Jepsen's values
are unique within a key at best, ours in the whole history: where they are not, they are numbered, and
a note says so.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from jepsen_blk.errors import HistoryError
from jepsen_blk.history.edn_syntax import Other, SyntaxMistake, Value, forms
from jepsen_blk.history.record import INITIAL, PENDING, F, History, Outcome
from jepsen_blk.history.rules import BLOCK, PROCESS, TIME, WRITTEN, Range, cannot_read, cannot_write

_F = {":read": F.READ, ":write": F.WRITE}
_OUTCOME = {":ok": Outcome.OK, ":fail": Outcome.FAIL, ":info": Outcome.INFO}
_F_KEYWORD = {f: name for name, f in _F.items()}
_OUTCOME_KEYWORD = {outcome: name for name, outcome in _OUTCOME.items()}
_NEMESIS = ":nemesis"
_NAMED_KEYS = 5

Key = int | str | Other


class _Entry(NamedTuple):
    type: str
    f: F
    key: Key
    value: int | None
    time: int
    process: int


def read_edn(path: Path) -> tuple[History, tuple[str, ...]]:
    """Read a history.edn: one operation a line, or one vector of them; maps or records.

    Returns the history and notes on what was changed or left out. Row i is the i-th invocation, and its
    `line` counts the file's operations from 0, as Jepsen's :index does.
    Raises HistoryError("FILE:LINE: what is wrong").
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise cannot_read(path, error) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise HistoryError(f"{path}:{line}: not valid UTF-8: {error.reason}") from error
    reader = _Reader(path)
    try:
        for line, form in forms(text):
            reader.take(line, form)
    except SyntaxMistake as mistake:
        raise HistoryError(f"{path}:{mistake.line}: not valid EDN: {mistake}") from mistake
    return reader.history()


class _Reader:
    """Pairs invocations with completions; a row is an invocation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._line = 0
        self._taken = 0
        self._skipped = 0
        self._row: dict[str, list[int]] = {
            name: [] for name in ("f", "outcome", "process", "start", "finish", "line")
        }
        self._key: list[Key] = []
        self._value: list[int | None] = []
        self._invoked_in: list[int] = []
        self._open: dict[int, int] = {}
        self._written: dict[tuple[Key, int | None], int] = {}

    def take(self, line: int, form: Value) -> None:
        """Add the operation that begins on `line`."""
        self._line = line
        self._taken += 1
        if not isinstance(form, dict):
            self._refuse(f"an operation must be a map, not {_text(form)}")
        if form.get(":process") == _NEMESIS:
            self._skipped += 1
            return
        entry = self._entry(form)
        if entry.type == ":invoke":
            self._invoke(entry)
        else:
            self._complete(entry)

    def history(self) -> tuple[History, tuple[str, ...]]:
        """Return what was read, and the notes."""
        notes = [f"operations of the nemesis were skipped: {self._skipped}"] if self._skipped else []
        row = self._row
        history = History(
            f=np.array(row["f"], np.uint8),
            outcome=np.array(row["outcome"], np.uint8),
            process=np.array(row["process"], np.int32),
            boot=np.zeros(len(self._key), np.int32),
            block=np.array(self._blocks(notes), np.int64),
            value=np.array(self._values(notes), np.int64),
            start=np.array(row["start"], np.int64),
            finish=np.array(row["finish"], np.int64),
            line=np.array(row["line"], np.int64),
        )
        return history, tuple(notes)

    def _entry(self, form: dict[str, Value]) -> _Entry:
        kind, f = form.get(":type"), form.get(":f")
        if kind != ":invoke" and (not isinstance(kind, str) or kind not in _OUTCOME):
            self._refuse(f":type must be :invoke, :ok, :fail or :info, not {_text(kind)}")
        if not isinstance(f, str) or f not in _F:
            self._refuse(f":f must be :read or :write, not {_text(f)}; only a register's history is read")
        pair = form.get(":value")
        if not isinstance(pair, tuple) or len(pair) != 2:
            self._refuse(f":value must be [key value], as jepsen.independent makes it, not {_text(pair)}")
        key, value = pair
        if isinstance(key, bool) or not isinstance(key, int | str | Other):
            self._refuse(f"a key must be an integer, a keyword or a string, not {_text(key)}")
        if value is not None and type(value) is not int:
            self._refuse(f"a register's value must be an integer or nil, not {_text(value)}")
        time = self._integer(form, ":time", TIME)
        return _Entry(kind, _F[f], key, value, time, self._integer(form, ":process", PROCESS))

    def _invoke(self, entry: _Entry) -> None:
        before = self._open.get(entry.process)
        if before is not None:
            line = self._invoked_in[before]
            self._refuse(f"process {entry.process} invokes while its operation of line {line} is open")
        if entry.f is F.WRITE:
            self._write(entry.key, entry.value)
        self._open[entry.process] = len(self._key)
        self._key.append(entry.key)
        self._value.append(entry.value if entry.f is F.WRITE else None)
        self._invoked_in.append(self._line)
        fields = (entry.f.value, Outcome.INFO.value, entry.process, entry.time, PENDING, self._taken - 1)
        for column, value in zip(self._row.values(), fields, strict=True):
            column.append(value)

    def _write(self, key: Key, value: int | None) -> None:
        if value is None:
            self._refuse("a write of nil cannot be checked: nil is what was never written")
        line = self._written.get((key, value))
        if line is not None:
            self._refuse(
                f"value {value} of key {_text(key)} was written in line {line} already; "
                "each write of a key needs its own"
            )
        self._written[key, value] = self._line

    def _complete(self, entry: _Entry) -> None:
        at = self._open.pop(entry.process, None)
        if at is None:
            self._refuse(f"process {entry.process} completes what it has not invoked")
        of = f"its invocation in line {self._invoked_in[at]}"
        start, value = self._row["start"][at], self._value[at]
        if (entry.f, entry.key) != (self._row["f"][at], self._key[at]):
            self._refuse(f":f or the key differs from {of}")
        if entry.time < start:
            self._refuse(f":time {entry.time} is before {start} of {of}")
        if entry.type == ":ok":
            if entry.f is F.WRITE and entry.value != value:
                self._refuse(f"value {_text(entry.value)} differs from {value} of {of}")
            self._value[at] = entry.value
        if entry.type != ":info":
            self._row["outcome"][at] = _OUTCOME[entry.type].value
            self._row["finish"][at] = entry.time

    def _blocks(self, notes: list[str]) -> list[int]:
        """Return a block for each row: Jepsen's key, if all are block numbers."""
        blocks = [key for key in self._key if isinstance(key, int) and BLOCK.least <= key <= BLOCK.most]
        if len(blocks) == len(self._key):
            return blocks
        numbers: dict[Key, int] = {}
        blocks = [numbers.setdefault(key, len(numbers)) for key in self._key]
        named = [f"{block} is {_text(key)}" for key, block in numbers.items()]
        more = ", ..." if len(named) > _NAMED_KEYS else ""
        shown_keys = ", ".join(named[:_NAMED_KEYS])
        notes.append(f"keys were numbered as blocks in order of appearance: {shown_keys}{more}")
        return blocks

    def _values(self, notes: list[str]) -> list[int]:
        """Return a value for each row: Jepsen's own, if they tell every write from every other."""
        once = len({value for _, value in self._written}) == len(self._written)
        if once and all(value is None or WRITTEN.least <= value <= WRITTEN.most for value in self._value):
            return [INITIAL if value is None else value for value in self._value]
        numbers: dict[tuple[Key, int], int] = {}
        values = [
            INITIAL if value is None else numbers.setdefault((key, value), len(numbers) + 1)
            for key, value in zip(self._key, self._value, strict=True)
        ]
        why = "one is below 1 or too great" if once else "two keys share one"
        notes.append(
            f"values were numbered from 1 in order of appearance, since {why}: find them by their lines"
        )
        return values

    def _integer(self, form: dict[str, Value], name: str, allowed: Range) -> int:
        value = form.get(name)
        if type(value) is not int:
            self._refuse(f"{name} must be an integer, not {_text(value)}")
        if not allowed.least <= value <= allowed.most:
            self._refuse(f"{name} must be from {allowed.least} to {allowed.most}, not {value}")
        return value

    def _refuse(self, what: str) -> NoReturn:
        raise HistoryError(f"{self._path}:{self._line}: {what}")


def _text(value: Value) -> str:
    """Return a value as the user wrote it, or nearly so."""
    if isinstance(value, Other):
        return value.text
    if isinstance(value, tuple):
        return f"[{' '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return "a map"
    if value is None:
        return "nil"
    return str(value).lower() if isinstance(value, bool) else str(value)


def write_edn(history: History, path: Path) -> tuple[str, ...]:
    """Write reads and writes as Jepsen does, in order of time; returns notes on what was left out.

    At equal times invocations come first, so that what is concurrent here is so there. A process
    that has more than one operation open, or that goes on after an :info, is given further numbers.
    Raises HistoryError if the history has a crash or an uncertain clock, which Jepsen's register does not
    know, or if the file cannot be written.
    """
    for what, there in (("a crash", history.crashes), ("an uncertain clock", history.clocks)):
        if there:
            raise HistoryError(f"{path}: the history has {what}, which a history.edn cannot say")
    register = history.f != F.FLUSH
    rows = np.flatnonzero(register)
    process = _processes(history, rows)
    notes = [
        f"{what} were left out: {count}"
        for what, count in (("flushes", len(history) - len(rows)), ("fences", len(history.fences)))
        if count
    ]
    if history.boot.any():
        notes.append("boots were left out: all operations are as of one")
    if (process != history.process[rows]).any():
        notes.append("processes were given other numbers: in Jepsen one has one operation open at a time")
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(_entries(history, rows, process))
    except OSError as error:
        raise cannot_write(path, error) from error
    return tuple(notes)


def _processes(history: History, rows: np.ndarray) -> np.ndarray:
    """Give each row a process that has nothing open at its start and has not crashed."""
    start, finish, own, boot = (
        getattr(history, name)[rows].tolist() for name in ("start", "finish", "process", "boot")
    )
    info = (history.outcome[rows] == Outcome.INFO).tolist()
    used = set(own)
    free: dict[tuple[int, int], list[tuple[int, int]]] = {}
    taken: set[int] = set()
    fresh = filter(lambda number: number not in used, itertools.count())
    given = np.empty(len(rows), np.int64)
    for row in np.argsort(history.start[rows], kind="stable").tolist():
        idle = free.setdefault((boot[row], own[row]), [])
        if idle and idle[0][0] < start[row]:
            number = heapq.heappop(idle)[1]
        elif own[row] not in taken:
            number = own[row]
        else:
            number = next(fresh)
        taken.add(number)
        given[row] = number
        if not info[row]:
            heapq.heappush(idle, (finish[row], number))
    return given


def _entries(history: History, rows: np.ndarray, process: np.ndarray) -> Iterator[str]:
    f, outcome, block, value = (
        getattr(history, name)[rows].tolist() for name in ("f", "outcome", "block", "value")
    )
    count = len(rows)
    times = np.concatenate([history.start[rows], history.finish[rows]])
    order = np.lexsort((np.arange(2 * count), np.arange(2 * count) >= count, times))
    order = order[times[order] != PENDING]
    for index, event in enumerate(order.tolist()):
        row = event % count
        is_end = event >= count
        known = f[row] == F.WRITE or (is_end and outcome[row] == Outcome.OK)
        content = value[row] if known and value[row] != INITIAL else "nil"
        kind = _OUTCOME_KEYWORD[outcome[row]] if is_end else ":invoke"
        yield (
            f"{{:type {kind}, :f {_F_KEYWORD[f[row]]}, :value [{block[row]} {content}], "
            f":time {times[event]}, :process {process[row]}, :index {index}}}\n"
        )
