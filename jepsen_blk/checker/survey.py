"""The first pass over a history that does not fit in memory: what the windows must be promised.

A window is judged under a horizon: no later operation ends before it, and none begins before it but those
named as in flight. A file that lies there in full lets that be known exactly. What would hold the horizon
back for long is few, and kept apart:

- `early`: writes that are taken in before all windows, which is always allowed. They began long before the
  part that reports them, or were read in an earlier part, or were never reported (a lost tail).
- `held`: reads that began long before the part that reports them. Until then they are named as in flight, so
  that only their own blocks wait for them.

What counts as long is a guess that concerns memory alone: the horizon after a part is the least start of all
that comes later and is in neither of them, whatever they hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jepsen_blk.checker.index import Index, distinct, index_numbers
from jepsen_blk.checker.lost_tail import adopted_writes, earliest_starts
from jepsen_blk.checker.tally import Tally
from jepsen_blk.checker.written import WrittenInBulk
from jepsen_blk.history.parts import Part, Parts
from jepsen_blk.history.record import PENDING, F, History, Int64s, Outcome
from jepsen_blk.history.rows import concatenate, merge_marks, select
from jepsen_blk.history.rules import repeated_write
from jepsen_blk.stamp import SEQUENCE_BITS

MOST_LATE = 1 << 17
"""Rows that are kept apart at most because they are late."""
_NONE = np.empty(0, dtype=np.int64)
_NO_ROWS = adopted_writes(_NONE, _NONE, _NONE)


@dataclass(frozen=True, slots=True)
class Survey:
    """What the whole of a history says; `marks` has no rows, but all fences, crashes, clocks and lost tails.

    `horizons` (parts,) in ns: when what is in later parts begins at the earliest, under every error of the
    clocks. `held_in` (held,): the part that has each held read. `blocks` are those that were written or read.
    `twice` are the values that several writes have, `again` the first row of the file that writes one again,
    as its value and line. `adopted` are those of `early` that stand in no file.
    """

    marks: History
    doubts: tuple[str, ...]
    tally: Tally
    blocks: Index
    written: WrittenInBulk
    horizons: Int64s
    early: History
    adopted: History
    held: History
    held_in: Int64s
    twice: Int64s
    again: tuple[int, int] | None


def survey(parts: Parts, most_late: int = MOST_LATE) -> Survey:
    """Read a history once, or twice if reads saw what a lost tail wrote; raises what reading it raises."""
    surveyor = _Surveyor(most_late)
    for part in parts():
        surveyor.take(part)
    values, blocks = surveyor.unreported()
    adopted = _NO_ROWS
    if len(values):
        starts = earliest_starts((part.history for part in parts()), values)
        adopted = adopted_writes(values, blocks, starts)
    return surveyor.survey(adopted)


def telling(history: History) -> History:
    """Return the writes and the completed reads, which are all that windows look at."""
    tells = (history.f == F.WRITE) | ((history.f == F.READ) & (history.outcome == Outcome.OK))
    return history if tells.all() else select(history, np.flatnonzero(tells))


class _Surveyor:
    """Takes in the parts of a history one by one."""

    def __init__(self, most_late: int) -> None:
        self._marks = _NO_ROWS
        self._doubts: tuple[str, ...] = ()
        self._tally = Tally()
        self._blocks = _NONE
        self._values = _Values()
        self._late = _Late(most_late)

    def take(self, part: Part) -> None:
        """Take in the next part."""
        history = part.history
        self._marks = merge_marks(self._marks, history)
        self._doubts += part.doubts
        self._tally += Tally.of(history)
        rows = telling(history)
        blocks = distinct(rows.block)
        self._blocks = np.union1d(self._blocks, blocks[~np.isin(blocks, self._blocks, assume_unique=True)])
        self._values.take(rows)
        self._late.take(rows)

    def unreported(self) -> tuple[Int64s, Int64s]:
        """Return the values that only a lost tail can have written, ascending, and their blocks."""
        awaited = self._values.awaited
        sequence = awaited.value & ((1 << SEQUENCE_BITS) - 1)
        lost = np.isin(awaited.value >> SEQUENCE_BITS, list(self._marks.lost_tails)) & (sequence > 0)
        return awaited.value[lost], awaited.block[lost]

    def survey(self, adopted: History) -> Survey:
        """Return what was found, with these writes of lost tails."""
        twice = self._values.twice
        late = self._late.rows
        once = ~np.isin(late.value, twice)
        held = np.flatnonzero(once & (late.f == F.READ))
        long = select(late, np.flatnonzero(once & (late.f == F.WRITE)))
        awaited = self._values.early
        awaited = select(awaited, np.flatnonzero(~np.isin(awaited.value, np.append(long.value, twice))))
        uncertain_ns = max((clock.uncertainty_ns for clock in self._marks.clocks), default=0)
        return Survey(
            marks=self._marks,
            doubts=self._doubts,
            tally=self._tally,
            blocks=index_numbers(self._blocks),
            written=self._values.written,
            horizons=self._late.horizons() - uncertain_ns,
            early=concatenate([long, awaited, adopted]),
            adopted=adopted,
            held=select(late, held),
            held_in=self._late.part[held],
            twice=twice,
            again=self._values.again,
        )


class _Values:
    """Which values are written where in the file: again, after they were read, or never."""

    def __init__(self) -> None:
        self.written = WrittenInBulk()
        self.twice = _NONE
        self.again: tuple[int, int] | None = None
        self.early = _NO_ROWS
        self.awaited = _NO_ROWS
        """The first read of each value that is not written yet, by value."""

    def take(self, rows: History) -> None:
        writes = np.flatnonzero(rows.f == F.WRITE)
        value = rows.value[writes]
        known = self.written.contain(value)
        self._note_again(rows, writes[known])
        fresh = distinct(value[~known])
        self.written.add_all(fresh)
        if len(self.awaited):
            came = np.isin(value, self.awaited.value)
            self.early = concatenate([self.early, select(rows, writes[came])])
            left = ~np.isin(self.awaited.value, value[came])
            self.awaited = select(self.awaited, np.flatnonzero(left))
        reads = np.flatnonzero((rows.f == F.READ) & (rows.value > 0))
        unknown = reads[~self.written.contain(rows.value[reads])]
        if len(unknown):
            both = concatenate([self.awaited, select(rows, unknown)])
            self.awaited = select(both, np.unique(both.value, return_index=True)[1])

    def _note_again(self, rows: History, known: Int64s) -> None:
        """Note the values of these writes, which earlier parts have too, and what this part has twice."""
        within = repeated_write(rows.f, rows.value)
        if within is None and not len(known):
            return
        value, count = np.unique(rows.value[rows.f == F.WRITE], return_counts=True)
        self.twice = np.unique(np.concatenate([self.twice, value[count > 1], rows.value[known]]))
        if self.again is None and rows.line is not None:
            first = min([*known[:1].tolist(), *(within or ())[:1]])
            self.again = int(rows.value[first]), int(rows.line[first])


class _Late:
    """The least start of what each part has, and rows kept apart because they began long before their part.

    A part's time is the median finish of the part before it. What began before that by more than a lag is
    late; when that becomes too many, the lag is raised until half of them are not.
    """

    def __init__(self, most: int) -> None:
        self.rows = _NO_ROWS
        self.part = _NONE
        self._lateness = _NONE
        self._most = most
        self._lag_ns = 0
        self._time_ns = 0
        self._least: list[int] = []

    def take(self, rows: History) -> None:
        lateness = self._time_ns - rows.start
        late = lateness > self._lag_ns
        self._least.append(int(rows.start.min(initial=PENDING, where=~late)))
        if late.any():
            apart = np.flatnonzero(late)
            self.rows = concatenate([self.rows, select(rows, apart)])
            self.part = np.append(self.part, np.full(len(apart), len(self._least) - 1))
            self._lateness = np.append(self._lateness, lateness[apart])
        while len(self.rows) > self._most:
            self._raise_lag()
        done = rows.finish[rows.finish != PENDING]
        if len(done):
            self._time_ns = int(np.median(done))

    def _raise_lag(self) -> None:
        self._lag_ns = int(np.median(self._lateness))
        late = self._lateness > self._lag_ns
        least = np.array(self._least, dtype=np.int64)
        np.minimum.at(least, self.part[~late], self.rows.start[~late])
        self._least = least.tolist()
        left = np.flatnonzero(late)
        self.rows, self.part = select(self.rows, left), self.part[left]
        self._lateness = self._lateness[left]

    def horizons(self) -> Int64s:
        """Return after each part the least start of what is in later parts and was not kept apart."""
        later = np.array([*self._least[1:], PENDING], dtype=np.int64)
        return np.minimum.accumulate(later[::-1])[::-1]
