"""Writes whose report was lost with their guest, known only because a read saw their value.

When a guest dies, its last operations are never reported. A later read of such a value is no
phantom: the stamp proves that the write was issued. It is adopted as an indeterminate write whose
start is as early as the reported writes allow, so that adoption never causes a false alarm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from jepsen_blk.history.record import PENDING, F, History, Int64s, Outcome
from jepsen_blk.history.rows import COLUMNS, concatenate
from jepsen_blk.stamp import SEQUENCE_BITS


def adopt_lost_tails(history: History) -> History:
    """Return the history with a write row for each value that only a lost tail can have written.

    The new rows stand after the others, with `line` -1, -2, ...: they are in no file. Their start is the
    greatest start of the reported writes of the boot with a smaller value, or 0; their finish is PENDING.
    """
    adopted = _unreported(history)
    if not len(adopted):
        return history
    value = history.value[adopted]
    writes = adopted_writes(value, history.block[adopted], earliest_starts([history], value))
    both = concatenate([history, writes])
    return replace(history, **{name: getattr(both, name) for name in (*COLUMNS, "line")})


def adopted_writes(value: Int64s, block: Int64s, start: Int64s) -> History:
    """Return the rows of writes that are known from reads alone."""
    added = len(value)
    return History(
        f=np.full(added, F.WRITE, dtype=np.uint8),
        outcome=np.full(added, Outcome.INFO, dtype=np.uint8),
        process=np.full(added, -1, dtype=np.int32),
        boot=(value >> SEQUENCE_BITS).astype(np.int32),
        block=block,
        value=value,
        start=start,
        finish=np.full(added, PENDING, dtype=np.int64),
        line=-1 - np.arange(added, dtype=np.int64),
    )


def earliest_starts(parts: Iterable[History], values: Int64s) -> Int64s:
    """Return for each value the greatest start of its boot's reported writes of smaller values, or 0.

    `values` ascend, and none of them is written in the parts of the history.
    """
    starts = np.zeros(len(values), dtype=np.int64)
    boots = np.append(values >> SEQUENCE_BITS, -1)
    for part in parts:
        writes = np.flatnonzero(part.f == F.WRITE)
        above = np.searchsorted(values, part.value[writes])
        own = boots[above] == part.value[writes] >> SEQUENCE_BITS
        np.maximum.at(starts, above[own], part.start[writes[own]])
    for boot in np.unique(boots[:-1]):
        low, end = np.searchsorted(boots[:-1], [boot, boot + 1])
        starts[low:end] = np.maximum.accumulate(starts[low:end])
    return starts


def _unreported(history: History) -> Int64s:
    """Return the rows of the first read of each value of a lost tail that no write reported."""
    found = [np.empty(0, dtype=np.int64)]
    for boot in sorted(history.lost_tails):
        low, high = boot << SEQUENCE_BITS, (boot + 1) << SEQUENCE_BITS
        own = (history.value > low) & (history.value < high)
        written = np.unique(history.value[own & (history.f == F.WRITE)])
        reads = np.flatnonzero(own & (history.f == F.READ) & (history.outcome == Outcome.OK))
        place = np.searchsorted(written, history.value[reads])
        missing = reads[np.append(written, -1)[place] != history.value[reads]]
        found.append(missing[np.unique(history.value[missing], return_index=True)[1]])
    return np.concatenate(found)
