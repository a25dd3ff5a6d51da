"""What a windowed check keeps of the windows before: clusters as columns, and small numbers for their values.

registers.py wants dense values and knows rows only. So each window's values and those still open are
numbered anew, and the open clusters are written as rows that have the same effect.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from jepsen_blk.checker.index import distinct, index_values
from jepsen_blk.checker.online import NO_BOOT
from jepsen_blk.history.record import INITIAL, PENDING, F, History, Int64s, Outcome

Bools = npt.NDArray[np.bool_]
NONE = -1
"""No such time or place."""


@dataclass(slots=True)
class OpenClusters:
    """Clusters as columns (n,). `latest` and `earliest` are the greatest start and the least finish of the
    reads, `latest` NONE if there is none.

    `start`, `finish`, `outcome` and `boot` are the write's as far as it is known: one without a report is
    indeterminate. A closed cluster is kept only until its write is reported.
    """

    value: Int64s
    block: Int64s
    boot: Int64s
    outcome: Int64s
    start: Int64s
    finish: Int64s
    latest: Int64s
    earliest: Int64s
    reported: Bools
    closed: Bools

    @classmethod
    def of(cls, value: Int64s) -> OpenClusters:
        """Return clusters of which nothing is known but their values."""

        def column(content: int) -> Int64s:
            return np.full(len(value), content, dtype=np.int64)

        return cls(
            value=value,
            block=column(0),
            boot=column(NO_BOOT),
            outcome=column(Outcome.INFO),
            start=column(0),
            finish=column(PENDING),
            latest=column(NONE),
            earliest=column(PENDING),
            reported=np.zeros(len(value), dtype=np.bool_),
            closed=np.zeros(len(value), dtype=np.bool_),
        )

    def __len__(self) -> int:
        return len(self.value)

    def take(self, rows: Int64s) -> OpenClusters:
        """Return these clusters."""
        return OpenClusters(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def put(self, places: Int64s, other: OpenClusters) -> None:
        """Replace the clusters at these places."""
        for field in fields(self):
            getattr(self, field.name)[places] = getattr(other, field.name)

    def put_writes(self, places: Int64s, history: History, rows: Int64s, *, reported: bool) -> None:
        """Enter what these rows say of the writes at these places."""
        for name in ("block", "boot", "start", "finish", "outcome"):
            getattr(self, name)[places] = getattr(history, name)[rows]
        self.reported[places] = reported

    def settle(self, minf: Int64s, maxs: Int64s, rows: Int64s) -> None:
        """Let the write alone stand for its cluster where no read to come can end before it began."""
        self.outcome[rows] = Outcome.OK
        self.start[rows] = maxs[rows]
        self.finish[rows] = minf[rows]
        self.latest[rows] = NONE
        self.earliest[rows] = PENDING


class Names:
    """Places 0..count-1 for the values at hand: those written in the window, then the older ones.

    `values` has them by place, and last 0 for all that have none; `written` are the window's, ascending.
    """

    def __init__(self, rows: History, older: Int64s) -> None:
        older = distinct(older)
        self._window = index_values(rows)
        self._has_write = np.zeros(self._window.size + 1, dtype=np.bool_)  # the last stands for "none"
        self._has_write[self._window.places(rows.value[rows.f == F.WRITE])] = True
        self._older = older[~self._has_write[self._window.places(older)]]
        self._sorted = np.append(self._older, PENDING)
        self.first_older = self._window.size
        self.count = self._window.size + len(self._older)
        window = self._window.keys(np.arange(self._window.size, dtype=np.int64))
        self.written = window[self._has_write[:-1]]
        self.values = np.concatenate([window, self._older, np.array([INITIAL], dtype=np.int64)])

    def places(self, values: Int64s) -> Int64s:
        """Return the place of each value, `count` for one that has none."""
        place = self._window.places(values)
        others = np.flatnonzero(~self._has_write[place])
        found = np.searchsorted(self._sorted, values[others])
        known = self._sorted[found] == values[others]
        place[others] = np.where(known, found + self.first_older, self.count)
        return place


def rows_of(
    f: F,
    block: Int64s,
    value: Int64s,
    start: Int64s,
    finish: Int64s,
    outcome: Int64s | int = Outcome.OK,
    boot: Int64s | int = NO_BOOT,
) -> History:
    """Return rows made up from columns (n,)."""
    count = len(block)
    return History(
        f=np.full(count, f, dtype=np.uint8),
        outcome=np.broadcast_to(np.asarray(outcome, dtype=np.uint8), count),
        process=np.full(count, NONE, dtype=np.int32),
        boot=np.broadcast_to(np.asarray(boot, dtype=np.int32), count),
        block=block,
        value=value,
        start=start,
        finish=finish,
    )


def begun_twice(begun: History) -> Bools:
    """Tell which of these writes in flight has the value of another one, with another block or start."""
    order = np.lexsort((begun.start, begun.block, begun.value))
    value, block, start = (column[order] for column in (begun.value, begun.block, begun.start))
    other = (block[1:] != block[:-1]) | (start[1:] != start[:-1])
    twice = np.zeros(len(begun), dtype=np.bool_)
    twice[order[1:][(value[1:] == value[:-1]) & other]] = True
    return twice


def dead(minf: Int64s, maxs: Int64s, live: Bools, block: Int64s, limits: Int64s, initial: Int64s) -> Bools:
    """Tell which clusters no read to come may return; see online.py.

    `limits` and `initial` are per block: where reads to come begin at the earliest, and the greatest start
    of a read of the initial value (NONE without one), whose cluster ended before everything.
    """
    closers = np.flatnonzero(live & (minf < limits[block]))
    own = block[closers]
    latest = maxs[closers]
    greatest = initial.copy()
    np.maximum.at(greatest, own, latest)
    tops = closers[latest == greatest[own]]
    greatest_at = np.full(len(limits), NONE, dtype=np.int64)
    greatest_at[block[tops]] = tops
    closed = minf < greatest[block]
    tops = tops[closed[tops] & (greatest_at[block[tops]] == tops)]
    # What closes all others of its block does not close itself: for it alone the second greatest counts.
    second = initial.copy()
    at = np.isin(own, block[tops]) & (greatest_at[own] != closers)
    np.maximum.at(second, own[at], latest[at])
    closed[tops] = minf[tops] < second[block[tops]]
    return np.asarray(closed)
