"""From the values and blocks that a history names to places in arrays, without hashing.

Values come as runs of consecutive numbers (one run a boot), so a place is a subtraction; histories
of other testers may name anything, so there is a sorted index for them too.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from jepsen_blk.history.record import F, History, Int64s
from jepsen_blk.stamp import SEQUENCE_BITS

_SLICE = 1 << 17
_SLACK = 1 << 20
MOST_RUNS = 1024


class Index(Protocol):
    """Places 0..size-1 of a set of keys."""

    size: int

    def places(self, keys: Int64s) -> Int64s:
        """Return the place of each key, -1 for a key outside the set's range (or, if sorted, not in it)."""

    def keys(self, places: Int64s) -> Int64s:
        """Return the keys at these places."""

    def runs(self) -> tuple[Int64s, Int64s]:
        """Return the first key of each run of consecutive keys, sorted, and its place; at last the size.

        Shapes (runs,) and (runs + 1,); there is always a run, be it empty.
        """


class _Runs:
    """Keys in a few ranges: range i is lows[i] .. lows[i] + sizes[i] - 1."""

    def __init__(self, lows: Int64s, sizes: Int64s) -> None:
        self._lows = lows
        self._sizes = sizes
        self._first = np.cumsum(sizes) - sizes
        self.size = int(sizes.sum())

    def places(self, keys: Int64s) -> Int64s:
        if len(self._lows) == 1:
            place: Int64s = keys - self._lows[0]
            place[(place < 0) | (place >= self.size)] = -1
            return place
        run = np.searchsorted(self._lows, keys, side="right") - 1
        place = keys - self._lows[run]
        outside = (run < 0) | (place >= self._sizes[run])
        place += self._first[run]
        place[outside] = -1
        return place

    def keys(self, places: Int64s) -> Int64s:
        run = np.searchsorted(self._first, places, side="right") - 1
        return np.asarray(places - self._first[run] + self._lows[run], dtype=np.int64)

    def runs(self) -> tuple[Int64s, Int64s]:
        return self._lows, np.append(self._first, self.size)


class _Sorted:
    """Any keys, found by bisection."""

    def __init__(self, keys: Int64s) -> None:
        self._keys = np.unique(keys)
        self.size = len(self._keys)

    def places(self, keys: Int64s) -> Int64s:
        if not self.size:
            return np.full(len(keys), -1, dtype=np.int64)
        place = np.searchsorted(self._keys, keys)
        place[place == self.size] = 0
        place[self._keys[place] != keys] = -1
        return place

    def keys(self, places: Int64s) -> Int64s:
        return np.asarray(self._keys[places], dtype=np.int64)

    def runs(self) -> tuple[Int64s, Int64s]:
        if not self.size:
            return np.zeros(1, dtype=np.int64), np.zeros(2, dtype=np.int64)
        first = np.flatnonzero(np.diff(self._keys, prepend=self._keys[0] - 2) != 1)
        return self._keys[first], np.append(first, self.size)


def distinct(keys: Int64s) -> Int64s:
    """Return the keys in order, each once: sorting takes a fraction of the time of np.unique's hashing."""
    keys = np.sort(keys)
    first = np.append(True, np.diff(keys) != 0)[: len(keys)]
    return np.asarray(keys[first])


def index_blocks(history: History) -> Index:
    """Index the history's blocks."""
    return index_numbers(history.block)


def index_numbers(numbers: Int64s) -> Index:
    """Index these numbers: as all from 0 to the greatest, unless those are far more."""
    if len(numbers) and int(numbers.min()) >= 0:
        size = int(numbers.max()) + 1
        if size <= len(numbers) + _SLACK:
            return _Runs(np.zeros(1, dtype=np.int64), np.array([size], dtype=np.int64))
    return _Sorted(numbers)


def index_values(history: History) -> Index:
    """Index the values that writes wrote: one run of sequence numbers a boot, if they are dense."""
    least: dict[int, int] = {}
    greatest: dict[int, int] = {}
    writes = 0
    for low in range(0, len(history), _SLICE):
        part = slice(low, low + _SLICE)
        value = history.value[part][history.f[part] == F.WRITE]
        writes += len(value)
        while len(value) and len(least) <= MOST_RUNS:
            boot = int(value[0]) >> SEQUENCE_BITS
            mine = value >> SEQUENCE_BITS == boot
            own = value[mine]
            least[boot] = min(least.get(boot, int(own[0])), int(own.min()))
            greatest[boot] = max(greatest.get(boot, int(own[0])), int(own.max()))
            value = value[~mine]
    extremes = (np.array(list(ends.values()), dtype=np.int64) for ends in (least, greatest))
    return index_between(history, writes, *extremes)


def index_between(history: History, writes: int, least: Int64s, greatest: Int64s) -> Index:
    """Index the values of that many writes, given the least and the greatest of each boot.

    If they lie too far apart to be runs, or if the boots are more than MOST_RUNS, they are sorted.
    """
    lows = np.sort(least)
    sizes = np.sort(greatest) - lows + 1
    if not 0 < len(lows) <= MOST_RUNS or sum(sizes.tolist()) > 2 * writes + _SLACK:
        return _Sorted(history.value[history.f == F.WRITE])
    return _Runs(lows, sizes)
