"""What happened, told as numbered steps: which copy of which write did the damage.

The story joins the witness (what the guest was told) with the storage's log (what was done) on one
clock. It holds facts and sentences (story_steps) only; story_picture draws it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jepsen_blk.checker.classify import ZOMBIES
from jepsen_blk.report.model import Anomaly, Band, Copy, HostEvent, Move, Op, RunData
from jepsen_blk.report.story_steps import Facts, Step, overwritten, proof_of
from jepsen_blk.stamp import SEQUENCE_BITS

_MAX_COPIES = 8
_MAX_CONTENTS = 40
_LEAD_MS = 0.5


@dataclass(frozen=True, slots=True)
class Content:
    """What the block held from `begin_ms` to `end_ms`, by the storage's log."""

    begin_ms: float
    end_ms: float
    value: int


@dataclass(frozen=True, slots=True)
class Story:
    """The facts of one anomaly, in ms of the run, between `begin_ms` and `end_ms`."""

    block: int
    old: int
    new: int | None
    begin_ms: float
    end_ms: float
    nodes: tuple[str, ...]
    ops: tuple[Op, ...]
    bad_read: Op | None
    copies: tuple[Copy, ...]
    late: Copy | None
    contents: tuple[Content, ...]
    moves: tuple[Move, ...]
    bands: tuple[Band, ...]
    fence: HostEvent | None
    steps: tuple[Step, ...]
    has_log: bool
    zombie: bool

    @property
    def overwritten(self) -> bool | None:
        """Tell whether the late copy of the old write landed on the new one; see story_steps.overwritten."""
        return overwritten(self.copies, self.late, self.new)

    def look(self, value: int) -> str:
        """Colour class of a value: the old one, the new one, or any other."""
        return "old" if value == self.old else "new" if value == self.new else "plain"


def tell(run: RunData, anomaly: Anomaly) -> Story | None:
    """Make the story of an anomaly; None when its witness holds no operation."""
    if not anomaly.ops:
        return None
    reads = [op for op in anomaly.ops if op.f == "read" and op.outcome == "ok"]
    bad = next(reversed(_suspects(anomaly, reads)), None)
    old = bad.value if bad else anomaly.ops[0].value
    newer = [op for op in anomaly.ops if op.f == "write" and op.value != old]
    new = newer[-1].value if newer else next((op.value for op in reads if op.value != old), None)
    block = anomaly.block if anomaly.block >= 0 else anomaly.ops[0].block
    copies = tuple(c for c in run.copies if c.value in (old, new) and c.value > 0)[:_MAX_COPIES]
    # What the host saw can stand beside what the guest saw only on one clock.
    joined = run.aligned
    fenced = joined and anomaly.kind == "fenced-zombie"
    fence = run.lost_boots.get(old >> SEQUENCE_BITS) if fenced else None
    begins = [op.start_ms for op in anomaly.ops] + [copy.received_ms for copy in copies]
    begin = min(begins + ([fence.time_ms] if fence else [])) - _LEAD_MS
    end = max(op.finish_ms if op.finish_ms is not None else op.start_ms for op in anomaly.ops)
    ends = [copy.end_ms for copy in copies if copy.received_ms <= end]
    end = max([end, *ends]) + _LEAD_MS
    moves = tuple(m for m in run.moves if joined and m.begin_ms < end and m.resumed_ms > begin)
    bands = tuple(
        outage
        for outage in (_seen_from(run, band) for band in run.bands if _is_outage(band))
        if joined and outage.begin_ms < end and outage.end_ms > begin
    )
    nodes = _nodes(fence, anomaly, copies, moves)
    late = _late(copies, old, new, fence)
    contents = _contents(run, block, old, begin, end) if copies else ()
    facts = Facts(run, anomaly, block, old, new, bad, copies, late, moves, bands, fence)
    return Story(
        block,
        old,
        new,
        begin,
        end,
        nodes,
        anomaly.ops,
        bad,
        copies,
        late,
        contents,
        moves,
        bands,
        fence,
        facts.steps(),
        run.has_target_log and bool(copies),
        anomaly.kind in ZOMBIES,
    )


def _is_outage(band: Band) -> bool:
    return any(word in band.name for word in ("path", "partition", "cut", "reset", "link"))


def _seen_from(run: RunData, band: Band) -> Band:
    """An outage is drawn from the cut to its healing; where neither is known, from when it was proven."""
    begin_ms, end_ms = band.begin_ms, band.end_ms
    proof = proof_of(run, band)
    if proof:
        begin_ms = proof.time_ms
    for event in run.events:
        if event.source == "network" and event.fault == band.number:
            begin_ms = event.time_ms if event.phase == "cut" else begin_ms
            end_ms = event.time_ms if event.phase == "healed" else end_ms
    return replace(band, begin_ms=begin_ms, end_ms=end_ms)


def _suspects(anomaly: Anomaly, reads: list[Op]) -> list[Op]:
    """The reads that may be the bad one: of a zombie those of a write that was not acknowledged."""
    if anomaly.kind not in ZOMBIES:
        return reads
    acked = {op.value for op in anomaly.ops if op.f == "write" and op.outcome == "ok"}
    return [op for op in reads if op.value and op.value not in acked]


def _late(copies: tuple[Copy, ...], old: int, new: int | None, fence: HostEvent | None) -> Copy | None:
    """The last copy of the old value to be applied, if it came after the new one, or its fence."""
    applied = [c for c in copies if c.value == old and c.applied_ms is not None]
    since = [fence.time_ms] if fence else [c.end_ms for c in copies if c.value == new]
    after = [c for c in applied if since and (c.applied_ms or 0) > min(since)]
    return max(after, key=lambda c: c.applied_ms or 0) if after else None


def _nodes(
    fence: HostEvent | None, anomaly: Anomaly, copies: tuple[Copy, ...], moves: tuple[Move, ...]
) -> tuple[str, ...]:
    names = [fence.node] if fence else []
    names += [name for move in moves for name in (move.source, move.destination)]
    names += [copy.node for copy in copies]
    names += [name for op in anomaly.ops for name in op.node.split(" → ")]
    kept = tuple(dict.fromkeys(name for name in names if name))[:3]
    return kept or ("",)


def _contents(run: RunData, block: int, old: int, begin: float, end: float) -> tuple[Content, ...]:
    applied = sorted(
        (copy for copy in run.copies if copy.block == block and copy.applied_ms is not None),
        key=lambda copy: copy.applied_ms or 0,
    )
    changes = [(c.applied_ms or 0.0, c.value) for c in applied if begin <= (c.applied_ms or 0) <= end]
    changes = changes[:_MAX_CONTENTS]
    if not changes:
        return ()
    stops = [time for time, _ in changes[1:]] + [end]
    return tuple(Content(time, stop, value) for (time, value), stop in zip(changes, stops, strict=True))
