"""Writes whose report was lost with their guest, known only because a read saw their value.

When a guest dies, its last operations are never reported. A later read of such a value is no
phantom: the stamp proves that the write was issued. It is adopted as an indeterminate write whose
start is as early as the reported writes allow, so that adoption never causes a false alarm.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jepsen_blk.history.record import PENDING, F, History, Int64s, Outcome
from jepsen_blk.stamp import SEQUENCE_BITS


def adopt_lost_tails(history: History) -> History:
    """Return the history with a write row for each value that only a lost tail can have written.

    The new rows stand after the others, with `line` -1, -2, ...: they are in no file. Their start is the
    greatest start of the reported writes of the boot with a smaller value, or 0; their finish is PENDING.
    """
    adopted = _unreported(history)
    if not len(adopted):
        return history
    added = len(adopted)
    value = history.value[adopted]
    line = history.line if history.line is not None else np.arange(len(history), dtype=np.int64)
    return replace(
        history,
        f=np.append(history.f, np.full(added, F.WRITE, dtype=np.uint8)),
        outcome=np.append(history.outcome, np.full(added, Outcome.INFO, dtype=np.uint8)),
        process=np.append(history.process, np.full(added, -1, dtype=np.int32)),
        boot=np.append(history.boot, (value >> SEQUENCE_BITS).astype(np.int32)),
        block=np.append(history.block, history.block[adopted]),
        value=np.append(history.value, value),
        start=np.append(history.start, _earliest_starts(history, value)),
        finish=np.append(history.finish, np.full(added, PENDING, dtype=np.int64)),
        line=np.append(line, -1 - np.arange(added, dtype=np.int64)),
    )


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


def _earliest_starts(history: History, values: Int64s) -> Int64s:
    """Return for each value the greatest start of its boot's reported writes of smaller values, or 0."""
    starts = np.zeros(len(values), dtype=np.int64)
    for boot in np.unique(values >> SEQUENCE_BITS):
        own = np.flatnonzero((history.f == F.WRITE) & (history.value >> SEQUENCE_BITS == boot))
        own = own[np.argsort(history.value[own])]
        greatest = np.maximum.accumulate(np.append(0, history.start[own]))
        asked = np.flatnonzero(values >> SEQUENCE_BITS == boot)
        starts[asked] = greatest[np.searchsorted(history.value[own], values[asked])]
    return starts
