"""The counts of a history that results show, so that they can be had without holding it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jepsen_blk.history.record import PENDING, F, History, Outcome


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers of operations: all, by kind, indeterminate, completed; `looked` are the completed reads.

    `first_ns` is the first start (PENDING without operations), `last_ns` the last finish of what was
    completed.
    """

    ops: int = 0
    reads: int = 0
    writes: int = 0
    info: int = 0
    done: int = 0
    looked: int = 0
    first_ns: int = PENDING
    last_ns: int = 0

    @classmethod
    def of(cls, history: History) -> Tally:
        """Count the operations of a history."""
        read, done = history.f == F.READ, history.outcome == Outcome.OK
        return cls(
            ops=len(history),
            reads=int(np.count_nonzero(read)),
            writes=int(np.count_nonzero(history.f == F.WRITE)),
            info=int(np.count_nonzero(history.outcome == Outcome.INFO)),
            done=int(np.count_nonzero(done)),
            looked=int(np.count_nonzero(read & done)),
            first_ns=int(history.start.min(initial=PENDING)),
            last_ns=int(history.finish[done].max(initial=0)),
        )

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            ops=self.ops + other.ops,
            reads=self.reads + other.reads,
            writes=self.writes + other.writes,
            info=self.info + other.info,
            done=self.done + other.done,
            looked=self.looked + other.looked,
            first_ns=min(self.first_ns, other.first_ns),
            last_ns=max(self.last_ns, other.last_ns),
        )
