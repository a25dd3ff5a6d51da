"""The row: one operation of a history, the same bytes on the wire, in the journal and in memory.

A history is columns, not objects: ten million operations must fit and be checked by numpy. The
agent packs each completed operation as 32 bytes (`ROW`); the journal stores those bytes as they
came; `History` holds them as columns together with the boot of each row.

Times are int64 nanoseconds on the clock of the row's boot. `finish == PENDING` means that the
operation never completed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt


class F(IntEnum):
    """What the operation was."""

    READ = 0
    WRITE = 1
    FLUSH = 2


class Outcome(IntEnum):
    """OK: it happened. FAIL: it certainly did not. INFO: unknown (error, time-out, dead guest)."""

    OK = 0
    FAIL = 1
    INFO = 2


INITIAL = 0
"""Value of a block that was never written (all zero bytes)."""
PHANTOM = -1
"""Value of a read that found bytes which are no stamp at all."""
TORN = -2
"""Value of a read that found two different stamps in one block."""
FOREIGN = -3
"""Value of a read that found a valid stamp of another run."""
PENDING = 2**63 - 1
"""Finish of an operation that never completed."""

ROW = np.dtype(
    [
        ("f", "u1"),
        ("outcome", "u1"),
        ("process", "<u2"),
        ("block", "<u4"),
        ("value", "<i8"),
        ("start", "<i8"),
        ("finish", "<i8"),
    ]
)
"""One operation, 32 bytes, packed by the agent as struct "<BBHIqqq"."""

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fence:
    """At `time_ns` the target confirmed that no earlier write of `boot` can take effect any more."""

    time_ns: int
    boot: int = 0


@dataclass(frozen=True, slots=True)
class Crash:
    """The storage lost power once, no earlier than `time_ns` and no later than `until_ns`."""

    time_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class Clock:
    """The times of operations of `boot` may be off by up to `uncertainty_ns`, either way."""

    boot: int
    uncertainty_ns: int


def _no_values() -> Int64s:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A whole history as columns of equal length; row i is line i of the interchange file.

    Shapes: every column is (n,). `line` maps a row to its line number where fences, crashes and clocks
    stand between operations (None: row i is line i). `lost_tails` names the boots whose last
    operations may be missing (a dead guest, a killed controller). `crashes` are the power losses of the
    storage, `fua` the values whose writes carried FUA (forced unit access), in any order;
    values and not a column, because few histories have any.
    """

    f: npt.NDArray[np.uint8]
    outcome: npt.NDArray[np.uint8]
    process: npt.NDArray[np.int32]
    boot: npt.NDArray[np.int32]
    block: npt.NDArray[np.int64]
    value: Int64s
    start: Int64s
    finish: Int64s
    fences: tuple[Fence, ...] = ()
    crashes: tuple[Crash, ...] = ()
    lost_tails: frozenset[int] = field(default_factory=frozenset)
    clocks: tuple[Clock, ...] = ()
    fua: Int64s = field(default_factory=_no_values)
    line: Int64s | None = None

    def __len__(self) -> int:
        return len(self.f)
