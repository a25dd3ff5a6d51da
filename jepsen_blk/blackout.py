"""What each migration met and what it cost, joined from the run's events and the storage's log.

A migration that met no write in flight tested nothing, and one that took the guest's disk away for long
is no price that a user would pay: both are said of every migration. All times are the host's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jepsen_blk.history.events import Event

_TAKEN_OVER = (
    *("source", "destination", "mode"),
    *("begin_ns", "stopped_ns", "end_ns", "total_ms", "downtime_ms"),
)
"""What the results take over from a migration's event."""


@dataclass(slots=True)
class _Crossing:
    """A migration as the storage saw it; `resumed_ns` as the events say, None if the guest never ran on."""

    data: dict[str, Any]
    resumed_ns: int | None
    in_flight: set[int] = field(default_factory=set)
    reissued: set[int] = field(default_factory=set)
    last_done_ns: int | None = None
    first_received_ns: int | None = None
    first_done_ns: int | None = None

    def before(self, write: dict[str, Any]) -> None:
        """Take note of a write of the source that reached the storage before the guest was stopped."""
        if write["node"] != self.data["source"] or write["received"] > self._stopped_ns:
            return
        if write["done"] > self._stopped_ns:
            self.in_flight.add(write["value"])
        else:
            self.last_done_ns = max(self.last_done_ns or 0, write["done"])

    def after(self, write: dict[str, Any]) -> None:
        """Take note of a write of the destination that came after the guest was stopped."""
        if write["node"] != self.data["destination"] or write["received"] <= self._stopped_ns:
            return
        if write["value"] in self.in_flight:
            self.reissued.add(write["value"])
        self.first_received_ns = min(self.first_received_ns or write["received"], write["received"])
        self.first_done_ns = min(self.first_done_ns or write["done"], write["done"])

    def results(self) -> dict[str, Any]:
        """Return the migration's object in results.json."""
        return {
            **{name: self.data[name] for name in _TAKEN_OVER},
            "in_flight": len(self.in_flight),
            "reissued": len(self.reissued),
            "pause_ms": _ms(self._stopped_ns, self.resumed_ns),
            "first_write_ms": _ms(self._stopped_ns, self.first_received_ns),
            "stall_ms": _ms(self.last_done_ns, self.first_done_ns),
        }

    @property
    def _stopped_ns(self) -> int:
        return int(self.data["stopped_ns"])


def account(events: Sequence[Event], log: Path) -> Iterator[dict[str, Any]]:
    """Yield the object of results.json of each migration that was completed, in their order.

    `pause_ms` is how long the guest stood still, `first_write_ms` from its stop to the first write that the
    destination sent, `stall_ms` from the last write completed for the source before the stop to the first
    completed for the destination; None where there is no such event or write. Reads the log twice, for it
    can be larger than memory, and names no write in flight where there is none.
    """
    crossings = list(_crossings(events))
    for write in _writes(log) if crossings else ():
        for crossing in crossings:
            crossing.before(write)
    for write in _writes(log) if crossings else ():
        for crossing in crossings:
            crossing.after(write)
    for crossing in crossings:
        yield crossing.results()


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
