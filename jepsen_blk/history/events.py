"""Events beside the history: faults, migrations, fences, workload phases, on the host's clock.

`events.jsonl` is appended line by line and flushed at once, so that what a fault did survives the
controller. Times are ns of the host's CLOCK_MONOTONIC, the clock of the target's log too; the
guest's operations are on the guest's clock (see report/timebase.py for how the two are joined).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    `source` is fault, migration, handoff, failover, network, workload, checker, schedule or test.

    `phase` of a fault: setup, inject, proven, heal, healed, failed, over; of a migration: begin, stop,
    end, resume; of a failover: begin, fence, end; of the checker: seen. `data` holds what is worth
    showing, as JSON values.
    """

    time_ns: int
    source: str
    name: str
    phase: str
    node: str = ""
    data: dict[str, Any] = field(default_factory=dict)


class EventLog:
    """Appends events to a file; every `emit` is on disk (in the page cache) when it returns."""

    def __init__(self, path: Path, observe: Callable[[Event], None] | None = None) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._observe = observe

    def emit(
        self,
        source: str,
        name: str,
        phase: str,
        /,
        *,
        node: str = "",
        time_ns: int | None = None,
        **data: Any,
    ) -> Event:
        """Record an event now (or at `time_ns`) and return it."""
        event = Event(time.monotonic_ns() if time_ns is None else time_ns, source, name, phase, node, data)
        self._file.write(json.dumps(asdict(event), separators=(",", ":")) + "\n")
        self._file.flush()
        if self._observe is not None:
            self._observe(event)
        return event

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of a stored run; a torn last line (a killed controller) is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                fields = json.loads(line)
                yield Event(**fields)
            except (json.JSONDecodeError, TypeError):
                continue
