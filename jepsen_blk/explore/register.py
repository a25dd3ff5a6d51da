"""The judge of a history of one block and three values, taken in as it happens.

The rule is that of the checker (docs/anomalies.md) under the deadline `fence`: of each value the least finish
and the greatest start of its write and reads; two values contradict each other if each must precede the
other. What matters of a past is only how these times are ordered, so that is what two pasts are alike by.
tests/test_explore.py holds it against the checker.
"""

from __future__ import annotations

from typing import Protocol

INITIAL, A, B = range(3)
"""The values: what was written before all that is explored, A, and A'."""
_NEVER = 1 << 60
_VALUES = (INITIAL, A, B)


class Hears(Protocol):
    """Who is told what the guest does and sees."""

    def issued(self, value: int) -> None:
        """The guest issues the write of `value`."""

    def told(self, value: int) -> None:
        """The guest is told that the write of `value` is done."""

    def failed(self, value: int) -> None:
        """The guest is told that the write of `value` has failed."""

    def fenced(self, value: int) -> None:
        """The guest that wrote `value` is given up."""

    def read(self, value: int) -> None:
        """The guest reads `value`."""


Past = tuple[int, ...]
"""All that is known of the past: what `Register.past` returns."""


class Register:
    """Takes in what the guest does and sees, in the order in which it happens."""

    def __init__(self) -> None:
        self._now = 0
        self._minf = [-1, _NEVER, _NEVER]
        self._maxs = [-1, -1, -1]
        self._closed = [_NEVER] * 3
        self.contradicted = False

    def issued(self, value: int) -> None:
        """The guest issues the write of `value`."""
        self._now += 1
        self._maxs[value] = max(self._maxs[value], self._now)

    def told(self, value: int) -> None:
        """The guest is told that the write of `value` is done."""
        self._now += 1
        self._minf[value] = min(self._minf[value], self._now)
        self._compare(value)

    def failed(self, value: int) -> None:
        """The guest is told of an error, which says nothing of whether `value` may land."""

    def fenced(self, value: int) -> None:
        """From here on an unacknowledged write of `value` may land no more."""
        self._now += 1
        if self._minf[value] == _NEVER:
            self._closed[value] = self._now

    def read(self, value: int) -> None:
        """The guest reads `value`, with nothing between issue and answer."""
        self._now += 2
        self._maxs[value] = self._now - 1
        self._minf[value] = min(self._minf[value], self._now, self._closed[value])
        self._compare(value)

    def past(self) -> Past:
        """Return the order of all times that matter."""
        times = (*self._minf, *self._maxs, *self._closed)
        rank = {time: number for number, time in enumerate(sorted(set(times) - {-1, _NEVER}))}
        rank |= {-1: -1, _NEVER: _NEVER}
        return (*(rank[time] for time in times), self.contradicted)

    def recall(self, past: Past) -> None:
        """Go on from another past."""
        self._minf, self._maxs, self._closed = list(past[:3]), list(past[3:6]), list(past[6:9])
        self.contradicted = bool(past[9])
        self._now = 1 + len(past)

    def _compare(self, value: int) -> None:
        for other in _VALUES:
            if other != value and self._minf[value] < self._maxs[other]:
                self.contradicted |= self._minf[other] < self._maxs[value]
