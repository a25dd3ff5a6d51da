"""Re-issues: writes that a frontend sends again, because it never learned of their end.

The storage knows which those can be: what is in flight still, whose connection may have died unseen, what
it has held, what it has answered with an error, and what was in flight on a connection that closed. Stamps
are unique, so the same value that comes again is the same write.
No threads and no clock here: the owner calls it under its own lock or in its own event loop, and wakes
whoever waits.

Standard library only.
"""

from __future__ import annotations

from collections import Counter

_REMEMBERED = 1 << 16
"""Far more than can be in flight: the oldest are forgotten first."""


class Reissues:
    """The values that may come again, and how many of each node's writes were such."""

    def __init__(self) -> None:
        self._expected: dict[int, None] = {}
        self._in_flight: Counter[int] = Counter()
        self._counts: Counter[str] = Counter()

    def expect(self, value: int) -> None:
        """Note that a write of `value` may be sent again; unstamped data cannot be told apart."""
        if value > 0:
            self._expected[value] = None
            if len(self._expected) > _REMEMBERED:
                del self._expected[next(iter(self._expected))]

    def arrived(self, node: str, value: int) -> bool:
        """Count a write of `node`, if it is one that was expected or is in flight; tell whether it was."""
        again = value in self._expected or value in self._in_flight
        if again:
            self._counts[node] += 1
        if value > 0:
            self._in_flight[value] += 1
        return again

    def ended(self, value: int) -> None:
        """Note the end of a write that arrived."""
        if self._in_flight[value] > 1:
            self._in_flight[value] -= 1
        else:
            del self._in_flight[value]

    def count(self, node: str) -> int:
        """Return how many writes `node` has sent that were sent before."""
        return self._counts[node]
