"""Which engine checks: numpy, or machine code where the history is long enough to repay it.

Both find exactly the same (tests/test_engines.py, tests/test_online.py), so the choice is one of time alone
and no option of the command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from jepsen_blk.checker import registers
from jepsen_blk.checker.findings import Findings
from jepsen_blk.checker.online import Alarm
from jepsen_blk.checker.windows import WindowChecker
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import Fence, History, Int64s

LEAST_OPS = 5_000_000
"""numba takes 0.4 s to import and to load its code from the cache, and then saves 0.1 s a million operations.
Compiling takes 5 s more, once an installation."""


class Windows(Protocol):
    """An online check in windows, for one history under one deadline; see online.py."""

    def __init__(
        self, deadline: Deadline, fences: Iterable[Fence] = (), open_boots: Iterable[int] = ()
    ) -> None:
        """Begin; the arguments are those of OnlineChecker."""

    @property
    def ops(self) -> int:
        """Number of operations taken in."""

    @property
    def alarms(self) -> Sequence[Alarm]:
        """What was found so far."""

    @property
    def kept(self) -> int:
        """Number of clusters in memory."""

    @property
    def blocks(self) -> int:
        """Number of blocks with an acknowledged write or a completed read so far."""

    def awaits(self, values: Int64s) -> npt.NDArray[np.bool_]:
        """Tell which of these values were read and have no report of their write yet."""

    def fence(self, fence: Fence) -> None:
        """Close the indeterminate writes of the fence's boot; comes before any horizon that passes it."""

    def open_boot(self, boot: int) -> None:
        """From here on, values of this boot may be read before their writes are reported."""

    def end_boot(self, boot: int) -> None:
        """All writes of this boot have been reported: whatever else was read, nothing wrote."""

    def feed(self, rows: History, horizon_ns: int, in_flight: History | None = None) -> Sequence[Alarm]:
        """Take in a window and return what was found; after an alarm the verdict stands."""

    def feed_around(self, rows: History, horizon_ns: int, in_flight: History | None = None) -> Int64s:
        """Take in a window and return the blocks with an alarm; nothing of them may be fed any more."""


class Engine(Protocol):
    """A batch check of all blocks under one deadline; raises HistoryError as registers.py says."""

    def __call__(self, history: History, deadline: Deadline) -> Findings:
        """Return what contradicts an atomic register."""


def choose_windows(ops: int) -> type[Windows]:
    """Return numba's check in windows if so many operations repay it and it can be used, else numpy's."""
    if ops < LEAST_OPS:
        return WindowChecker
    try:
        from jepsen_blk.checker.compiled.online import CompiledChecker
    except (ImportError, RuntimeError):
        return WindowChecker
    return CompiledChecker


def choose_engine(history: History) -> Engine:
    """Return numba's engine if the history has LEAST_OPS operations and numba can be used, else numpy's."""
    if len(history) < LEAST_OPS:
        return registers.check_registers
    try:
        from jepsen_blk.checker.compiled.batch import check_registers
    except (ImportError, RuntimeError):  # not installed, of the wrong version, or nowhere to keep its cache
        return registers.check_registers
    return check_registers
