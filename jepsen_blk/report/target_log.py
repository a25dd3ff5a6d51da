"""What the report needs of the storage's own log, read in one pass and with a bound on everything kept.

The log explains and never judges. It may be large, so only three things are kept of it: the writes
of the failing blocks from the first one that matters on, the writes in flight at a switch-over, and
a sample of writes that ties the guest's clock to the host's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jepsen_blk.history.record import Int64s

_PARSE_ALL_BYTES = 64 << 20
_SAMPLE_LINES = 50_000
_LINE_BYTES = 190
_KEPT_WRITES = 5_000


@dataclass(frozen=True, slots=True)
class TargetWrite:
    """One copy of a write as the storage saw it; times in ns of the host's monotonic clock.

    `applied_ns` is None when the copy never reached the block, `done_ns` when it never ended.
    """

    id: int
    node: str
    block: int
    value: int
    received_ns: int
    applied_ns: int | None
    done_ns: int | None
    action: str
    outcome: str
    why: str
    held_ns: int | None = None
    released_ns: int | None = None

    @property
    def end_ns(self) -> int:
        """When its story at the storage ended: applied if it was, else the last that is known of it."""
        return self.applied_ns or self.done_ns or self.released_ns or self.received_ns


@dataclass(frozen=True, slots=True)
class TargetEvent:
    """A fence, connect or disconnect of a node."""

    time_ns: int
    f: str
    node: str
    abort: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TargetLog:
    """The kept parts; `value`, `received` and `done` are (n,) columns of writes that came once only."""

    writes: tuple[TargetWrite, ...]
    crossing: tuple[TargetWrite, ...]
    events: tuple[TargetEvent, ...]
    value: Int64s
    received: Int64s
    done: Int64s


@dataclass(slots=True)
class _Pass:
    """What one pass over the log gathers."""

    blocks: frozenset[int]
    values: frozenset[int]
    stops: Sequence[int]
    holds: dict[int, dict[str, Any]] = field(default_factory=dict)
    released: dict[int, int] = field(default_factory=dict)
    writes: dict[int, dict[str, Any]] = field(default_factory=dict)
    crossing: dict[int, dict[str, Any]] = field(default_factory=dict)
    events: list[TargetEvent] = field(default_factory=list)
    anchors: list[tuple[int, int, int]] = field(default_factory=list)
    others: int = 0
    begun: bool = False

    def take(self, line: dict[str, Any]) -> None:
        """Sort one line of the log into what is kept."""
        match line["f"]:
            case "write":
                self._write(line)
            case "held":
                self.holds[int(line["id"])] = line
                self.begun = self.begun or line["value"] in self.values
            case "released":
                self.released[int(line["id"])] = int(line["time"])
            case "fence" | "connect" | "disconnect" if len(self.events) < _KEPT_WRITES:
                self.events.append(
                    TargetEvent(int(line["time"]), line["f"], str(line["node"]), bool(line.get("abort")))
                )

    def _write(self, line: dict[str, Any]) -> None:
        number, value = int(line["id"]), int(line["value"])
        received, done = int(line["received"]), int(line["done"])
        self.anchors.append((value, received, done))
        if value in self.values:
            self.begun = True
            self.writes[number] = line
        elif self.begun and line["block"] in self.blocks and self.others < _KEPT_WRITES:
            self.others += 1
            self.writes[number] = line
        if len(self.crossing) < _KEPT_WRITES and any(received <= stop < done for stop in self.stops):
            self.crossing[number] = line

    def make(self, line: dict[str, Any]) -> TargetWrite:
        """Join a write's line with what is known of its hold."""
        number = int(line["id"])
        held = self.holds.get(number)
        return TargetWrite(
            id=number,
            node=str(line["node"]),
            block=int(line["block"]),
            value=int(line["value"]),
            received_ns=int(line.get("received", line.get("time", 0))),
            applied_ns=_optional(line.get("applied")),
            done_ns=_optional(line.get("done")),
            action=str(line.get("action", "held")),
            outcome=str(line.get("outcome", "")),
            why=str(line.get("why", "")),
            held_ns=int(held["time"]) if held else None,
            released_ns=self.released.get(number),
        )


def read_target_log(
    path: Path, blocks: frozenset[int], values: frozenset[int], stops: Sequence[int]
) -> TargetLog | None:
    """Read what concerns `blocks`, `values` and the host times `stops`; None if there is no log.

    A torn or foreign line is left out: the log is evidence for people, and a run that was killed
    still deserves its report.
    """
    if not path.exists():
        return None
    found = _Pass(blocks, values, stops)
    for line in _lines(path, blocks):
        try:
            found.take(json.loads(line))
        except (ValueError, KeyError, TypeError):
            continue
    never_ended = (
        line for number, line in found.holds.items() if number not in found.writes and line["value"] in values
    )
    writes = [found.make(line) for line in (*found.writes.values(), *never_ended)]
    columns = np.array(found.anchors, dtype=np.int64).reshape(-1, 3)
    held = np.array([int(line["value"]) for line in found.holds.values()], dtype=np.int64)
    seen, first, times = np.unique(columns[:, 0], return_index=True, return_counts=True)
    once = columns[np.sort(first[(times == 1) & ~np.isin(seen, held)])]
    return TargetLog(
        writes=tuple(sorted(writes, key=lambda write: write.received_ns)),
        crossing=tuple(
            sorted((found.make(line) for line in found.crossing.values()), key=lambda w: w.received_ns)
        ),
        events=tuple(found.events),
        value=once[:, 0],
        received=once[:, 1],
        done=once[:, 2],
    )


def _lines(path: Path, blocks: frozenset[int]) -> Iterator[bytes]:
    """Yield every line of a small log; of a large one the telling lines and an even sample."""
    size = path.stat().st_size
    stride = 1 if size <= _PARSE_ALL_BYTES else max(1, size // (_SAMPLE_LINES * _LINE_BYTES))
    telling = [
        b'"held"',
        b'"released"',
        b'"fence"',
        b"connect",
        *(f'"block":{block},'.encode() for block in blocks),
    ]
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            if stride == 1 or number % stride == 0 or any(needle in line for needle in telling):
                yield line


def _optional(value: Any) -> int | None:
    return None if value is None else int(value)
