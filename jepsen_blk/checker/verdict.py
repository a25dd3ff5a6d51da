"""The verdict on a history: pass, fail, or unknown with reasons. Never a silent pass.

A contradiction is a fail whatever else is missing. Without one, a history that could not have shown
damage (nothing written, blocks never read again) is unknown, not a pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jepsen_blk.checker.anomalies import Anomaly, find_anomalies
from jepsen_blk.checker.clocks import widen
from jepsen_blk.checker.durability import Judgement, durable, judge
from jepsen_blk.checker.lost_tail import adopt_lost_tails
from jepsen_blk.checker.registers import Findings
from jepsen_blk.history.record import F, History, Int64s, Outcome
from jepsen_blk.spec import Deadline

Verdict = Literal["pass", "fail", "unknown"]
_NAMED_BLOCKS = 8


@dataclass(frozen=True, slots=True)
class Result:
    """What the checker says of a history; `ops` counts its operations, `deadlines` has all three verdicts."""

    verdict: Verdict
    deadline: Deadline
    ops: int
    anomalies: tuple[Anomaly, ...]
    reasons: tuple[str, ...]
    deadlines: dict[Deadline, Verdict]

    def to_json(self) -> dict[str, Any]:
        """Return the checker's part of the object of results.json (see docs/design.md)."""
        return {
            "verdict": self.verdict,
            "deadline": self.deadline.value,
            "ops": self.ops,
            "anomalies": [anomaly.to_json() for anomaly in self.anomalies],
            "reasons": list(self.reasons),
            "deadlines": {deadline.value: verdict for deadline, verdict in self.deadlines.items()},
        }


def check(history: History, deadline: Deadline | str = Deadline.FENCE) -> Result:
    """Judge a history; the verdict is that of `deadline`.

    Raises ValueError for an unknown deadline, HistoryError if the history's times are on unrelated clocks.
    """
    deadline = Deadline(deadline)
    wide = widen(adopt_lost_tails(history))
    judged = judge(wide, deadline)
    reasons = [*_doubts(wide, judged.findings)]
    anomalies, more = find_anomalies(judged, deadline)
    same = not judged.findings.seen_open
    deadlines = {
        other: _verdict(judged if same or other is deadline else judge(wide, other), reasons)
        for other in Deadline
    }
    return Result(
        verdict=deadlines[deadline],
        deadline=deadline,
        ops=len(history),
        anomalies=anomalies,
        reasons=(*reasons, more) if more else tuple(reasons),
        deadlines=deadlines,
    )


def _verdict(judged: Judgement, reasons: list[str]) -> Verdict:
    if judged.contradicts():
        return "fail"
    return "unknown" if reasons else "pass"


def _doubts(history: History, findings: Findings) -> Iterator[str]:
    if not len(history):
        yield "the history is empty: nothing was tested"
        return
    if not (history.f == F.WRITE).any():
        yield "the history has no write: nothing was tested"
    if not ((history.f == F.READ) & (history.outcome == Outcome.OK)).any():
        yield "no read was completed: whatever was written, nothing looked at it"
    if len(findings.unread):
        yield f"{_name(findings.unread)} never read after the last acknowledged write"
    if history.crashes:
        yield from _crash_doubts(history)


def _crash_doubts(history: History) -> Iterator[str]:
    """What kept the power losses from showing damage."""
    last = max(history.crashes)
    acked = (history.f == F.WRITE) & (history.outcome == Outcome.OK) & (history.finish < last)
    if not durable(history, history, np.flatnonzero(acked), last).any():
        yield "nothing was flushed before the storage lost power: no write had to survive"
    looked = (history.f == F.READ) & (history.outcome == Outcome.OK) & (history.start > last)
    unseen = np.setdiff1d(history.block[acked], history.block[looked])
    if len(unseen):
        yield f"{_name(unseen)} not read after the storage had lost power"


def _name(blocks: Int64s) -> str:
    named = ", ".join(str(block) for block in blocks[:_NAMED_BLOCKS].tolist())
    dots = ", ..." if len(blocks) > _NAMED_BLOCKS else ""
    return f"block {named} was" if len(blocks) == 1 else f"{len(blocks)} blocks ({named}{dots}) were"
