"""The rules that a stored history keeps, whatever its format; each reader says where one is broken.

They hold over whole columns, so that ten million operations are checked by numpy and only a mistake
costs more. A history that breaks a rule is refused: dropping or mending an operation would change
the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jepsen_blk.errors import HistoryError
from jepsen_blk.history.record import FOREIGN, PENDING, Crash, F, Int64s, Outcome

OPERATIONS = {"read": F.READ, "write": F.WRITE, "flush": F.FLUSH}
OUTCOMES = {"ok": Outcome.OK, "fail": Outcome.FAIL, "info": Outcome.INFO}
LARGEST = PENDING - 1
"""The greatest time, block and value; one more means that an operation never completed."""
_LARGEST_INT32 = 2**31 - 1
_SHOWN_CHARACTERS = 60


class Range(NamedTuple):
    """The integers that a field may have, both ends included."""

    least: int
    most: int


PROCESS = BOOT = Range(0, _LARGEST_INT32)
BLOCK = TIME = Range(0, LARGEST)
WRITTEN = Range(1, LARGEST)
SEEN = Range(FOREIGN, LARGEST)
"""The value of a write, and of a read: the latter may be 0 (never written) or a code of what is no stamp."""

UNCERTAINTY = Range(0, 3600 * 10**9)
"""Of a clock, in ns: clocks that may be an hour apart order nothing."""


class Mistake(NamedTuple):
    """The first row (from 0) that breaks a rule, and in what way."""

    row: int
    what: str


def first_mistake(
    f: npt.NDArray[np.integer[Any]],
    outcome: npt.NDArray[np.integer[Any]],
    has_value: npt.NDArray[np.bool_],
    start: Int64s,
    finish: Int64s,
) -> Mistake | None:
    """Return the first row whose fields contradict each other; all columns are (n,), times in ns.

    `finish` is PENDING where the file has none. Ranges and types are the reader's to check before.
    """
    endless = (finish == PENDING) & (outcome != Outcome.INFO)
    backward = finish < start
    unseen = (f == F.READ) & (outcome == Outcome.OK) & ~has_value
    wrong = endless | backward | unseen
    if not wrong.any():
        return None
    row = int(wrong.argmax())
    if endless[row]:
        name = Outcome(outcome[row]).name.lower()
        return Mistake(row, f"'finish' is null but the outcome is {name}; only info may be")
    if backward[row]:
        return Mistake(row, f"finish {finish[row]} is before start {start[row]}")
    return Mistake(row, "'value' is missing though the read is ok; give what it saw, 0 for never written")


def crash_backward(crash: Crash) -> str:
    """Say that a crash was over before it could begin."""
    return f"'until' {crash.until_ns} of the crash is before its time {crash.time_ns}"


def repeated_write(f: npt.NDArray[np.integer[Any]], value: Int64s) -> tuple[int, int] | None:
    """Return the first row that writes a value again and the row that wrote it before, or None."""
    rows = np.flatnonzero(f == F.WRITE)
    values = value[rows]
    if len(values) < 2 or (np.diff(values) > 0).all():
        return None
    ordered = np.sort(values)
    if (ordered[1:] != ordered[:-1]).all():
        return None
    order = np.argsort(values, kind="stable")
    again = np.flatnonzero(values[order][1:] == values[order][:-1])
    first = again[np.argmin(order[again + 1])]
    return int(rows[order[first + 1]]), int(rows[order[first]])


def written_twice(value: int, place: str) -> str:
    """Say that a value was written at `place` already."""
    return f"value {value} was written in {place} already; each write needs its own"


def out_of_range(name: str, value: int, least: int | None, most: int | None) -> str:
    """Say what a field may be."""
    return f"{name!r} must be from {least} to {most}, not {value}"


def one_of(names: Iterable[str]) -> str:
    """Return a choice in words: a, b or c."""
    *most, last = names
    return f"{', '.join(most)} or {last}"


def shown(value: object) -> str:
    """Return a value of the user's as a message shows it: as Python would, cut where it gets long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def cannot_read(path: object, error: OSError) -> HistoryError:
    """Return the error for a file that cannot be read."""
    return HistoryError(f"{path}: cannot read the history: {error.strerror or error}")


def cannot_write(path: object, error: OSError) -> HistoryError:
    """Return the error for a file that cannot be written."""
    return HistoryError(f"{path}: cannot write the history: {error.strerror or error}")
