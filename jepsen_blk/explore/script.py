"""A counter-example as a choreography: the steps with which a lab plays it again, written as a specification.

A script orders what it can: it issues, holds writes at the storage, cuts, moves, mends and reads. What it
cannot do is keep a message on the wire, or come between the steps of a handoff; a counter-example that rests
on that is played in the simulator by the explorer alone, and `Script.doubts` says which event it is.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepsen_blk.errors import UserError
from jepsen_blk.explore.case import BLOCK, Scope
from jepsen_blk.explore.register import INITIAL
from jepsen_blk.explore.trace import NAMES, Copy, Event, Trace
from jepsen_blk.spec import Spec, make_spec

Step = dict[str, Any]
_LATE_S = 40
"""A kernel tries again after some seconds, and a frontend waits for a path as long as it is told to."""


@dataclass(frozen=True, slots=True)
class Script:
    """The steps, and what of the counter-example they may fail to keep."""

    trace: Trace
    steps: tuple[Step, ...]
    doubts: tuple[str, ...]

    @property
    def spec(self) -> Spec:
        """Return the specification that plays it."""
        return make_spec(self.tables())

    def tables(self) -> dict[str, Any]:
        """Return the specification's tables."""
        case, result = self.trace.case, self.trace.result
        loss = {Scope.MIGRATION: "", Scope.PATH_LOSS: "", Scope.FAILOVER: ", at a failover"}[case.scope]
        deadlines = {deadline.value: verdict for deadline, verdict in result.deadlines.items()}
        return {
            "name": f"explored-{case.conflict.value}-{case.policy.value}",
            "about": f"found by explore: {case.policy.value} on {case.conflict.value}{loss}",
            **case.tables(),
            "expect": {
                "verdict": result.verdict,
                "anomalies": list(kinds(self.trace)),
                "deadlines": deadlines,
            },
            "nemesis": [{"fault": "choreography", "options": {"steps": list(self.steps)}}],
        }

    def write(self, path: Path) -> None:
        """Write it as TOML with what it shows; raises UserError where that cannot be."""
        try:
            path.write_text("\n".join(_lines(self)) + "\n", "utf-8")
        except OSError as error:
            raise UserError(f"--out {path}: cannot be written: {error.strerror or error}") from error


def kinds(trace: Trace) -> tuple[str, ...]:
    """Return the kinds of anomalies that the history has."""
    return tuple(sorted({anomaly.kind for anomaly in trace.result.anomalies}))


def write_script(trace: Trace) -> Script:
    """Return the steps of a counter-example."""
    writer = _Writer(trace)
    steps = tuple(writer.steps())
    return Script(trace, steps, tuple(writer.doubts))


