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

    def contain(self, values: Int64s) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Tell of each value whether it is in the set."""
        if not self._lows:
            return np.zeros(len(values), dtype=np.bool_)
        place = np.searchsorted(np.array(self._lows, dtype=np.int64), values, side="right") - 1
        return (place >= 0) & (values < np.array(self._ends, dtype=np.int64)[place])

    def add_all(self, values: Int64s) -> None:
        """Add ascending values, none of which is in the set."""
        cuts = np.flatnonzero(np.diff(values) != 1) + 1
        for run in np.split(values, cuts):
            if len(run):
                self.add(int(run[0]), int(run[-1]) + 1)

    def add(self, low: int, end: int | None = None) -> None:
        """Add the values low .. end - 1 (without `end` only `low`), none of which is in the set."""
        end = low + 1 if end is None else end
        place = bisect_right(self._lows, low)
        if place and self._ends[place - 1] == low:
            place -= 1
            self._ends[place] = end
        else:
            self._lows.insert(place, low)
            self._ends.insert(place, end)
        if place + 1 < len(self._lows) and self._lows[place + 1] == end:
            self._ends[place] = self._ends.pop(place + 1)
            del self._lows[place + 1]
