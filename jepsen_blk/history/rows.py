"""Rows of a history taken out and put together again, with their line numbers and marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jepsen_blk.history.record import History, Int64s

COLUMNS = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")


def lines(history: History) -> Int64s:
    """Return the line numbers of all rows."""
    return np.arange(len(history), dtype=np.int64) if history.line is None else history.line


def select(history: History, rows: Int64s) -> History:
    """Return these rows with their line numbers, and all marks."""
    columns: dict[str, Any] = {name: getattr(history, name)[rows] for name in COLUMNS}
    return replace(history, **columns, line=lines(history)[rows])


def unmarked(history: History, rows: Int64s) -> History:
    """Return these rows as a history of their own, without marks and line numbers."""
    return History(**{name: getattr(history, name)[rows] for name in COLUMNS})


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
    """Return the rows of all, with the marks of the last, and with line numbers if any has them."""
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(history, name) for history in histories]) for name in COLUMNS
    }
    numbered = any(history.line is not None for history in histories)
    line = np.concatenate([lines(history) for history in histories]) if numbered else None
    return replace(histories[-1], **columns, line=line)
