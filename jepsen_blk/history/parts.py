"""A stored history in parts of bounded size, for who cannot hold all of it in memory.

A form that can be read so yields its rows in the order of the file, so that the parts put together are what
reading the whole gives. Reading twice gives the same parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from jepsen_blk.history.record import History, Int64s

PART_ROWS = 1 << 20
COLUMNS = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a stored history, with their `line`.

    The marks (fences, crashes, clocks, lost tails) and the doubts of a history are those of all its parts
    together; what only the end of the file can tell comes with the last part. `share` of the file has been
    read, from 0 to 1.
    """

    history: History
    share: float
    doubts: tuple[str, ...] = ()


class Parts(Protocol):
    """A stored history that is read part by part, as often as it is asked for.

    Raises HistoryError where the file is malformed or cannot be read. `name` is what messages call it.
    """

    @property
    def name(self) -> str:
        """Return the file's name."""

    def __call__(self) -> Iterator[Part]:
        """Yield the parts, at least one."""


def lines(history: History) -> Int64s:
    """Return the line numbers of all rows."""
    return np.arange(len(history), dtype=np.int64) if history.line is None else history.line


def select(history: History, rows: Int64s) -> History:
    """Return these rows with their line numbers, and all marks."""
    columns: dict[str, Any] = {name: getattr(history, name)[rows] for name in COLUMNS}
    return replace(history, **columns, line=lines(history)[rows])


def merge_marks(history: History, other: History) -> History:
    """Return the history with the marks of both, each once."""
    return replace(
        history,
        fences=tuple(dict.fromkeys((*history.fences, *other.fences))),
        crashes=tuple(dict.fromkeys((*history.crashes, *other.crashes))),
        clocks=tuple(dict.fromkeys((*history.clocks, *other.clocks))),
        lost_tails=history.lost_tails | other.lost_tails,
    )


def concatenate(histories: Sequence[History]) -> History:
    """Return the rows of all, with the marks of the last."""
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(history, name) for history in histories]) for name in COLUMNS
    }
    return replace(histories[-1], **columns, line=np.concatenate([lines(history) for history in histories]))
