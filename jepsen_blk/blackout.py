"""What each migration met and what it cost, joined from the run's events, the storage's log and the history.

A migration that met no write in flight tested nothing, and one that took the guest's disk away for long
is no price that a user would pay: both are said of every migration. All times are the host's; those of the
history, which are the guest's, are compared with each other alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jepsen_blk.history.events import Event
from jepsen_blk.history.record import PENDING, F, History, Outcome
from jepsen_blk.history.rows import select

_TAKEN_OVER = (
    *("source", "destination", "mode"),
    *("begin_ns", "stopped_ns", "end_ns", "total_ms", "downtime_ms"),
)
"""What the results take over from a migration's event."""
_FEW = 16
"""So many writes on either side of a stop are looked for in the history: of one it may not know the end."""


@dataclass(slots=True)
class _Crossing:
    """A migration as the storage saw it; `resumed_ns` as the events say, None if the guest never ran on.

    `last_sent` are the last writes that the source sent before the stop, as the time of the arrival and the
    value; `first_done` the first that were completed for the destination, as that time and the value.
    """

    data: dict[str, Any]
    resumed_ns: int | None
    in_flight: set[int] = field(default_factory=set)
    reissued: set[int] = field(default_factory=set)
    overlap: set[int] = field(default_factory=set)
    last_done_ns: int | None = None
    first_received_ns: int | None = None
    last_sent: list[tuple[int, int]] = field(default_factory=list)
    first_done: list[tuple[int, int]] = field(default_factory=list)

    def take(self, write: dict[str, Any]) -> None:
        """Take note of the source's writes before the guest was stopped, and the destination's after it."""
        received_ns, done_ns, value = write["received"], write["done"], write["value"]
        if write["node"] == self.data["source"] and received_ns <= self._stopped_ns:
            if done_ns > self._stopped_ns:
                self.in_flight.add(value)
            else:
                self.last_done_ns = max(self.last_done_ns or 0, done_ns)
            if len(self.last_sent) < _FEW or received_ns > self.last_sent[0][0]:
                self.last_sent = sorted((*self.last_sent, (received_ns, value)))[-_FEW:]
        elif write["node"] == self.data["destination"] and received_ns > self._stopped_ns:
            self.first_received_ns = min(self.first_received_ns or received_ns, received_ns)
            if len(self.first_done) < _FEW or done_ns < self.first_done[-1][0]:
                self.first_done = sorted((*self.first_done, (done_ns, value)))[:_FEW]

    def compare(self, write: dict[str, Any]) -> None:
        """Take note of what is known only once all writes were taken."""
        node, received_ns, value = write["node"], write["received"], write["value"]
        first_ns = self.first_received_ns
        if node == self.data["source"] and first_ns is not None and received_ns <= first_ns < write["done"]:
            self.overlap.add(value)
        moved = node == self.data["destination"] and received_ns > self._stopped_ns
        if moved and value in self.in_flight:
            self.reissued.add(value)

    @property
    def told(self) -> set[int]:
        """The values whose writes tell, by the guest's clock, when it was stopped."""
        return {value for _, value in (*self.last_sent, *self.first_done)}

    def results(self, guest: _GuestTimes) -> dict[str, Any]:
        """Return the migration's object in results.json."""
        first_done_ns = self.first_done[0][0] if self.first_done else None
        return {
            **{name: self.data[name] for name in _TAKEN_OVER},
            "in_flight": len(self.in_flight),
            "reissued": len(self.reissued),
            "overlap": len(self.overlap),
            "indeterminate": self._indeterminate(guest),
            "pause_ms": _ms(self._stopped_ns, self.resumed_ns),
            "first_write_ms": _ms(self._stopped_ns, self.first_received_ns),
            "stall_ms": _ms(self.last_done_ns, first_done_ns),
        }

    def _indeterminate(self, guest: _GuestTimes) -> int | None:
        """Count operations that began before the stop, as far as is known, and were not over by then.

        By the guest's clock, which stands still while the guest does, the stop was after it sent the last
        write of the source, and before it saw the first one completed for the destination.
        """
        sent = [guest.writes[value] for _, value in self.last_sent if value in guest.writes]
        if not sent:
            return None
        boot, sent_ns, _ = max(sent)
        seen = [guest.writes[value] for _, value in self.first_done if value in guest.writes]
        seen_ns = min((finish for of, _, finish in seen if of == boot), default=PENDING)
        return guest.indeterminate(boot, sent_ns, seen_ns)

    @property
    def _stopped_ns(self) -> int:
        return int(self.data["stopped_ns"])


