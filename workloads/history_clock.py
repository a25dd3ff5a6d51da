"""What the history's clock shows, as far as the host can tell from what the guest has said.

The clock is the guest's, which stands still while the guest does, so nothing here is ever put on an
operation: it dates what the host alone knows of, a fence and a power loss.
"""

from __future__ import annotations

from jepsen_blk import clock

_RATES_APART = 100
"""No two clocks go apart by more than one part in so many."""


class HistoryClock:
    """Keeps the newest time that is known; `newest_ns` is 0 before the first."""

    def __init__(self) -> None:
        self.newest_ns = 0
        self._at_ns = 0

    def note(self, time_ns: int) -> None:
        """Note what it showed a moment ago."""
        if time_ns >= self.newest_ns:
            self.newest_ns, self._at_ns = time_ns, clock.monotonic_ns()

    def now_ns(self) -> int:
        """Return about what it shows; later than every time noted."""
        return self.newest_ns + max(1, clock.monotonic_ns() - self._at_ns)

    def latest_ns(self, shown_ns: int, since_ns: int) -> int:
        """Return the most that it can show now, if it showed `shown_ns` at the host's `since_ns` or later."""
        elapsed_ns = clock.monotonic_ns() - since_ns
        return max(self.newest_ns, shown_ns + elapsed_ns + elapsed_ns // _RATES_APART)
