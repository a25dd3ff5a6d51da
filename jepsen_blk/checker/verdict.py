"""The verdict on a history: pass, fail, or unknown with reasons. Never a silent pass.

A contradiction is a fail whatever else is missing. Without one, a history that could not have shown
damage (nothing written, blocks never read again) is unknown, not a pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jepsen_blk.checker.anomalies import Anomaly, find_anomalies
from jepsen_blk.checker.clocks import widen
from jepsen_blk.checker.durability import Judgement, durable, judge
from jepsen_blk.checker.engine import Engine, choose_engine
from jepsen_blk.checker.findings import Findings
from jepsen_blk.checker.lost_tail import adopt_lost_tails
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import F, History, Int64s, Outcome

Verdict = Literal["pass", "fail", "unknown"]
_NAMED_BLOCKS = 8
_SLICE = 1 << 17


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


def check(
    history: History, deadline: Deadline | str = Deadline.FENCE, engine: Engine | None = None
) -> Result:
    """Judge a history; the verdict is that of `deadline`. `engine`: None for the fastest.

    Raises ValueError for an unknown deadline, HistoryError if the history's times are on unrelated clocks.
    """
    deadline = Deadline(deadline)
    wide = widen(adopt_lost_tails(history))
    engine = engine or choose_engine(wide)
    judged = judge(wide, deadline, engine)
    doubts = [*_doubts(wide, judged.findings)]
    return conclude(judged, deadline, fails_under(judged, deadline, engine), len(history), doubts)


def conclude(
    judged: Judgement,
    deadline: Deadline,
    fails: dict[Deadline, bool],
    ops: int,
    doubts: Sequence[str],
) -> Result:
    """Return the result of a history of so many operations; `fails` says under which deadlines it fails."""
    anomalies, more = find_anomalies(judged, deadline)
    otherwise: Verdict = "unknown" if doubts else "pass"
    deadlines: dict[Deadline, Verdict] = {other: "fail" if fails[other] else otherwise for other in Deadline}
    return Result(
        verdict=deadlines[deadline],
        deadline=deadline,
        ops=ops,
        anomalies=anomalies,
        reasons=(*doubts, more) if more else tuple(doubts),
        deadlines=deadlines,
    )


def fails_under(judged: Judgement, deadline: Deadline, engine: Engine) -> dict[Deadline, bool]:
    """Say under which deadlines the history fails, checking it again only where that is still open.

    Each deadline is at least as strict as the one before, and without a fence the first two are one.
    """
    fails = {deadline: judged.contradicts()}
    for other in Deadline:
        stricter = list(Deadline).index(other) > list(Deadline).index(deadline)
        alike = not judged.history.fences and Deadline.ERROR not in (other, deadline)
        if not judged.findings.seen_open or alike or stricter == fails[deadline]:
            fails[other] = fails[deadline]
        elif other is not deadline:
            fails[other] = judge(judged.history, other, engine).contradicts()
    return fails


def doubts_of(ops: int, written: bool, looked: bool, unread: Int64s) -> Iterator[str]:
    """What keeps a history without power losses from showing damage; `looked`: a read was completed."""
    if not ops:
        yield "the history is empty: nothing was tested"
        return
    if not written:
        yield "the history has no write: nothing was tested"
    if not looked:
        yield "no read was completed: whatever was written, nothing looked at it"
    if len(unread):
        yield f"{_name(unread)} never read after the last acknowledged write"


def _doubts(history: History, findings: Findings) -> Iterator[str]:
    written = any((history.f[part] == F.WRITE).any() for part in _slices(history))
    looked = any(
        ((history.f[part] == F.READ) & (history.outcome[part] == Outcome.OK)).any()
        for part in _slices(history)
    )
    yield from doubts_of(len(history), written, looked, findings.unread)
    if len(history) and history.crashes:
        yield from _crash_doubts(history)


def _crash_doubts(history: History) -> Iterator[str]:
    """What kept the power losses from showing damage."""
    last_ns = max(crash.time_ns for crash in history.crashes)
    over_ns = max(crash.until_ns for crash in history.crashes)
    acked = (history.f == F.WRITE) & (history.outcome == Outcome.OK) & (history.finish < last_ns)
    if not durable(history, history, np.flatnonzero(acked), last_ns).any():
        yield "nothing was flushed before the storage lost power: no write had to survive"
    looked = (history.f == F.READ) & (history.outcome == Outcome.OK) & (history.start > over_ns)
    unseen = np.setdiff1d(history.block[acked], history.block[looked])
    if len(unseen):
        yield f"{_name(unseen)} not read after the storage had lost power"


def _slices(history: History) -> Iterator[slice]:
    """Cut a history into parts, so that the first that has what is looked for spares the others."""
    return (slice(low, low + _SLICE) for low in range(0, len(history), _SLICE))


def _name(blocks: Int64s) -> str:
    named = ", ".join(str(block) for block in blocks[:_NAMED_BLOCKS].tolist())
    dots = ", ..." if len(blocks) > _NAMED_BLOCKS else ""
    return f"block {named} was" if len(blocks) == 1 else f"{len(blocks)} blocks ({named}{dots}) were"
