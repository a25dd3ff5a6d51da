"""Which engine runs the batch check: numpy, or machine code where the history is long enough to repay it.

Both find exactly the same (tests/test_engines.py), so the choice is one of time alone and no option of
the command line.
"""

from __future__ import annotations

from typing import Protocol

from jepsen_blk.checker import registers
from jepsen_blk.checker.findings import Findings
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import History

LEAST_OPS = 5_000_000
"""numba takes 0.4 s to import and to load its code from the cache, and then saves 0.1 s a million operations.
Compiling takes 5 s more, once an installation."""


class Engine(Protocol):
    """A batch check of all blocks under one deadline; raises HistoryError as registers.py says."""

    def __call__(self, history: History, deadline: Deadline) -> Findings:
        """Return what contradicts an atomic register."""


def choose_engine(history: History) -> Engine:
    """Return numba's engine if the history has LEAST_OPS operations and numba can be used, else numpy's."""
    if len(history) < LEAST_OPS:
        return registers.check_registers
    try:
        from jepsen_blk.checker.compiled import check_registers
    except (ImportError, RuntimeError):  # not installed, of the wrong version, or nowhere to keep its cache
        return registers.check_registers
    return check_registers
