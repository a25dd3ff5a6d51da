"""What happened, told as numbered steps: which copy of which write did the damage.

The story joins the witness (what the guest was told) with the storage's log (what was done) on one
clock. It holds facts and sentences only; story_picture draws it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jepsen_blk.report.model import Anomaly, Band, Copy, HostEvent, Move, Op, RunData, show_value

_MAX_COPIES = 8
_MAX_CONTENTS = 40
_LEAD_MS = 0.5

_POLICIES = {
    "requeue": "Nothing is done about it: that is the handoff policy requeue",
    "drain": "The handoff policy drain waits until the storage has nothing of it in flight",
    "cancel-initiator": "The handoff policy cancel-initiator drops its connection, which does not reach the "
    "write in the storage",
    "preempt": "The handoff policy preempt refuses its new commands; those accepted go on",
    "preempt-abort": "The handoff policy preempt-abort refuses and aborts its commands",
    "epoch": "The handoff policy epoch raises the generation; writes of older ones are refused",
    "single-writer": "The handoff policy single-writer makes the new node wait for the old one's flush",
    "quiesce": "The handoff policy quiesce waits a fixed time",
    "stonith": "The handoff policy stonith kills the old node first",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One numbered sentence; `lane` says where its badge stands, `bad` marks the damage."""

    number: int
    time_ms: float
    lane: str
    text: str
    bad: bool = False


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
    steps: tuple[Step, ...]
    has_log: bool

    @property
    def overwritten(self) -> bool:
        """Tell whether the newer write had reached the block before the late copy of the old one."""
        return any(copy.value == self.new and copy.applied_ms is not None for copy in self.copies)

    def look(self, value: int) -> str:
        """Colour class of a value: the old one, the new one, or any other."""
        return "old" if value == self.old else "new" if value == self.new else "plain"


def tell(run: RunData, anomaly: Anomaly) -> Story | None:
    """Make the story of an anomaly; None when its witness holds no operation."""
    if not anomaly.ops:
        return None
    reads = [op for op in anomaly.ops if op.f == "read" and op.outcome == "ok"]
    bad = reads[-1] if reads else None
    old = bad.value if bad else anomaly.ops[0].value
    newer = [op for op in anomaly.ops if op.f == "write" and op.value != old]
    new = newer[-1].value if newer else next((op.value for op in reads if op.value != old), None)
    block = anomaly.block if anomaly.block >= 0 else anomaly.ops[0].block
    copies = tuple(c for c in run.copies if c.value in (old, new) and c.value > 0)[:_MAX_COPIES]
    begin = min([op.start_ms for op in anomaly.ops] + [copy.received_ms for copy in copies]) - _LEAD_MS
    end = max(op.finish_ms if op.finish_ms is not None else op.start_ms for op in anomaly.ops)
    ends = [copy.end_ms for copy in copies if copy.received_ms <= end]
    end = max([end, *ends]) + _LEAD_MS
    # What the host saw can stand beside what the guest saw only on one clock.
    joined = run.aligned
    moves = tuple(m for m in run.moves if joined and m.begin_ms < end and m.resumed_ms > begin)
    bands = tuple(
        outage
        for outage in (_seen_from(run, band) for band in run.bands if _is_outage(band))
        if joined and outage.begin_ms < end and outage.end_ms > begin
    )
    nodes = _nodes(run, anomaly, copies, moves)
    late = _late(copies, old, new)
    contents = _contents(run, block, old, begin, end) if copies else ()
    facts = _Facts(run, anomaly, block, old, new, bad, copies, late, moves, bands)
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
        facts.steps(),
        run.has_target_log and bool(copies),
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """Turns the facts into sentences in order of time."""

    run: RunData
    anomaly: Anomaly
    block: int
    old: int
    new: int | None
    bad: Op | None
    copies: tuple[Copy, ...]
    late: Copy | None
    moves: tuple[Move, ...]
    bands: tuple[Band, ...]

    def steps(self) -> tuple[Step, ...]:
        """All sentences, numbered."""
        told: list[tuple[float, str, str, bool]] = []
        told += self._writes() if self.copies else self._guest_writes()
        told += self._outages()
        told += self._moves()
        told += self._landing()
        told += self._reads()
        told.sort(key=lambda item: item[0])
        return tuple(Step(i, *item) for i, item in enumerate(told, start=1))

    def _writes(self) -> list[tuple[float, str, str, bool]]:
        told = []
        seen: set[int] = set()
        for copy in self.copies:
            first = copy.value not in seen
            seen.add(copy.value)
            value, node = show_value(copy.value), copy.node.upper()
            became = _what_became(copy, copy is self.late)
            if first and copy.value == self.old:
                text = f"{node} sends write {value} to block {self.block}. {became}"
            elif first:
                text = f"The guest on {node} overwrites block {self.block} with {value}. {became}"
            else:
                text = f"{node} sends {value} again, since its first copy was never answered. {became}"
            told.append((copy.received_ms, "storage", text, False))
        return told

    def _guest_writes(self) -> list[tuple[float, str, str, bool]]:
        told = []
        for op in self.anomaly.ops:
            if op.f != "write":
                continue
            end = {
                "ok": "It is acknowledged.",
                "fail": "It is refused.",
                "info": "Its outcome stays unknown.",
            }
            where = f" on {op.node.upper()}" if op.node else ""
            told.append(
                (
                    op.start_ms,
                    "guest",
                    f"The guest{where} writes {op.shown} to block {op.block}. {end[op.outcome]}",
                    False,
                )
            )
        return told

    def _outages(self) -> list[tuple[float, str, str, bool]]:
        told = []
        for band in self.bands:
            proof = _proof(self.run, band)
            node = band.node.upper()
            what = f"{node} loses its path to the storage" if node else "The path to the storage is lost"
            seen = f" (seen: {proof.text})" if proof and proof.text else ""
            told.append((band.begin_ms, "path", f"{what}{seen}.", False))
        return told

    def _moves(self) -> list[tuple[float, str, str, bool]]:
        told = []
        for move in self.moves:
            held = [c for c in self.copies if c.received_ms <= move.stopped_ms < c.end_ms]
            policy = next(
                (
                    event.name
                    for event in self.run.events
                    if event.source == "handoff" and move.end_ms - 1 <= event.time_ms <= move.resumed_ms + 1
                ),
                "",
            )
            text = f"The guest moves live from {move.source.upper()} to {move.destination.upper()}"
            if held:
                values = " and ".join(dict.fromkeys(show_value(copy.value) for copy in held))
                text += f" while {values} is still in flight"
            text += f". {_POLICIES[policy]}." if policy in _POLICIES else "."
            told.append((move.begin_ms, "guest", text, False))
        return told

    def _landing(self) -> list[tuple[float, str, str, bool]]:
        late = self.late
        if late is None or late.applied_ms is None:
            return []
        which = f"The late copy of {show_value(late.value)} that {late.node.upper()} had sent is applied"
        newer = show_value(self.new or 0)
        reached = any(copy.value == self.new and copy.applied_ms is not None for copy in self.copies)
        what = f"{which}, over {newer}." if reached else f"{which}; {newer} never reached the block."
        return [(late.applied_ms, "contents", what, True)]

    def _reads(self) -> list[tuple[float, str, str, bool]]:
        told = []
        for op in self.anomaly.ops:
            if op.f != "read" or op is self.bad:
                continue
            told.append((op.finish_ms or op.start_ms, "guest", f"A read returns {op.shown}.", False))
        if self.bad is not None:
            time = self.bad.finish_ms or self.bad.start_ms
            told.append((time, "guest", _ending(self.anomaly, self.bad, self.new), True))
        return told


