"""The sentences of a story, in order of time: what was sent, cut, fenced, moved, applied and read.

They say what the facts are, and no more: where no log and no clock shows it, nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass

from jepsen_blk.checker.classify import ZOMBIES
from jepsen_blk.report.model import Anomaly, Band, Copy, HostEvent, Move, Op, RunData, show_value

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
class Facts:
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
    fence: HostEvent | None

    def steps(self) -> tuple[Step, ...]:
        """All sentences, numbered."""
        told: list[tuple[float, str, str, bool]] = []
        told += self._writes() if self.copies else self._guest_writes()
        told += self._outages()
        told += self._power_losses()
        told += self._fence()
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
            if self.fence and copy is self.late and copy.received_ms > self.fence.time_ms:
                became = "That is after the fence."
            if first and copy.value == self.old:
                text = f"{node} sends write {value} to block {self.block}. {became}"
            elif first and self.old not in seen:
                text = f"The guest on {node} writes {value} to block {self.block}. {became}"
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
            proof = proof_of(self.run, band)
            node = band.node.upper()
            what = f"{node} loses its path to the storage" if node else "The path to the storage is lost"
            seen = f" (seen: {proof.text})" if proof and proof.text else ""
            told.append((band.begin_ms, "path", f"{what}{seen}.", False))
        return told

    def _power_losses(self) -> list[tuple[float, str, str, bool]]:
        """What was flushed, and that the storage lost power after it, where that is the matter."""
        if self.anomaly.kind not in ("durability-loss", "split-survivor"):
            return []
        told = []
        for op in self.anomaly.ops:
            if op.f == "flush":
                text = "The guest is told that all it had written is on stable media."
                told.append((op.finish_ms or op.start_ms, "guest", text, False))
        for band in self.run.bands:
            proof = proof_of(self.run, band) if band.name == "power-loss" and self.run.aligned else None
            if proof:
                told.append((proof.time_ms, "storage", f"The storage loses power: {proof.text}.", False))
        ends = [op.start_ms for op in self.anomaly.ops]
        return [step for step in told if min(ends) <= step[0] <= max(ends)]

    def _fence(self) -> list[tuple[float, str, str, bool]]:
        if self.fence is None:
            return []
        node = self.fence.node.upper()
        text = f"{node} is given up, and its guest is fenced off: nothing of it may land from now on."
        return [(self.fence.time_ms, "guest", text, False)]

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
        over = overwritten(self.copies, late, self.new)
        what = {True: f", over {newer}.", False: f"; {newer} never reached the block.", None: "."}[over]
        what = f"{which}{what}"
        return [(late.applied_ms, "contents", what, True)]

    def _reads(self) -> list[tuple[float, str, str, bool]]:
        told = []
        for op in self.anomaly.ops:
            if op.f != "read" or op is self.bad:
                continue
            text = (
                f"A read returns {op.shown}." if op.value else f"A read finds block {op.block} never written."
            )
            told.append((op.finish_ms or op.start_ms, "guest", text, False))
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
    if anomaly.kind in ZOMBIES and any(op.value == new and op.f == "read" for op in anomaly.ops):
        closed = "the fence" if anomaly.kind == "fenced-zombie" else "its error"
        return f"{got}, which one after {closed} had not found."
    acked = any(op.value == new and op.f == "write" and op.outcome == "ok" for op in anomaly.ops)
    gone = f"the {'acknowledged ' if acked else ''}write {show_value(new)} is gone"
    return f"{got}: {gone}." if bad.value else f"A read of block {bad.block} finds it never written: {gone}."


def proof_of(run: RunData, band: Band) -> HostEvent | None:
    """The event that proved the fault of a band."""
    for event in run.events:
        if (event.source, event.fault, event.phase) == ("fault", band.number, "proven"):
            return event
    return None


def overwritten(copies: tuple[Copy, ...], late: Copy | None, new: int | None) -> bool | None:
    """Tell whether the late copy was applied over the new write, or that never was; None for neither."""
    if late is None or not new:
        return None
    applied = [copy.applied_ms for copy in copies if copy.value == new and copy.applied_ms is not None]
    if applied and min(applied) > (late.applied_ms or 0):
        return None
    return bool(applied)
