"""The view of one run that every picture and table of the report is drawn from.

All times are milliseconds since the run's origin (its first event or operation), on the host's
clock, so that no drawing code ever has to know which clock something was measured on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jepsen_blk.history.record import FOREIGN, INITIAL, PHANTOM, TORN, History, Int64s
from jepsen_blk.report.series import Floats, Series
from jepsen_blk.report.timebase import Timebase
from jepsen_blk.stamp import SEQUENCE_BITS

_NAMES = {INITIAL: "never written", PHANTOM: "garbage", TORN: "torn", FOREIGN: "foreign"}


def show_value(value: int) -> str:
    """Name a value for people: its sequence number, with the boot in front unless it is boot 0."""
    if value in _NAMES:
        return _NAMES[value]
    boot, sequence = value >> SEQUENCE_BITS, value & ((1 << SEQUENCE_BITS) - 1)
    return f"{boot}:{sequence}" if boot else str(sequence)


@dataclass(frozen=True, slots=True)
class Op:
    """An operation of an anomaly; `finish_ms` is None when it never completed."""

    line: int
    row: int
    f: str
    process: int
    block: int
    value: int
    start_ms: float
    finish_ms: float | None
    outcome: str
    boot: int
    node: str

    @property
    def shown(self) -> str:
        """The value for people."""
        return show_value(self.value)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One anomaly and the operations of its minimal witness, in order of start."""

    kind: str
    block: int
    severity_ms: float
    text: str
    blame: str
    ops: tuple[Op, ...]
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of a write at the storage, in ms of the run; see TargetWrite."""

    node: str
    block: int
    value: int
    received_ms: float
    applied_ms: float | None
    end_ms: float
    held_ms: float | None
    released_ms: float | None
    action: str
    outcome: str
    why: str


@dataclass(frozen=True, slots=True)
class Move:
    """A migration; times in ms of the run, `resumed_ms` when the guest ran on the destination.

    The counts and `pause_ms`, `first_write_ms` and `stall_ms` as in blackout.py; None in results of earlier
    versions too.
    """

    source: str
    destination: str
    mode: str
    begin_ms: float
    stopped_ms: float
    end_ms: float
    resumed_ms: float
    total_ms: float
    downtime_ms: float
    in_flight: int
    reissued: int
    overlap: int | None
    indeterminate: int | None
    pause_ms: float | None
    first_write_ms: float | None
    stall_ms: float | None
    crossing: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class Band:
    """A fault from its injection to its healing, in ms of the run; it came during `depth` others."""

    number: int
    depth: int
    name: str
    node: str
    begin_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True)
class FaultLine:
    """How a fault went, for the table; `during` is the number of the one that it came during, or 0."""

    number: int
    during: int
    name: str
    proven: bool
    healed: bool
    why: str


@dataclass(frozen=True, slots=True)
class HostEvent:
    """An event of the run with its time in ms of the run."""

    time_ms: float
    source: str
    name: str
    phase: str
    node: str
    text: str
    fault: int
    """The number of the fault that it is of, or 0."""


@dataclass(frozen=True, slots=True)
class ScriptLine:
    """A step of a script, as it was played."""

    number: int
    time_ms: float
    step: str
    saw: str


@dataclass(frozen=True, slots=True, eq=False)
class RunData:
    """All that a report shows of one run."""

    name: str
    about: str
    """What the test is there to show, in its specification's words."""
    run_dir: Path
    results: dict[str, Any]
    spec_text: str
    environment: tuple[tuple[str, str], ...]
    anomalies: tuple[Anomaly, ...]
    more_anomalies: int
    copies: tuple[Copy, ...]
    has_target_log: bool
    aligned: bool
    moves: tuple[Move, ...]
    bands: tuple[Band, ...]
    faults: tuple[FaultLine, ...]
    script: tuple[ScriptLine, ...]
    events: tuple[HostEvent, ...]
    fences: tuple[HostEvent, ...]
    lost_boots: Mapping[int, HostEvent]
    """When each boot that a failover gave up was fenced off, and on which node it was."""
    seen: HostEvent | None
    """The first anomaly, as the check of the running test saw it."""
    end_ms: float
    series: Series
    history: History
    timebase: Timebase
    origin_ns: int
    torn_bytes: int

    @property
    def verdict(self) -> str:
        """pass, fail or unknown."""
        return str(self.results.get("verdict", "unknown"))

    @property
    def first_node(self) -> str:
        """Where the guest was at first; empty when the run does not say."""
        if self.moves:
            return self.moves[0].source
        return next((event.node for event in self.events if event.node), "")

    def to_ms(self, guest_ns: Int64s, boot: int) -> Floats:
        """Map guest times to ms of the run."""
        return np.asarray((self.timebase.hosts(guest_ns, boot) - self.origin_ns) / 1e6, dtype=np.float64)


def guest_node_at(moves: tuple[Move, ...], first: str, time_ms: float) -> str:
    """Return the node the guest was on: `first` until a migration's switch-over, then its destination."""
    node = first
    for move in moves:
        if time_ms >= move.stopped_ms:
            node = move.destination
    return node
