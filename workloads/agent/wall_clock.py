"""The guest's wall clock, which a fault sets.

It is told as what it is ahead of the monotonic clock, which nobody can set and the history is of: so it is
set to the same however often and however late a command comes.
"""

from time import CLOCK_REALTIME, clock_settime_ns, monotonic_ns, time_ns


def wall_ahead_ns() -> int:
    """Return how far the wall clock is ahead of the monotonic one."""
    return time_ns() - monotonic_ns()


def set_wall_ahead(ahead_ns: int) -> None:
    """Set the wall clock; raises OSError where the agent may not."""
    clock_settime_ns(CLOCK_REALTIME, monotonic_ns() + ahead_ns)
