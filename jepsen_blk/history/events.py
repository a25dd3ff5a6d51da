"""Events beside the history: faults, migrations, fences, workload phases, on the host's clock.

`events.jsonl` is appended line by line and flushed at once, so that what a fault did survives the
controller. Times are ns of the host's CLOCK_MONOTONIC, the clock of the target's log too; the
guest's operations are on the guest's clock (see report/timebase.py for how the two are joined).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from jepsen_blk import clock

_FAULT: ContextVar[int] = ContextVar("fault", default=0)
"""The fault that is under way in this task, or 0."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    `source` is fault, migration, handoff, failover, network, workload, checker, schedule or test.

    `phase` of a fault: setup, waits, cued, inject, step (of a script), proven, came-back (a lost node), heal,
    healed, failed, over; of a migration: begin, stop, end, resume; of a failover: begin, fence, end; of the
    checker: seen. `data` holds what is worth showing, as JSON values.

    `number` is that of the fault that it is of, counted in a run from 1, or 0: faults may overlap, also two
    of the same name.
    """

    time_ns: int
    source: str
    name: str
    phase: str
    node: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    number: int = 0


class EventLog:
    """Appends events to a file; every `emit` is on disk (in the page cache) when it returns."""

    def __init__(self, path: Path, observe: Callable[[Event], None] | None = None) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._observe = observe
        self._faults = 0

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
        now_ns = clock.monotonic_ns() if time_ns is None else time_ns
        event = Event(now_ns, source, name, phase, node, data, _FAULT.get())
        self._file.write(json.dumps(asdict(event), separators=(",", ":")) + "\n")
        self._file.flush()
        if self._observe is not None:
            self._observe(event)
        return event

    @contextlib.contextmanager
    def of_next_fault(self) -> Iterator[int]:
        """Give what the block emits, and the tasks that it begins, the next fault's number.

        What is yielded is the number of the fault that it is during, or 0.
        """
        self._faults += 1
        around = _FAULT.get()
        token = _FAULT.set(self._faults)
        try:
            yield around
        finally:
            _FAULT.reset(token)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of a stored run; a torn last line (a killed controller) is left out.

    Runs from before faults could overlap have no numbers: theirs came one after another and are counted here.
    """
    count = number = 0
    for event in _stored(path):
        if event.source == "fault" and not event.number:
            if event.phase == "setup":
                count += 1
                number = count
            yield replace(event, number=number)
            number = 0 if event.phase == "over" else number
        else:
            yield event if event.number else replace(event, number=number)


def fenced_boots(events: Iterable[Event]) -> dict[int, Event]:
    """Return for each boot that a failover gave up the event that says when, and on which node it was."""
    fences = (event for event in events if (event.source, event.phase) == ("failover", "fence"))
    return {event.data["boot"]: event for event in fences}


def _stored(path: Path) -> Iterator[Event]:
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                yield Event(**json.loads(line))
            except (json.JSONDecodeError, TypeError):
                continue
