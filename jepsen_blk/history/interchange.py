"""The interchange form: one JSON object a line, so that any tester's history can be checked here.

Times are ns on one clock, value 0 means "never written"; a fence or a crash is a line of its own.
Every mistake is an error that names file and line (counted from 1, as editors do), because a
silently dropped or patched operation would change the verdict. Line numbers in results count from 0.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from jepsen_blk.errors import HistoryError
from jepsen_blk.history.record import FOREIGN, PENDING, F, Fence, History, Outcome

_F = {"read": F.READ, "write": F.WRITE, "flush": F.FLUSH}
_OUTCOME = {"ok": Outcome.OK, "fail": Outcome.FAIL, "info": Outcome.INFO}
_INT32_MAX = 2**31 - 1
_COLUMNS = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")


def read_jsonl(path: Path) -> History:
    """Read an interchange file; raises HistoryError("FILE:LINE: what is wrong")."""
    reader = _Reader(path)
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines):
                if line.strip():
                    reader.take(number, line)
    except OSError as error:
        raise HistoryError(f"{path}: cannot read the history: {error.strerror}") from error
    return reader.history()


def write_jsonl(history: History, path: Path) -> None:
    """Write a history: row i becomes line i; fences and crashes come after the operations.

    Raises HistoryError if the file cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8") as file:
            for entry in _entries(history):
                file.write(json.dumps(entry, separators=(",", ":")) + "\n")
    except OSError as error:
        raise HistoryError(f"{path}: cannot write the history: {error.strerror}") from error


def _entries(history: History) -> Iterator[dict[str, Any]]:
    columns = [getattr(history, name) for name in _COLUMNS]
    for f, outcome, process, boot, block, value, start, finish in zip(*columns, strict=True):
        entry: dict[str, Any] = {"f": F(f).name.lower(), "process": int(process)}
        if f != F.FLUSH:
            entry |= {"block": int(block), "value": int(value)}
        entry |= {"start": int(start), "finish": None if finish == PENDING else int(finish)}
        yield entry | {"outcome": Outcome(outcome).name.lower(), "boot": int(boot)}
    for fence in history.fences:
        yield {"f": "fence", "time": fence.time_ns, "boot": fence.boot}
    for time_ns in history.crashes:
        yield {"f": "crash", "time": time_ns}


class _Reader:
    """Collects lines into columns; keeps what it needs to name the line of a mistake."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0
        self._columns = {name: array("q") for name in _COLUMNS}
        self._line = array("q")
        self._fences: list[Fence] = []
        self._crashes: list[int] = []
        self._written: dict[int, int] = {}

    def take(self, number: int, line: bytes) -> None:
        """Add line `number` (from 0)."""
        self._number = number
        try:
            entry = json.loads(line)
        except ValueError as error:
            self._refuse(f"not valid JSON: {error}")
        if not isinstance(entry, dict):
            self._refuse("not a JSON object")
        f = entry.get("f")
        if f == "fence":
            self._fences.append(Fence(self._integer(entry, "time"), self._boot(entry)))
        elif f == "crash":
            self._crashes.append(self._integer(entry, "time"))
        elif isinstance(f, str) and f in _F:
            self._operation(_F[f], entry)
        else:
            self._refuse(f"'f' must be read, write, flush, fence or crash, not {f!r}")

    def history(self) -> History:
        """Return what was read as columns."""
        line = np.array(self._line, dtype=np.int64)
        column = {name: np.array(values, dtype=np.int64) for name, values in self._columns.items()}
        return History(
            f=column["f"].astype(np.uint8),
            outcome=column["outcome"].astype(np.uint8),
            process=column["process"].astype(np.int32),
            boot=column["boot"].astype(np.int32),
            block=column["block"],
            value=column["value"],
            start=column["start"],
            finish=column["finish"],
            fences=tuple(self._fences),
            crashes=tuple(self._crashes),
            line=None if np.array_equal(line, np.arange(len(line))) else line,
        )

    def _operation(self, f: F, entry: dict[str, Any]) -> None:
        outcome = self._outcome(entry)
        start = self._integer(entry, "start")
        row = {
            "f": f,
            "outcome": outcome,
            "process": self._integer(entry, "process", most=_INT32_MAX),
            "boot": self._boot(entry),
            "block": 0 if f is F.FLUSH else self._integer(entry, "block"),
            "value": self._value(f, outcome, entry),
            "start": start,
            "finish": self._finish(outcome, start, entry),
        }
        for name, value in row.items():
            self._columns[name].append(value)
        self._line.append(self._number)

    def _outcome(self, entry: dict[str, Any]) -> Outcome:
        outcome = entry.get("outcome")
        if not isinstance(outcome, str) or outcome not in _OUTCOME:
            self._refuse(f"'outcome' must be ok, fail or info, not {outcome!r}")
        return _OUTCOME[outcome]

    def _value(self, f: F, outcome: Outcome, entry: dict[str, Any]) -> int:
        if f is F.FLUSH or (f is F.READ and outcome is not Outcome.OK and entry.get("value") is None):
            return 0
        value = self._integer(entry, "value", least=1 if f is F.WRITE else FOREIGN)
        if f is F.WRITE:
            before = self._written.setdefault(value, self._number)
            if before != self._number:
                self._refuse(
                    f"value {value} was written in line {before + 1} already; each write needs its own"
                )
        return value

    def _finish(self, outcome: Outcome, start: int, entry: dict[str, Any]) -> int:
        if "finish" in entry and entry["finish"] is None:
            if outcome is not Outcome.INFO:
                self._refuse(f"'finish' is null but the outcome is {outcome.name.lower()}; only info may be")
            return PENDING
        finish = self._integer(entry, "finish")
        if finish < start:
            self._refuse(f"finish {finish} is before start {start}")
        return finish

    def _boot(self, entry: dict[str, Any]) -> int:
        return self._integer(entry, "boot", most=_INT32_MAX) if "boot" in entry else 0

    def _integer(self, entry: dict[str, Any], key: str, *, least: int = 0, most: int = PENDING - 1) -> int:
        if key not in entry:
            self._refuse(f"{key!r} is missing")
        value = entry[key]
        if type(value) is not int:
            self._refuse(f"{key!r} must be an integer, not {value!r}")
        if not least <= value <= most:
            self._refuse(f"{key!r} must be from {least} to {most}, not {value}")
        return value

    def _refuse(self, what: str) -> NoReturn:
        raise HistoryError(f"{self._path}:{self._number + 1}: {what}")
