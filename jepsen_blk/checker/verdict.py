"""The verdict on a history: pass, fail, or unknown with reasons. Never a silent pass.

A contradiction is a fail whatever else is missing. Without one, a history that could not have shown
damage (nothing written, blocks never read again) is unknown, not a pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from jepsen_blk.checker.anomalies import Anomaly, find_anomalies
from jepsen_blk.checker.lost_tail import adopt_lost_tails
from jepsen_blk.checker.registers import Findings, check_registers
from jepsen_blk.history.record import PENDING, F, History, Int64s, Outcome
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
    judged = adopt_lost_tails(before_power_loss(history))
    findings = check_registers(judged, deadline)
    reasons = [*_doubts(history, judged, findings)]
    anomalies, more = find_anomalies(judged, findings, deadline)
    deadlines = {
        other: _verdict(findings if other is deadline else check_registers(judged, other), reasons)
        if findings.seen_open
        else _verdict(findings, reasons)
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


def before_power_loss(history: History) -> History:
    """Return what had begun before the first power loss of the storage; what it cut off is indeterminate.

    After a power loss unflushed writes may be gone, which the rule of an atomic register does not know.
    """
    if not history.crashes:
        return history
    loss = min(history.crashes)
    rows = np.flatnonzero(history.start < loss)
    cut = history.finish[rows] >= loss
    line = history.line if history.line is not None else np.arange(len(history), dtype=np.int64)
    columns = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")
    kept = {name: getattr(history, name)[rows] for name in columns}
    kept["outcome"] = np.where(cut & (kept["outcome"] == Outcome.OK), np.uint8(Outcome.INFO), kept["outcome"])
    kept["finish"] = np.where(cut, PENDING, kept["finish"])
    return replace(history, **kept, line=line[rows])


def _verdict(findings: Findings, reasons: list[str]) -> Verdict:
    if findings.bad_reads or len(findings.conflicts) or len(findings.twice):
        return "fail"
    return "unknown" if reasons else "pass"


def _doubts(history: History, judged: History, findings: Findings) -> Iterator[str]:
    if not len(history):
        yield "the history is empty: nothing was tested"
        return
    if not (history.f == F.WRITE).any():
        yield "the history has no write: nothing was tested"
    if not ((judged.f == F.READ) & (judged.outcome == Outcome.OK)).any():
        yield "no read was completed: whatever was written, nothing looked at it"
    if len(findings.unread):
        yield f"{_name(findings.unread)} never read after the last acknowledged write"
    if history.crashes:
        yield "the storage lost power: only what had begun before that was judged"


def _name(blocks: Int64s) -> str:
    named = ", ".join(str(block) for block in blocks[:_NAMED_BLOCKS].tolist())
    dots = ", ..." if len(blocks) > _NAMED_BLOCKS else ""
    return f"block {named} was" if len(blocks) == 1 else f"{len(blocks)} blocks ({named}{dots}) were"