def _what_became(copy: Copy, late: bool) -> str:
    if late and copy.action == "park":
        return "It is held up in the network: no answer."
    if late:
        return "The storage accepts it and keeps it in flight: no answer."
    if copy.action == "ignore":
        return (
            "The storage ignores it, as a write to the block is in flight, and acknowledges it all the same."
        )
    if copy.applied_ms is not None and copy.outcome == "ok":
        return "It is applied and acknowledged."
    if copy.applied_ms is not None:
        return "It is applied, but the acknowledgement does not get through."
    why = f": {copy.why}" if copy.why else ""
    if copy.outcome in ("refused", "aborted"):
        return f"The storage has it {copy.outcome}{why}."
    return f"It is not applied{why}."


def _ending(anomaly: Anomaly, bad: Op, new: int | None) -> str:
    got = f"A read of block {bad.block} returns {bad.shown}"
    if anomaly.kind in ("phantom", "torn", "misdirected", "future-read", "aborted-read"):
        reason = {
            "phantom": "which nobody wrote",
            "torn": "half of one write and half of another",
            "misdirected": "a write to another block",
            "future-read": "before it was written: the harness or a clock is wrong",
            "aborted-read": "a write that certainly failed",
        }[anomaly.kind]
        return f"{got}, {reason}."
    if new is None:
        return f"{got}: {anomaly.kind}."
    acked = any(op.value == new and op.f == "write" and op.outcome == "ok" for op in anomaly.ops)
    gone = f"the {'acknowledged ' if acked else ''}write {show_value(new)} is gone"
    return f"{got}: {gone}." if bad.value else f"A read of block {bad.block} finds it never written: {gone}."


def _is_outage(band: Band) -> bool:
    return any(word in band.name for word in ("path", "partition", "cut", "reset", "link"))


def _proof(run: RunData, band: Band) -> HostEvent | None:
    """The event that proved the fault of a band."""
    for event in run.events:
        if (event.source, event.fault, event.phase) == ("fault", band.number, "proven"):
            return event
    return None


def _seen_from(run: RunData, band: Band) -> Band:
    """An outage is drawn from the cut to its healing; where neither is known, from when it was proven."""
    begin_ms, end_ms = band.begin_ms, band.end_ms
    proof = _proof(run, band)
    if proof:
        begin_ms = proof.time_ms
    for event in run.events:
        if event.source == "network" and event.fault == band.number:
            begin_ms = event.time_ms if event.phase == "cut" else begin_ms
            end_ms = event.time_ms if event.phase == "healed" else end_ms
    return replace(band, begin_ms=begin_ms, end_ms=end_ms)


def _late(copies: tuple[Copy, ...], old: int, new: int | None) -> Copy | None:
    """The copy of the old value applied after the new one was, or simply the last of several."""
    applied = [c for c in copies if c.value == old and c.applied_ms is not None]
    news = [c.end_ms for c in copies if c.value == new]
    after = [c for c in applied if news and (c.applied_ms or 0) > min(news)]
    return max(after, key=lambda c: c.applied_ms or 0) if after else None


def _nodes(
    run: RunData, anomaly: Anomaly, copies: tuple[Copy, ...], moves: tuple[Move, ...]
) -> tuple[str, ...]:
    names = [name for move in moves for name in (move.source, move.destination)]
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
