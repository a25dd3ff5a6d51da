"""Chart data of bounded size from a history of any length: the worst operations are never lost.

A page that shows ten thousand points must not hide the one that took three seconds, so each
stretch of the history keeps its slowest and its fastest operation, per kind. Only numpy reductions
touch the whole history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jepsen_blk.history.record import PENDING, F, History, Int64s, Outcome

MAX_POINTS = 20_000
_MAX_INDETERMINATE = 2_000
_RATE_BINS = 240
_CHUNK = 1 << 22

Floats = npt.NDArray[np.float64]
ToMs = Callable[[Int64s, int], Floats]
"""Maps guest times (n,) of a boot to milliseconds since the run's origin (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Operations to plot: completion times and latencies in ms, (n,) each."""

    name: str
    time_ms: Floats
    latency_ms: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """What the charts show: points per kind, and completed operations per second from each bin's begin on."""

    points: tuple[Points, ...]
    rate_time_ms: Floats
    rate_per_s: Floats

    @property
    def max_ms(self) -> float:
        """The longest latency shown."""
        return max((float(p.latency_ms.max()) for p in self.points if len(p.latency_ms)), default=0.0)


def make_series(history: History, to_ms: ToMs) -> Series:
    """Reduce a history to at most MAX_POINTS points and a throughput line."""
    budget = (MAX_POINTS - _MAX_INDETERMINATE) // 2
    reads = _extremes(history, F.READ, budget)
    writes = _extremes(history, F.WRITE, budget)
    unknown = _first_rows(history, Outcome.INFO, _MAX_INDETERMINATE)
    names = ("read", "write", "indeterminate")
    points = tuple(
        Points(name, _times(history, rows, to_ms), _latencies(history, rows))
        for name, rows in zip(names, (reads, writes, unknown), strict=True)
    )
    time_ms, per_s = _rate(history, to_ms)
    return Series(points, time_ms, per_s)


def _extremes(history: History, f: F, budget: int) -> Int64s:
    """Return the rows of the slowest and fastest completed operation of each stretch."""
    n = len(history)
    stretches = max(1, min(budget // 2, n))
    edges = np.linspace(0, n, stretches + 1).astype(np.int64)
    kept: list[int] = []
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        rows = slice(begin, end)
        take = np.flatnonzero(
            (history.f[rows] == f) & (history.outcome[rows] == Outcome.OK) & (history.finish[rows] != PENDING)
        )
        if len(take):
            latency = history.finish[rows][take] - history.start[rows][take]
            kept.append(begin + int(take[np.argmax(latency)]))
            kept.append(begin + int(take[np.argmin(latency)]))
    return np.unique(np.array(kept, dtype=np.int64))


def _first_rows(history: History, outcome: Outcome, limit: int) -> Int64s:
    found: list[Int64s] = []
    count = 0
    for begin in range(0, len(history), _CHUNK):
        rows = np.flatnonzero(history.outcome[begin : begin + _CHUNK] == outcome) + begin
        found.append(rows[: limit - count].astype(np.int64))
        count += len(found[-1])
        if count >= limit:
            break
    rows = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    return np.asarray(rows[history.finish[rows] != PENDING], dtype=np.int64)


def _latencies(history: History, rows: Int64s) -> Floats:
    return np.asarray((history.finish[rows] - history.start[rows]) / 1e6, dtype=np.float64)


def _times(history: History, rows: Int64s, to_ms: ToMs) -> Floats:
    result = np.zeros(len(rows), dtype=np.float64)
    boots = history.boot[rows]
    for boot in np.unique(boots).tolist():
        mine = boots == boot
        result[mine] = to_ms(history.finish[rows[mine]], boot)
    return result


def _rate(history: History, to_ms: ToMs) -> tuple[Floats, Floats]:
    """Count completions in equal bins of guest time; a stop of the guest widens its bin, as it should."""
    times: list[Floats] = []
    rates: list[Floats] = []
    for boot in np.unique(history.boot).tolist() if len(history) else []:
        low, high = _span(history, boot)
        if high <= low:
            continue
        edges = np.linspace(low, high, _RATE_BINS + 1).astype(np.int64)
        counts = np.zeros(_RATE_BINS, dtype=np.int64)
        for begin in range(0, len(history), _CHUNK):
            rows = slice(begin, begin + _CHUNK)
            mine = (history.boot[rows] == boot) & (history.finish[rows] != PENDING)
            counts += np.histogram(history.finish[rows][mine], bins=edges)[0]
        edges_ms = to_ms(edges, boot)
        width_s = np.maximum(np.diff(edges_ms) / 1e3, 1e-9)
        times.append(edges_ms[:-1])
        rates.append(counts / width_s)
    if not times:
        return np.zeros(0), np.zeros(0)
    return np.concatenate(times), np.concatenate(rates)


def _span(history: History, boot: int) -> tuple[int, int]:
    low, high = PENDING, 0
    for begin in range(0, len(history), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        mine = (history.boot[rows] == boot) & (history.finish[rows] != PENDING)
        if mine.any():
            low = min(low, int(history.start[rows][mine].min()))
            high = max(high, int(history.finish[rows][mine].max()))
    return low, high
