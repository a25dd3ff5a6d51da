"""When each block was last written and last read, as a history is read part by part.

A write that nothing read afterwards may be lost without a trace, so its block keeps a history from passing.
"""

from __future__ import annotations

import numpy as np

from jepsen_blk.checker.findings import NEVER
from jepsen_blk.history.record import F, History, Int64s, Outcome


class Ends:
    """Of each block, by number, the finish of the last acknowledged write and the start of the last read.

    NEVER stands for none. Memory: 16 bytes a block.
    """

    def __init__(self) -> None:
        self.acked = np.empty(0, dtype=np.int64)
        self.read = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.acked)

    @property
    def blocks(self) -> int:
        """Number of blocks with an acknowledged write or a completed read so far."""
        return int(np.count_nonzero((self.acked != NEVER) | (self.read != NEVER)))

    @property
    def unread(self) -> Int64s:
        """Blocks that were not read after their last acknowledged write."""
        return np.flatnonzero((self.acked != NEVER) & (self.read < self.acked))

    def grow(self, size: int) -> None:
        """Let there be at least so many blocks."""
        grown = np.full(max(0, size - len(self)), NEVER, dtype=np.int64)
        self.acked = np.append(self.acked, grown)
        self.read = np.append(self.read, grown)

    def note(self, rows: History) -> None:
        """Take note of what these rows report."""
        self.grow(1 + int(rows.block.max(initial=0)))
        done = rows.outcome == Outcome.OK
        acked = np.flatnonzero(done & (rows.f == F.WRITE))
        read = np.flatnonzero(done & (rows.f == F.READ))
        np.maximum.at(self.acked, rows.block[acked], rows.finish[acked])
        np.maximum.at(self.read, rows.block[read], rows.start[read])
