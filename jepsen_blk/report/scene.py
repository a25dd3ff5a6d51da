"""What every drawing of an anomaly shows: its operations in time, and the orders that contradict each other.

The terminal, the documentation's pictures and the exported files draw the same scene, so they cannot
tell different stories.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jepsen_blk.checker.classify import ZOMBIES
from jepsen_blk.checker.effect import closing_times
from jepsen_blk.checker.graph import history_graph, witness_rows
from jepsen_blk.checker.lost_tail import adopt_lost_tails
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import INITIAL, PENDING, F, History, Int64s, Outcome
from jepsen_blk.report.model import show_value

_MS = 1e6


@dataclass(frozen=True, slots=True)
class Bar:
    """One operation: `name` is its value for people, times in ms of the scene.

    `end_ms` of an indeterminate write is when its error or a fence closed it, None if nothing did. `tone`
    is old, new or plain; `bad` marks the read that cannot be explained.
    """

    line: int
    f: str
    process: int
    block: int
    name: str
    begin_ms: float
    end_ms: float | None
    outcome: str
    tone: str
    bad: bool

    @property
    def who(self) -> str:
        """Who asked for it, if that is known: of a write that a dead guest never reported it is not."""
        return f"process {self.process}" if self.process >= 0 else "unreported"

    @property
    def text(self) -> str:
        """What was asked for: write A, read, flush."""
        return f"{self.f} {self.name}" if self.f == "write" else self.f

    @property
    def answer(self) -> str:
        """What the guest was told."""
        if self.f == "read":
            return f"returned {self.name}"
        return {"ok": "acknowledged", "fail": "failed", "info": "may have happened or not"}[self.outcome]


@dataclass(frozen=True, slots=True)
class Order:
    """Operation `source` ended before `target` began (both lines), which `text` says with its consequence."""

    source: int
    target: int
    text: str


@dataclass(frozen=True, slots=True)
class Scene:
    """The operations in order of start, the fences and power losses among them as (ms, name), the orders."""

    block: int
    bars: tuple[Bar, ...]
    marks: tuple[tuple[float, str], ...]
    orders: tuple[Order, ...]

    @property
    def end_ms(self) -> float:
        """The last time of the scene."""
        ends = [bar.begin_ms if bar.end_ms is None else bar.end_ms for bar in self.bars]
        return max([*ends, *(time for time, _ in self.marks)])


def scene_of(
    history: History,
    anomaly: Mapping[str, Any],
    names: Mapping[int, str] | None = None,
    *,
    whole: bool = False,
) -> Scene:
    """Return the scene of an anomaly as results.json has it: its witness, or if `whole` the whole history.

    `names` are names of values; the others are shown by their numbers.
    """
    history = adopt_lost_tails(history)
    line = history.line if history.line is not None else np.arange(len(history), dtype=np.int64)
    rows = np.arange(len(history)) if whole else witness_rows(history, anomaly)
    rows = rows[np.argsort(history.start[rows], kind="stable")].tolist()
    graph = history_graph(history, anomaly)
    # Two survivors contradict each other, not an order: either alone might have been allowed.
    ordered = anomaly["kind"] != "split-survivor"
    edges = [(a, b) for a, b, data in graph.edges(data=True) if ordered and data["kind"] == "conflict"]
    return _Staging(history, line, rows, anomaly, names or {}).scene(edges)


class _Staging:
    """Turns rows into bars: who is old and new, and which read is the bad one, follows from the orders."""

    def __init__(
        self,
        history: History,
        line: Int64s,
        rows: list[int],
        anomaly: Mapping[str, Any],
        names: Mapping[int, str],
    ) -> None:
        self._history, self._rows, self._names = history, rows, names
        self._block, self._kind = int(anomaly["block"]), str(anomaly["kind"])
        self._row_of = {int(line[row]): row for row in rows}
        self._line_of = {row: number for number, row in self._row_of.items()}
        self._witness = [self._row_of[number] for number in anomaly["ops"] if number in self._row_of]
        self._origin = int(history.start[rows[0]]) if rows else 0
        self._finish = self._closed()

    def scene(self, edges: list[tuple[int, int]]) -> Scene:
        pairs = [(self._row_of[a], self._row_of[b]) for a, b in edges]
        bad = self._bad_read(pairs)
        older = None if bad is None else int(self._history.value[bad])
        if bad is not None and older == INITIAL:
            pairs = self._after_the_initial_value(bad)
        newer = {int(self._history.value[row]) for pair in pairs for row in pair} - {older}
        last = max((int(self._history.start[row]) for row in self._rows), default=0)
        return Scene(
            block=self._block,
            bars=tuple(self._bar(row, older, newer, row == bad) for row in self._rows),
            marks=tuple(
                (self._ms(t), word) for t, word in _marks(self._history) if self._origin <= t <= last
            ),
            orders=tuple(self._order(a, b) for a, b in pairs),
        )

    def _closed(self) -> dict[int, int]:
        """Return the finish of each row, in ns; an indeterminate write ends when it is closed."""
        history, rows = self._history, np.array(self._rows, dtype=np.int64)
        finish = dict(zip(self._rows, history.finish[rows].tolist(), strict=True))
        opened = rows[(history.f[rows] == F.WRITE) & (history.outcome[rows] == Outcome.INFO)]
        closing = closing_times(history, opened, Deadline.ERROR)
        return finish | dict(zip(opened.tolist(), closing.tolist(), strict=True))

    def _bad_read(self, pairs: list[tuple[int, int]]) -> int | None:
        """Return the read that the contradiction ends in, or the last read of a witness without one.

        Of a zombie it is the last read of the write that took effect late, which was not acknowledged.
        """
        history = self._history
        reads = [row for row in self._witness if history.f[row] == F.READ]
        if self._kind in ZOMBIES:
            writes = [row for row in self._witness if history.f[row] == F.WRITE]
            acked = {int(history.value[row]) for row in writes if history.outcome[row] == Outcome.OK}
            reads = [row for row in reads if int(history.value[row]) not in {INITIAL, *acked}]
            pairs = []
        ends = [b for _, b in pairs if b in reads]
        return max(ends or reads, key=lambda row: int(self._history.start[row]), default=None)

    def _after_the_initial_value(self, bad: int) -> list[tuple[int, int]]:
        """Return what ended before a read of the initial value, which has no operation that comes first."""
        start = int(self._history.start[bad])
        before = [row for row in self._witness if row != bad and self._finish[row] < start]
        return [(before[0], bad)] if before else []

    def _bar(self, row: int, older: int | None, newer: set[int], bad: bool) -> Bar:
        history, value = self._history, int(self._history.value[row])
        f = F(int(history.f[row])).name.lower()
        tone = "old" if value == older else "new" if value in newer else "plain"
        return Bar(
            line=self._line_of[row],
            f=f,
            process=int(history.process[row]),
            block=int(history.block[row]),
            name=self._name(value),
            begin_ms=self._ms(int(history.start[row])),
            end_ms=None if self._finish[row] == PENDING else self._ms(self._finish[row]),
            outcome=Outcome(int(history.outcome[row])).name.lower(),
            tone="plain" if f == "flush" else tone,
            bad=bad,
        )

    def _order(self, a: int, b: int) -> Order:
        history = self._history
        source, target = (self._name(int(history.value[row])) for row in (a, b))
        ended, began = (
            f"{'read of' if history.f[row] == F.READ else 'write'} {self._name(int(history.value[row]))}"
            for row in (a, b)
        )
        how = "was closed" if history.outcome[a] == Outcome.INFO else "ended"
        text = f"{source} before {target}: the {ended} {how} before the {began} began"
        if history.value[b] == INITIAL:
            text = f"the {ended} {how} before the read began; but never written comes before every write"
        return Order(self._line_of[a], self._line_of[b], text)

    def _name(self, value: int) -> str:
        return self._names.get(value) or show_value(value)

    def _ms(self, time_ns: int) -> float:
        return (time_ns - self._origin) / _MS


def _marks(history: History) -> Iterator[tuple[int, str]]:
    yield from ((fence.time_ns, "fence") for fence in history.fences)
    yield from ((crash.time_ns, "power loss") for crash in history.crashes)
