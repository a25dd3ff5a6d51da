"""What a comparison says of a cell: shares with 95 % confidence intervals, and what the policy costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jepsen_blk.campaign.rows import Cell

Judgement = Literal["unsafe", "safe", "undecided", "unknown"]
"""unsafe: a run failed; safe: none of as many as were asked for did, and none was unknown; unknown: no run
could be judged; undecided: the rest."""


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `of` runs, and the 95 % confidence interval of the probability behind it.

    Wilson's interval; at zero the upper end is that of the rule of three, 3 / of (at most 1).
    """

    count: int
    of: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a cell costs; the overheads are ratios to the same cell under `requeue`, None without that one."""

    blackout_p50_ms: float | None
    blackout_p99_ms: float | None
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    ops_per_s: float | None
    latency_overhead: float | None
    throughput_overhead: float | None


@dataclass(frozen=True, slots=True)
class CellSummary:
    """A cell of the comparison; `decided` says in words why it needs no more runs, empty if it does.

    `failing` and `passing` are the folders of the runs that were kept to be looked at, relative to the
    comparison's, empty if there is none; `repeat` is the command that repeats the failing one, or else the
    passing one.
    """

    cell: Cell
    judgement: Judgement
    decided: str
    runs: int
    failed: Share
    kinds: dict[str, Share]
    unknown: int
    why_unknown: dict[str, int]
    migrations: int
    in_flight: int
    reissues: int
    indeterminate: int
    cost: Cost
    failing: str
    passing: str
    repeat: str
