"""The clock that a test goes by: the machine's monotonic one, or that of a simulation.

Whatever dates an event or waits for one asks here, so that the same code runs in either time. Work that takes
a processor's time takes none in a simulation.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_SIMULATED: ContextVar[Callable[[], int] | None] = ContextVar("simulated", default=None)


def monotonic_ns() -> int:
    """Return the time in ns."""
    simulated = _SIMULATED.get()
    return time.monotonic_ns() if simulated is None else simulated()


def monotonic() -> float:
    """Return the time in s."""
    return monotonic_ns() / 1e9


def thread_time() -> float:
    """Return the processor time of this thread in s, which stands still in a simulation."""
    return time.thread_time() if _SIMULATED.get() is None else 0.0


def is_simulated() -> bool:
    """Tell whether this is the time of a simulation."""
    return _SIMULATED.get() is not None


@contextlib.contextmanager
def simulated(clock: Callable[[], int]) -> Iterator[None]:
    """Let the block, and what it starts, go by another clock, in ns."""
    token = _SIMULATED.set(clock)
    try:
        yield
    finally:
        _SIMULATED.reset(token)
