"""The words for a network path: which one it is, what a fault makes of it, and what a probe says of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Path_(StrEnum):
    """A network path that a fault can act on; the node it belongs to is named beside it."""

    STORAGE = "storage"
    MIGRATION = "migration"


class Direction(StrEnum):
    """A direction of a path, as its node sees it."""

    BOTH = "both"
    OUT = "out"
    IN = "in"


@dataclass(frozen=True, slots=True)
class Loss:
    """Some packets of either direction are lost."""

    percent: float


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the node sends is slowed down to a rate."""

    mbit_per_s: float


@dataclass(frozen=True, slots=True)
class Latency:
    """What the node sends comes late, and some of it out of order or twice."""

    delay_ms: float
    jitter_ms: float = 0.0
    reorder_percent: float = 0.0
    duplicate_percent: float = 0.0


Impairment = Loss | RateLimit | Latency


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many packets the faults of a path have dropped, by direction."""

    out: int
    in_: int


@dataclass(frozen=True, slots=True)
class Echoes:
    """What a burst of echo requests saw of a path; `received` counts each request once."""

    sent: int
    received: int
    duplicates: int
    out_of_order: int
    rtt_ms: float
    """The median, or 0 without an answer."""
    mbit_per_s: float
    """The rate of the fastest stretch of the answers, or 0 where there were too few."""
