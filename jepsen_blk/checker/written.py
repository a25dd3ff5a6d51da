"""Which values have been written: what an online check keeps of the writes that it forgets.

A value that was written and forgotten can only be read wrongly, one that nothing wrote is a phantom, and
one that is written twice means two copies of a guest. Sequence numbers are dense, so a set of intervals
says it in a few numbers: one interval a boot, and a gap for each write still in flight.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from jepsen_blk.history.record import Int64s


class Written:
    """A set of values as disjoint intervals; adding one value costs a bisection."""

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._ends: list[int] = []

    def __contains__(self, value: int) -> bool:
        place = bisect_right(self._lows, value) - 1
        return place >= 0 and value < self._ends[place]

    def add(self, value: int) -> None:
        """Add a value that is not in the set."""
        end = value + 1
        place = bisect_right(self._lows, value)
        if place and self._ends[place - 1] == value:
            place -= 1
            self._ends[place] = end
        else:
            self._lows.insert(place, value)
            self._ends.insert(place, end)
        if place + 1 < len(self._lows) and self._lows[place + 1] == end:
            self._ends[place] = self._ends.pop(place + 1)
            del self._lows[place + 1]


class WrittenInBulk:
    """The same for many values at a time: 16 bytes an interval, however many there are."""

    def __init__(self) -> None:
        self._lows = np.empty(0, dtype=np.int64)
        self._ends = np.empty(0, dtype=np.int64)

    def contain(self, values: Int64s) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Tell of each value whether it is in the set."""
        if not len(self._lows):
            return np.zeros(len(values), dtype=np.bool_)
        place = np.searchsorted(self._lows, values, side="right") - 1
        return (place >= 0) & (values < self._ends[place])

    def meet(self, lows: Int64s, ends: Int64s) -> bool:
        """Tell whether the set has a value from lows[i] up to ends[i], for any i; ascending and apart."""
        before = np.searchsorted(self._lows, ends)  # how many of the set's intervals begin before each end
        return bool((np.append(self._ends, 0)[before - 1] > lows)[before > 0].any())

    def add_runs(self, lows: Int64s, ends: Int64s) -> None:
        """Add the values from lows[i] up to ends[i], for each i."""
        lows, ends = np.append(self._lows, lows), np.append(self._ends, ends)
        order = np.argsort(lows, kind="stable")
        lows, ends = lows[order], np.maximum.accumulate(ends[order])
        apart = lows[1:] > ends[:-1]
        self._lows = lows[np.append(True, apart)[: len(lows)]]
        self._ends = ends[np.append(apart, True)[: len(lows)]]

    def add_all(self, values: Int64s) -> None:
        """Add ascending values."""
        begins = np.append(True, np.diff(values) != 1)[: len(values)]
        self.add_runs(values[begins], values[np.append(begins[1:], True)[: len(values)]] + 1)
