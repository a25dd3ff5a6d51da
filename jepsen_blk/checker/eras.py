"""A history with power losses, cut into eras: between two crashes every block is an atomic register again.

What an era begins with is not the initial value but whatever survived the crash, so the eras are histories
of their own, and the survivor is a write at the moment of the crash. Definitions, c being a crash:

- A crash is a moment of which only bounds may be known, e <= c <= u. An operation with start <= u and
  e <= finish may have been under way at c, and counts as if it was (equal stamps are concurrent, as
  everywhere). A read under way at a crash is no evidence, but for its value. A write under way at a crash,
  or indeterminate and not closed before it, may take effect in any era that it touches, once, and is
  optional in each: what was acknowledged after a crash may have been lost by it.
- The home of a write is the era in which it took effect: the first in which it was seen, but no later than
  the last it touches. Nothing is lost by the choice: had it taken effect earlier and survived, it would
  stand before everything else in its home, and that is one of the places that its home leaves it.
- A value read in an era after its home is old: it must be what the era began with. So all old values that
  are read in one era are one value v, and v was there in every era since its home. Two old values in one
  era, or another one in an era between, is a clash.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from jepsen_blk.checker.effect import closing_times
from jepsen_blk.checker.findings import Findings
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import INITIAL, PENDING, Crash, F, History, Int64s, Outcome
from jepsen_blk.history.rows import select

NONE = -1


@dataclass(frozen=True, slots=True)
class Era:
    """What took effect or was read between two crashes, as a history without crashes.

    `begin_ns` is the earliest time of the crash before it (-1: none), `end_ns` that of the crash after it
    (PENDING: none). `blocks`, `values` and `reads`, all (n,): in which block which value must have survived
    the crash after the era, and the row of the whole history that read it later.
    """

    history: History
    begin_ns: int
    end_ns: int
    blocks: Int64s
    values: Int64s
    reads: Int64s


@dataclass(frozen=True, slots=True)
class Eras:
    """All eras in order, and the clashes, (n, 2): rows of reads that cannot both have seen a survivor.

    `first_seen`: of each value whose write touches several eras the row of the read that settled its home.
    """

    eras: tuple[Era, ...]
    clashes: Int64s
    first_seen: dict[int, int]


@dataclass(frozen=True, slots=True)
class _Crashes:
    """The crashes in order: number k was no earlier than `earliest[k]` and no later than `latest[k]`, in ns.

    Each is sorted for itself: the k-th of several crashes is within the k-th of either bounds.
    """

    earliest: Int64s
    latest: Int64s

    @classmethod
    def of(cls, history: History) -> _Crashes:
        once = set(history.crashes)
        return cls(
            np.sort(np.array([crash.time_ns for crash in once], dtype=np.int64)),
            np.sort(np.array([crash.until_ns for crash in once], dtype=np.int64)),
        )

    def first_era(self, starts: Int64s) -> Int64s:
        """Return the first era that what began then may touch: it is after the crashes that were over."""
        return np.searchsorted(self.latest, starts, side="left")

    def last_era(self, finishes: Int64s) -> Int64s:
        """Return the last era that what ended then may touch."""
        return np.searchsorted(self.earliest, finishes, side="right")


@dataclass(frozen=True, slots=True)
class _Writes:
    """The writes that can be seen, by value; the last element stands for the initial value.

    Shapes: (writes + 1,). `closed` is the finish, or the closing time of an indeterminate one, `last` the
    last era that it touches, `only`: it touches no other.
    """

    rows: Int64s
    values: Int64s
    closed: Int64s
    last: Int64s
    only: npt.NDArray[np.bool_]

    def of(self, values: Int64s) -> Int64s:
        """Return the places of these values, which are all there."""
        return np.where(values == INITIAL, len(self.rows) - 1, np.searchsorted(self.values[:-1], values))


@dataclass(frozen=True, slots=True)
class _Reads:
    """The reads that are evidence: their rows, writes (places), blocks (places) and eras, by finish."""

    rows: Int64s
    writes: Int64s
    blocks: Int64s
    eras: Int64s

    def part(self, chosen: npt.NDArray[np.generic]) -> _Reads:
        return _Reads(self.rows[chosen], self.writes[chosen], self.blocks[chosen], self.eras[chosen])


@dataclass(frozen=True, slots=True)
class _Survivors:
    """What each block holds at a crash, as far as reads tell: places of writes, rows of reads, (blocks,)."""

    writes: Int64s
    reads: Int64s

    @classmethod
    def nowhere(cls, blocks: int) -> _Survivors:
        return cls(np.full(blocks, NONE, dtype=np.int64), np.full(blocks, NONE, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class _Later:
    """Reads of a later era that prove writes of this one: rows, and the times of those writes, in ns."""

    reads: Int64s
    starts: Int64s
    finishes: Int64s


def split_at_crashes(history: History, findings: Findings, deadline: Deadline) -> Eras:
    """Cut a history at its crashes; `findings` are those of the whole, whose bad reads are left out."""
    crashes = _Crashes.of(history)
    bounds = [NONE, *crashes.earliest.tolist(), PENDING]
    blocks = np.unique(history.block)
    judged = ~np.isin(history.value, history.value[findings.twice])
    for bad in findings.bad_reads.values():
        judged[bad] = False
    writes = _writes(history, judged, crashes, deadline)
    reads = _reads(history, judged, crashes, writes, blocks)
    seen = np.full(len(writes.rows), len(bounds), dtype=np.int64)
    np.minimum.at(seen, reads.writes, reads.eras)
    home = np.minimum(seen, writes.last)
    counted = writes.only | (seen < len(bounds))  # one cut off and never seen need not have happened
    eras: list[Era] = []
    clashes: list[Int64s] = []
    after = _Survivors.nowhere(len(blocks))
    for era in range(len(crashes.earliest), -1, -1):
        own = reads.part(reads.eras == era)
        after, before, clash = _survivors(own.part(home[own.writes] < era), after, home, era)
        clashes.append(clash)
        must = np.flatnonzero(after.writes != NONE)
        begun = before.writes[before.writes != NONE]
        part = _part(
            history,
            np.append(writes.rows[counted & (home == era)], np.setdiff1d(own.rows, clash[:, 1])),
            writes.rows[begun[writes.values[begun] != INITIAL]],
            bounds[era],
            _seen_later(history, writes, own, after.writes[must], after.reads[must], home, era),
        )
        values = writes.values[after.writes[must]]
        eras.append(Era(part, bounds[era], bounds[era + 1], blocks[must], values, after.reads[must]))
        after = before
    return Eras(tuple(reversed(eras)), np.concatenate(clashes), _first_seen(history, crashes, writes, reads))


def _writes(
    history: History, judged: npt.NDArray[np.bool_], crashes: _Crashes, deadline: Deadline
) -> _Writes:
    rows = np.flatnonzero(judged & (history.f == F.WRITE) & (history.outcome != Outcome.FAIL))
    rows = rows[np.argsort(history.value[rows])]
    closed = history.finish[rows]
    opened = np.flatnonzero(history.outcome[rows] == Outcome.INFO)
    closed[opened] = closing_times(history, rows[opened], deadline)
    last = crashes.last_era(closed)
    only = crashes.first_era(history.start[rows]) == last
    return _Writes(
        rows=np.append(rows, NONE),
        values=np.append(history.value[rows], INITIAL),
        closed=np.append(closed, NONE),
        last=np.append(last, NONE),
        only=np.append(only, False),
    )


def _reads(
    history: History, judged: npt.NDArray[np.bool_], crashes: _Crashes, writes: _Writes, blocks: Int64s
) -> _Reads:
    rows = np.flatnonzero(judged & (history.f == F.READ) & (history.outcome == Outcome.OK))
    eras = crashes.first_era(history.start[rows])
    within = eras == crashes.last_era(history.finish[rows])
    rows, eras = rows[within], eras[within]
    order = np.argsort(history.finish[rows], kind="stable")
    rows, eras = rows[order], eras[order]
    return _Reads(rows, writes.of(history.value[rows]), np.searchsorted(blocks, history.block[rows]), eras)


def _first_seen(history: History, crashes: _Crashes, writes: _Writes, reads: _Reads) -> dict[int, int]:
    seen, first = np.unique(reads.writes, return_index=True)
    begun = crashes.first_era(history.start[writes.rows[seen]])
    several = (begun < writes.last[seen]) & (writes.rows[seen] != NONE)
    rows = reads.rows[first[several]]
    return dict(zip(history.value[rows].tolist(), rows.tolist(), strict=True))


def _survivors(
    old: _Reads, after: _Survivors, home: Int64s, era: int
) -> tuple[_Survivors, _Survivors, Int64s]:
    """Return what survives the era, what it began with, and its clashes (n, 2).

    `old` are its reads of old values, `after` what the later eras need, of which a clash takes its block out.
    """
    own = _Survivors.nowhere(len(after.writes))
    places, first = np.unique(old.blocks, return_index=True)
    own.writes[places], own.reads[places] = old.writes[first], old.rows[first]
    odd = old.part(old.writes != own.writes[old.blocks])
    older = (after.writes != NONE) & (home[after.writes] < era)
    torn = older & (own.writes != NONE) & (own.writes != after.writes)
    clash = np.concatenate(
        [
            np.stack([own.reads[odd.blocks], odd.rows], axis=1),
            np.stack([own.reads[torn], after.reads[torn]], axis=1),
        ]
    )
    before = _Survivors(
        np.where(older & ~torn, after.writes, own.writes), np.where(older & ~torn, after.reads, own.reads)
    )
    kept = _Survivors(np.where(torn, NONE, after.writes), after.reads)
    return kept, before, clash


def _seen_later(
    history: History, writes: _Writes, own: _Reads, must: Int64s, reads: Int64s, home: Int64s, era: int
) -> _Later:
    """Return what stands for the later reads of indeterminate writes that took effect unseen in this era."""
    unseen = (home[must] == era) & ~np.isin(must, own.writes)
    unseen &= history.outcome[writes.rows[must]] == Outcome.INFO
    place = must[unseen]
    return _Later(reads[unseen], history.start[writes.rows[place]], writes.closed[place])


def _part(history: History, rows: Int64s, begun: Int64s, begin_ns: int, later: _Later) -> History:
    """Return the era's own `rows`, then the survivors it began with, then the later reads."""
    every = np.concatenate([rows, begun, later.reads])
    part = select(history, every)
    survived = slice(len(rows), len(rows) + len(begun))
    part.outcome[survived] = Outcome.OK
    part.start[survived] = part.finish[survived] = begin_ns
    part.start[survived.stop :] = later.starts
    part.finish[survived.stop :] = later.finishes
    return replace(part, crashes=() if begin_ns == NONE else (Crash(begin_ns, begin_ns),))
