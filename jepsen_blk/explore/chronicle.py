"""The history of one interleaving, as the checker of the project takes it in.

It hears what the register hears, and keeps it in rows. Times are counted: nothing has the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jepsen_blk.checker.verdict import Result, check
from jepsen_blk.explore.case import BLOCK
from jepsen_blk.explore.register import INITIAL
from jepsen_blk.history.record import PENDING, F, Fence, History, Outcome
from jepsen_blk.stamp import SEQUENCE_BITS


@dataclass(slots=True)
class _Row:
    """An operation; `name` is that of its value."""

    f: F
    name: int
    start: int
    finish: int = PENDING
    outcome: Outcome = Outcome.INFO


class Chronicle:
    """Takes in what the guest does and sees; `values` are the stamped values of the three writes."""

    def __init__(self, values: dict[int, int]) -> None:
        self.values_read: list[int] = []
        self.issued_last = INITIAL
        self._values = values
        self._rows: list[_Row] = []
        self._fences: list[Fence] = []
        self._lost: set[int] = set()
        self._now = 0
        self.issued(INITIAL)
        self.told(INITIAL)

    def issued(self, value: int) -> None:
        """The guest issues the write of `value`."""
        self._rows.append(_Row(F.WRITE, value, self._tick()))
        self.issued_last = value

    def told(self, value: int) -> None:
        """The guest is told that the write of `value` is done."""
        self._end(value, Outcome.OK)

    def failed(self, value: int) -> None:
        """The guest is told of an error of the write of `value`."""
        self._end(value, Outcome.INFO)

    def fenced(self, value: int) -> None:
        """The boot of `value` is given up: what it has not reported of its writes is lost."""
        boot = self._values[value] >> SEQUENCE_BITS
        self._fences.append(Fence(self._tick(), boot))
        self._lost.add(boot)
        self._rows = [row for row in self._rows if row.finish != PENDING]

    def read(self, value: int) -> None:
        """The guest reads `value`."""
        start = self._tick()
        self._rows.append(_Row(F.READ, value, start, self._tick(), Outcome.OK))
        self.values_read.append(value)

    def judge(self, without: frozenset[int] = frozenset()) -> Result:
        """Return what the checker says, without the reads of these numbers."""
        reads = [row for row in self._rows if row.f is F.READ]
        left_out = {id(reads[number]) for number in without}
        return check(self._history([row for row in self._rows if id(row) not in left_out]))

    @property
    def reads(self) -> int:
        """How many reads there were."""
        return len(self.values_read)

    def _end(self, value: int, outcome: Outcome) -> None:
        for row in self._rows:
            if (row.f, row.name) == (F.WRITE, value):
                row.finish, row.outcome = self._tick(), outcome

    def _history(self, rows: list[_Row]) -> History:
        rows = sorted(rows, key=lambda row: row.finish)
        values = [self._values[row.name] for row in rows]
        return History(
            f=np.array([row.f for row in rows], np.uint8),
            outcome=np.array([row.outcome for row in rows], np.uint8),
            process=np.zeros(len(rows), np.int32),
            # A read is of the boot that reads, which changes nothing: all is on one clock.
            boot=np.array([value >> SEQUENCE_BITS for value in values], np.int32),
            block=np.full(len(rows), BLOCK, np.int64),
            value=np.array(values, np.int64),
            start=np.array([row.start for row in rows], np.int64),
            finish=np.array([row.finish for row in rows], np.int64),
            fences=tuple(self._fences),
            lost_tails=frozenset(self._lost),
        )

    def _tick(self) -> int:
        self._now += 1000
        return self._now