class _GuestTimes:
    """What the history says of some writes, as (boot, start, finish), and of all indeterminate operations."""

    def __init__(self, values: Collection[int]) -> None:
        self.writes: dict[int, tuple[int, int, int]] = {}
        self._values = np.array(sorted(values), dtype=np.int64)
        self._indeterminate: list[History] = []

    def look(self, history: History) -> None:
        """Take note of a history, or of a part of it."""
        told = (history.f == F.WRITE) & np.isin(history.value, self._values)
        for row in np.flatnonzero(told).tolist():
            times = int(history.boot[row]), int(history.start[row]), int(history.finish[row])
            self.writes[int(history.value[row])] = times
        self._indeterminate.append(select(history, np.flatnonzero(history.outcome == Outcome.INFO)))

    def indeterminate(self, boot: int, from_ns: int, to_ns: int) -> int:
        """Count the boot's indeterminate operations that began before `to_ns` and ended after `from_ns`."""
        return sum(
            int(np.count_nonzero((rows.boot == boot) & (rows.start < to_ns) & (rows.finish > from_ns)))
            for rows in self._indeterminate
        )


class Blackouts:
    """The completed migrations of a run, in their order.

    `in_flight` are the writes of the source at the storage when the guest was stopped, `reissued` those of
    them that the destination sent again, `overlap` the writes of the source that were still in flight when
    the destination's first came, and `indeterminate` the operations that began before the stop, were not over
    by then, and of which nobody knows whether they happened: what the check can hold against the migration is
    less by them. It is None where the source had sent nothing.

    `pause_ms` is how long the guest stood still, `first_write_ms` from its stop to the first write that the
    destination sent, `stall_ms` from the last write completed for the source before the stop to the first
    completed for the destination; None where there is no such event or write.
    """

    def __init__(self, events: Sequence[Event], log: Path) -> None:
        """Read the log twice, for it can be larger than memory."""
        self._crossings = list(_crossings(events))
        for write in _writes(log) if self._crossings else ():
            for crossing in self._crossings:
                crossing.take(write)
        for write in _writes(log) if self._crossings else ():
            for crossing in self._crossings:
                crossing.compare(write)
        self._guest = _GuestTimes({value for crossing in self._crossings for value in crossing.told})

    def look(self, history: History) -> None:
        """Take note of the run's history, or of a part of it."""
        if self._crossings:
            self._guest.look(history)

    def results(self) -> list[dict[str, Any]]:
        """Return the objects of results.json, once all of the history was seen."""
        return [crossing.results(self._guest) for crossing in self._crossings]


def _crossings(events: Sequence[Event]) -> Iterator[_Crossing]:
    moves = [event for event in events if event.source == "migration" and event.phase in ("end", "resume")]
    for number, event in enumerate(moves):
        if event.phase == "end":
            after = moves[number + 1] if number + 1 < len(moves) else event
            yield _Crossing(event.data, after.time_ns if after.phase == "resume" else None)


def _ms(begin_ns: int | None, end_ns: int | None) -> float | None:
    return None if begin_ns is None or end_ns is None else round((end_ns - begin_ns) / 1e6, 3)


def _writes(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the target's writes; a torn last line (a killed lab) is left out."""
    if not log.exists():
        return
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry.get("f") == "write":
                yield entry