class _Writer:
    def __init__(self, trace: Trace) -> None:
        self.doubts: list[str] = []
        self._events = trace.events
        self._ends = {copy: number for number, event in enumerate(self._events) for copy in event.ended}
        self._held: dict[int, Copy] = {}
        self._arms: dict[int, list[Copy]] = defaultdict(list)
        self._sort_arrivals()

    def steps(self) -> Iterator[Step]:
        """Yield them."""
        yield {"do": "quiesce"}
        yield {"do": "write", "block": BLOCK, "name": NAMES[INITIAL]}
        yield {"do": "await-write", "of": NAMES[INITIAL]}
        number = 0
        while number < len(self._events):
            end = self._group(number)
            for place in range(number, end):
                for copy in self._arms[place]:
                    yield {"do": "hold", "node": copy.node, "block": BLOCK, "name": _hold(copy)}
            yield from self._of(number, end)
            for event in self._events[number:end]:
                yield from self._came(event)
            number = end
        yield from ({"do": "read", "block": BLOCK}, {"do": "read", "block": BLOCK})

    def _sort_arrivals(self) -> None:
        """Find out which copies a hold has to keep, and when it is armed: before the copy is sent."""
        sent: dict[str, deque[int]] = defaultdict(deque)
        for number, event in enumerate(self._events):
            if event.arrived is not None:
                copy, since = event.arrived, sent[event.arrived.node].popleft()
                end = self._ends.get(copy.id, len(self._events))
                if end > number + 1:
                    self._held[copy.id] = copy
                    self._arms[since].append(copy)
                if number > since + 1:
                    self.doubts.append(
                        f"{copy} is on the wire from event {since + 1} to event {number + 1}, and no step of "
                        "a choreography keeps it there"
                    )
            if event.hung_up < 0 and self._events[number - 1].hung_up <= 0:
                self.doubts.append(
                    f"the end of a connection is on the wire until event {number + 1}, and no step of a "
                    "choreography keeps it there"
                )
            sent_by = [event.of] if event.stuck else []
            for node in event.sent or sent_by:
                if not (event.kind == "resend" and sent[node]):
                    sent[node].append(number)
                else:
                    sent[node][0] = number

    def _group(self, number: int) -> int:
        """Return the end of the events that are one step, or number + 1."""
        kind = self._events[number].kind
        if kind not in ("migrate", "switch-over", "fail-over"):
            return number + 1
        end = number + 1
        while end < len(self._events) and self._events[end].kind in ("switch-over", "step"):
            end += 1
            if self._events[end - 1].runs:
                return end
        return number + 1

    def _of(self, number: int, end: int) -> Iterator[Step]:
        event = self._events[number]
        whole = end > number + 1
        if event.kind == "migrate":
            if whole:
                yield {"do": "migrate"}
            else:
                yield {"do": "begin-migration", "pause": True}
                yield {"do": "await-migration", "phase": "stopped"}
        elif event.kind == "switch-over":
            yield {"do": "continue-migration"}
            yield {"do": "finish-migration"} if whole else {"do": "await-migration", "phase": "completed"}
        elif event.kind == "fail-over":
            if whole:
                yield from ({"do": "fail-over"}, {"do": "quiesce"})
        elif event.kind == "step":
            yield from self._stray(number, event)
        else:
            yield from self._plain(event)

    def _stray(self, number: int, event: Event) -> Iterator[Step]:
        """A step of a handoff that other events have come before."""
        if event.runs:
            failover = any(before.kind == "fail-over" for before in self._events[:number])
            yield from ({"do": "fail-over"}, {"do": "quiesce"}) if failover else ({"do": "finish-migration"},)
        else:
            self.doubts.append(
                f"event {number + 1} is a step of the handoff with other events around it, and no step of a "
                "choreography comes between those of a handoff"
            )

    def _plain(self, event: Event) -> Iterator[Step]:
        name = NAMES[event.wrote]
        if event.kind == "issue":
            yield {"do": "write", "block": BLOCK, "name": name}
            if event.stuck:
                yield {"do": "await-unacknowledged", "node": event.of}
        elif event.kind in ("cut", "reset", "mend", "kill"):
            yield {"do": event.kind, "node": event.of}
        elif event.kind == "give-up":
            yield {"do": "reset", "node": event.of}
        elif event.kind == "let-run":
            yield {"do": "resume", "node": event.of}
        elif event.kind == "apply":
            for copy in event.ended:
                if copy in self._held:
                    yield {"do": "release", "hold": _hold(self._held[copy])}

    def _came(self, event: Event) -> Iterator[Step]:
        """Wait for what came of an event."""
        if event.stopped:
            yield {"do": "await-guest", "node": event.stopped, "state": "io-error", "timeout_s": _LATE_S}
        if event.arrived is not None:
            if event.arrived.id in self._held:
                yield {"do": "await-held", "hold": _hold(event.arrived), "timeout_s": _LATE_S}
            elif event.reissues:
                node = event.arrived.node
                yield {"do": "await-reissue", "node": node, "count": event.reissues, "timeout_s": _LATE_S}
        for name in event.told:
            yield {"do": "await-write", "of": NAMES[name]}
        if event.read is not None:
            yield {"do": "read", "block": BLOCK}


def _hold(copy: Copy) -> str:
    return f"{NAMES[copy.name]} of {copy.node} {copy.ordinal + 1}"


def _lines(script: Script) -> Iterator[str]:
    tables = script.tables()
    yield "# Written by jepsen-blk explore. What happens, in all interleavings the shortest that fails:"
    yield from (f"# {line}" for line in told(script.trace))
    yield from (f"{key} = {_toml(tables[key])}" for key in ("name", "about", "lab") if key in tables)
    for key in ("expect", "guest", "storage", "handoff"):
        if key in tables:
            yield from ("", f"[{key}]", *(f"{name} = {_toml(value)}" for name, value in tables[key].items()))
    yield from ("", "[[nemesis]]", 'fault = "choreography"', "options.steps = [")
    yield from (f"  {_toml(step)}," for step in script.steps)
    yield "]"


def _toml(value: Any) -> str:
    """Write a value in a line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value)


def told(trace: Trace) -> Iterator[str]:
    """Yield a counter-example in words, a line an event."""
    for number, event in enumerate(trace.events, 1):
        if not event.settling:
            read = "" if event.read is None else f"; the guest reads {_seen(event.read)}"
            yield f"{number:2}. {event.text}{read}"
    left = [event.text for event in trace.events if event.settling and event.ended]
    after = f"{'; '.join(left)}; " if left else ""
    yield f"    At last: {after}the guest reads {_seen(trace.last_read)}."
    yield f"    {trace.damage[0].upper()}{trace.damage[1:]}."


def _seen(value: int) -> str:
    return NAMES[value] if value != INITIAL else "what was there before"
