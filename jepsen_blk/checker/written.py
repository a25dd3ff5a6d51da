"""Which values have been written: what an online check keeps of the writes that it forgets.

A value that was written and forgotten can only be read wrongly, one that nothing wrote is a phantom, and
one that is written twice means two copies of a guest. Sequence numbers are dense, so a set of intervals
says it in a few numbers: one interval a boot, and a gap for each write still in flight.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from jepsen_blk.history.record import Int64s

Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Written:
    """A set of values that grows by one at a time; adding one costs a bisection."""

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._ends: list[int] = []

    def __contains__(self, value: int) -> bool:
        place = bisect_right(self._lows, value) - 1
        return place >= 0 and value < self._ends[place]

    def add(self, value: int) -> None:
        """Add a value that is not in the set."""
        place = bisect_right(self._lows, value)
        if place and self._ends[place - 1] == value:
            place -= 1
            self._ends[place] = value + 1
        else:
            self._lows.insert(place, value)
            self._ends.insert(place, value + 1)
        if place + 1 < len(self._lows) and self._lows[place + 1] == value + 1:
            self._ends[place] = self._ends.pop(place + 1)
            del self._lows[place + 1]


class WrittenRuns:
    """A set of values that grows by a window at a time: intervals from lows[i] up to ends[i], ascending."""

    def __init__(self) -> None:
        self.lows: Int64s = np.empty(0, dtype=np.int64)
        self.ends: Int64s = np.empty(0, dtype=np.int64)

    def contain(self, values: Int64s) -> Bools:
        """Tell of each value whether it is in the set."""
        if not len(self.lows):
            return np.zeros(len(values), dtype=np.bool_)
        place = np.searchsorted(self.lows, values, side="right") - 1
        return (place >= 0) & (values < self.ends[place])

    def meet(self, lows: Int64s, ends: Int64s) -> bool:
        """Tell whether a value of these intervals is in the set."""
        before = np.searchsorted(self.lows, ends)  # how many of the set's intervals begin before each ends
        return bool((np.append(self.ends, 0)[before - 1] > lows)[before > 0].any())

    def add(self, lows: Int64s, ends: Int64s) -> None:
        """Add the values of intervals, ascending and apart."""
        lows = np.append(self.lows, lows)
        ends = np.append(self.ends, ends)
        order = np.argsort(lows)
        lows, ends = lows[order], np.maximum.accumulate(ends[order])
        first = np.append(True, lows[1:] > ends[:-1])[: len(lows)]
        self.lows = lows[first]
        self.ends = ends[np.append(first[1:], True)[: len(lows)]]


def runs(values: Int64s) -> tuple[Int64s, Int64s]:
    """Return ascending values as intervals: their lows and ends."""
    first = np.append(True, np.diff(values) != 1)[: len(values)]
    return values[first], values[np.append(first[1:], True)[: len(values)]] + 1
