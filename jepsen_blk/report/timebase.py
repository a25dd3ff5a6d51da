"""Joins the guest's clock to the host's, so that one picture can show both.

The guest's monotonic clock stands still while its processors are stopped, so host minus guest is
constant between two stops and rises at each. Every write that the storage logged once bounds it: the
storage received it after the guest's start and was done before the guest's finish, hence

    done - finish  <=  offset  <=  received - start

Anchors are walked in guest order; when one cannot share the offset of those before it, and the next
ones agree with it, the guest was stopped in between. A lone disagreeing anchor is ignored.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jepsen_blk.history.record import PENDING, F, History, Int64s, Outcome
from jepsen_blk.report.target_log import TargetLog

_AGREEING = 3
"""So many anchors in a row must agree on a new offset before it is believed."""


@dataclass(frozen=True, slots=True)
class Segment:
    """From `guest_ns` on, host time is guest time + `offset_ns`."""

    guest_ns: int
    offset_ns: int


@dataclass(frozen=True, slots=True)
class Timebase:
    """A monotone piecewise map of guest to host time, per boot; `aligned` is False when it is a guess."""

    boots: dict[int, tuple[Segment, ...]]
    aligned: bool

    def host(self, guest_ns: int, boot: int = 0) -> int:
        """Map one guest time of a boot to host time, in ns."""
        return int(self.hosts(np.array([guest_ns], dtype=np.int64), boot)[0])

    def hosts(self, guest_ns: Int64s, boot: int = 0) -> Int64s:
        """Map guest times (n,) of a boot to host times (n,), in ns."""
        segments = self.boots.get(boot, ())
        if not segments:
            return guest_ns
        starts = np.array([segment.guest_ns for segment in segments], dtype=np.int64)
        offsets = np.array([segment.offset_ns for segment in segments], dtype=np.int64)
        index = np.maximum(np.searchsorted(starts, guest_ns, side="right") - 1, 0)
        # A clock that drifts may give a later segment a smaller offset: never step back over its start.
        floor = np.full(len(starts), np.iinfo(np.int64).min, dtype=np.int64)
        floor[1:] = np.maximum.accumulate(starts[1:] + offsets[:-1])
        return np.asarray(np.maximum(guest_ns + offsets[index], floor[index]), dtype=np.int64)


@dataclass(slots=True)
class _Run:
    """Anchors in a row that can share one offset."""

    low: int
    high: int
    middles: list[float]
    first_start: int

    def admits(self, low: int, high: int) -> bool:
        return low <= self.high and high >= self.low

    def add(self, low: int, high: int) -> None:
        self.low, self.high = max(self.low, low), min(self.high, high)
        self.middles.append((low + high) / 2)

    @property
    def offset(self) -> int:
        return int(min(max(float(np.median(self.middles)), self.low), self.high))


def fit_timebase(history: History, log: TargetLog | None, stops: Sequence[int] = ()) -> Timebase:
    """Fit the map from the writes that both the guest and the storage recorded.

    `stops` are host times at which the guest is known to have stopped; they place the boundary
    between two offsets exactly. Without a log, or with nothing in common, guest time is taken as
    host time and the result says that it is not aligned.
    """
    if log is None or len(log.value) == 0 or len(history) == 0:
        return Timebase({}, aligned=False)
    boots = {}
    for boot in np.unique(history.boot).tolist():
        low, high, start, finish = _anchors(history, log, boot)
        runs = _runs(low, high, start, stops_known=bool(stops))
        if not runs:
            continue
        segments = [Segment(np.iinfo(np.int64).min, runs[0].offset)]
        for before, after in itertools.pairwise(runs):
            # A start is before the stop if the write was received too early for the new offset; a finish
            # is after it if the write was done too late for the old one. Nothing else tells: a completion
            # that crossed the stop fits the old offset whenever the guest saw it.
            sent = start[high < after.low]
            earliest = int(sent.max()) if len(sent) else after.first_start
            seen = finish[(low > before.high) & (finish >= earliest)]
            latest = int(seen.min()) if len(seen) else max(earliest, after.first_start)
            segments.append(Segment(_boundary(before, earliest, latest, stops), after.offset))
        boots[boot] = tuple(segments)
    return Timebase(boots, aligned=bool(boots))


def _anchors(history: History, log: TargetLog, boot: int) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """Join by value; returns the bounds of the offset and the guest's start and finish, in guest order."""
    rows = np.flatnonzero(
        (history.f == F.WRITE)
        & (history.outcome == Outcome.OK)
        & (history.boot == boot)
        & (history.finish != PENDING)
        & np.isin(history.value, log.value)
    )
    order = np.argsort(log.value)
    place = order[np.searchsorted(log.value, history.value[rows], sorter=order)]
    start, finish = history.start[rows], history.finish[rows]
    low, high = log.done[place] - finish, log.received[place] - start
    keep = np.flatnonzero(low <= high)
    keep = keep[np.argsort(start[keep], kind="stable")]
    return low[keep], high[keep], start[keep], finish[keep]


def _runs(low: Int64s, high: Int64s, start: Int64s, stops_known: bool) -> list[_Run]:
    runs: list[_Run] = []
    rival: _Run | None = None
    for a, b, s in zip(low.tolist(), high.tolist(), start.tolist(), strict=True):
        if rival is not None and rival.admits(a, b):
            # A slack anchor that fits both says nothing about which holds.
            if not runs[-1].admits(a, b):
                rival.add(a, b)
        elif runs and runs[-1].admits(a, b):
            runs[-1].add(a, b)
            rival = None
        else:
            rival = _Run(a, b, [(a + b) / 2], s)
        if rival is not None and (not runs or len(rival.middles) >= _AGREEING):
            runs.append(rival)
            rival = None
    if rival is not None and stops_known and rival.low > runs[-1].high:
        runs.append(rival)
    return runs


def _boundary(before: _Run, earliest: int, latest: int, stops: Sequence[int]) -> int:
    """Place the stop: where it is known to within the offset's own uncertainty, else halfway."""
    slack = before.high - before.low
    for stop in stops:
        guest = stop - before.offset
        if earliest - slack <= guest <= latest + slack:
            return min(max(guest, earliest + 1), latest)
    return (earliest + latest + 1) // 2
