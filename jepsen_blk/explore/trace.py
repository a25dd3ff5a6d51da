"""A counter-example, event by event: what happened in the field's words, and what a script needs of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from jepsen_blk.checker.verdict import Result
from jepsen_blk.explore.case import Case, Scope
from jepsen_blk.explore.chronicle import Chronicle
from jepsen_blk.explore.loop import Timer
from jepsen_blk.explore.register import INITIAL, A, B
from jepsen_blk.explore.search import stopped_time
from jepsen_blk.explore.world import AGAIN, TIMED_KINDS, WRITES, Key, World, X, Y, connection_of, is_outward
from jepsen_blk.lab.seams import GuestState
from jepsen_blk.lab.sim.guest import Request
from jepsen_blk.storage.conflict import Decision
from jepsen_blk.storage.log import WriteLine

NAMES = ("before", "A", "A'")
"""Of the values, in their order."""
_FINAL_READS = 2
_MOST_SETTLING = 50
_ORDINALS = ("first", "second", "third", "fourth")
_SETTLES = ("arrive", "apply", "resend", "retry", "mend")
_STEPS = {
    "in-flight": "the handoff sees that the storage has nothing of {node} in flight",
    "fence": "the storage is told to refuse new commands of {node}",
    "fence-and-abort": "the storage is told to refuse {node}'s commands and to abort the accepted ones",
    "epoch": "the storage is told that {node} has a new epoch",
    "single-writer": "the storage is told that {node} is the single writer",
    "unfence": "the storage is told to admit {node}",
    "disconnect": "{node}'s connections to the storage are dropped from its own side",
    "kill": "the hypervisor of {node} is killed",
    "run": "the guest is let run on {node}",
    "start": "a new guest is started on {node}: what the old one had not been told is fenced off",
}
_WORDS = {
    "cut": "{of}'s path to the storage is cut",
    "reset": "{of}'s connection to the storage is reset",
    "mend": "{of}'s path is mended",
    "kill": "the hypervisor of {of} is killed",
    "migrate": "the migration stops the guest on {of}",
    "switch-over": "the guest is switched over to Y",
    "fail-over": "the cluster takes {of} for lost",
    "let-run": "the guest on {of} is let run again",
    "give-up": "X gives its silent connection up",
    "too-late": "X tries to connect no longer",
    "retry": "X tries to connect again",
    "resend": "X's kernel sends again what the cut had swallowed",
}


@dataclass(frozen=True, slots=True)
class Copy:
    """A write as it arrived: which it is of, from where, its number at the storage, the how-manieth copy."""

    id: int
    name: int
    node: str
    ordinal: int

    def __str__(self) -> str:
        return f"the {_ORDINALS[self.ordinal]} copy of {NAMES[self.name]} ({self.node.upper()})"


@dataclass(slots=True)
class Event:
    """What happened, and what came of it."""

    kind: str
    of: str
    text: str = ""
    sent: list[str] = field(default_factory=list)
    """The nodes of the writes that were put on the wire here, one each."""
    stuck: bool = False
    arrived: Copy | None = None
    reissues: int = 0
    """How many writes the copy's node has sent again by now, where this was one."""
    ended: list[int] = field(default_factory=list)
    """The ids of the copies that ended here."""
    told: list[int] = field(default_factory=list)
    stopped: str = ""
    """The node on which an I/O error stopped the guest."""
    read: int | None = None
    hung_up: int = 0
    """How many ends of connections were put on the wire here, less those that arrived."""
    runs: bool = False
    """Whether it is the last step of the handoff."""
    wrote: int = 0
    settling: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """A counter-example; `events` are those of the shortest, and those with which what is left ends."""

    case: Case
    events: tuple[Event, ...]
    result: Result
    damage: str
    last_read: int


class _Recorder(Chronicle):
    """Notes also what the guest was told since it was asked last."""

    def __init__(self, values: dict[int, int]) -> None:
        self.news: list[int] = []
        super().__init__(values)
        self.news.clear()

    def told(self, value: int) -> None:
        """Take it in, and note it."""
        super().told(value)
        self.news.append(value)


def trace(case: Case, path: tuple[Key, ...]) -> Trace:
    """Play the events again, let what is left end, and say what happened."""
    with stopped_time():
        return _Tracer(case).trace(path)


class _Tracer:
    """Looks at the world before and after each event."""

    def __init__(self, case: Case) -> None:
        self._case = case
        second = AGAIN if case.scope is Scope.FAILOVER else WRITES
        self._chronicle = _Recorder({**{name: WRITES[name][0] for name in (INITIAL, A)}, B: second[B][0]})
        self._world = World(case, case.spec(), self._chronicle)
        self._copies: dict[int, Copy] = {}
        self._stopped: set[str] = set()
        self._events: list[Event] = []

    def trace(self, path: tuple[Key, ...]) -> Trace:
        """Play everything; keep the reads without which the history would not fail in the same way."""
        read_after = [-1] if self._look() else []
        for key in path:
            self._play(key, settling=False)
            read_after += [len(self._events) - 1] if self._look() else []
        while left := [key for key in self._world.choices() if key[0] in _SETTLES]:
            if len(self._events) > len(path) + _MOST_SETTLING:
                break
            self._play(left[0], settling=True)
        for _ in range(_FINAL_READS):
            read_after += [len(self._events)] if self._look() else []
        result, kept = self._fewest_reads(read_after)
        for number in kept:
            if 0 <= read_after[number] < len(self._events):
                self._events[read_after[number]].read = self._chronicle.values_read[number]
        return Trace(self._case, tuple(self._events), result, self._damage(), self._chronicle.values_read[-1])

    def _look(self) -> bool:
        """Have the guest read; tell whether it could."""
        before = self._chronicle.reads
        self._world.look()
        return self._chronicle.reads > before

    def _fewest_reads(self, read_after: list[int]) -> tuple[Result, list[int]]:
        """Leave out reads, first ones first, as long as the result is the same; the last are kept."""
        most = self._chronicle.judge()
        without: frozenset[int] = frozenset()
        for number in range(len(read_after)):
            if read_after[number] == len(self._events):
                break
            fewer = self._chronicle.judge(without | {number})
            if _told(fewer) == _told(most):
                without |= {number}
        kept = [number for number in range(len(read_after)) if number not in without]
        return self._chronicle.judge(without), kept

    def _play(self, key: Key, *, settling: bool) -> None:
        world, target = self._world, self._world.target
        timer = world.loop.timers.get(int(key[1])) if key[0] in TIMED_KINDS else None
        sent = {number for number, _ in self._requests()}
        ends = self._ends_on_wire()
        stuck, received, logged = world.stuck_bytes(), target.received, len(world.log.lines)
        reissues = {node: target.reissues.count(node) for node in (X, Y)}
        world.perform(key)
        event = Event(key[0], self._of(key, timer), settling=settling)
        event.runs = timer is not None and event.kind == "step" and timer.args[1] in ("run", "start")
        event.wrote = self._chronicle.issued_last if event.kind == "issue" else 0
        event.sent = [node for number, node in self._requests() if number not in sent]
        event.hung_up = self._ends_on_wire() - ends
        event.stuck = world.stuck_bytes() > stuck
        if target.received > received and timer is not None:
            event.arrived = self._arrival(timer)
            again = target.reissues.count(event.arrived.node)
            event.reissues = again if again > reissues[event.arrived.node] else 0
        lines = world.log.lines[logged:]
        event.ended = [line.id for line in lines]
        event.told, self._chronicle.news = self._chronicle.news, []
        stopped = {node for node in (X, Y) if world.state(node) is GuestState.IO_ERROR}
        event.stopped = "".join(stopped - self._stopped)
        self._stopped = stopped
        event.text = "; ".join(self._words(event, timer, lines))
        self._events.append(event)

    def _of(self, key: Key, timer: Timer | None) -> str:
        """Return the node that an event is of."""
        kind, of = key
        if timer is not None and kind == "step":
            return str(timer.args[2])
        if kind == "issue":
            return (
                Y
                if self._world.state(Y) in (GuestState.RUNNING, GuestState.IO_ERROR)
                and of == len(self._world.guests) - 1
                else X
            )
        return str(of) if isinstance(of, str) else X

    def _requests(self) -> list[tuple[int, str]]:
        """Return the writes on the wire, as (number of the timer, node)."""
        timers = self._world.loop.timers.items()
        return [(number, connection_of(t).node) for number, t in timers if _request_of(t) and is_outward(t)]

    def _ends_on_wire(self) -> int:
        timers = self._world.loop.timers.values()
        return sum(is_outward(timer) and _request_of(timer) is None for timer in timers)

    def _arrival(self, timer: Timer) -> Copy:
        request = _request_of(timer)
        name = request.number if request else 0
        ordinal = sum(copy.name == name for copy in self._copies.values())
        copy = Copy(self._world.target.received, name, connection_of(timer).node, ordinal)
        self._copies[copy.id] = copy
        return copy

    def _words(self, event: Event, timer: Timer | None, lines: list[WriteLine]) -> Iterator[str]:
        """Say what happened, and what came of it."""
        kind, own = event.kind, event.arrived.id if event.arrived else 0
        if kind == "issue":
            yield f"the guest on {event.of.upper()} writes {NAMES[event.wrote]}"
        elif kind == "step" and timer is not None:
            yield _STEPS[timer.args[1]].format(node=event.of.upper())
        elif kind == "arrive" and timer is not None:
            yield self._message(event, timer)
        elif kind == "apply" and timer is not None:
            own = timer.args[0].write.id
            if own not in event.ended:
                yield f"the storage is ready with {self._copies[own]}, which waits still"
        else:
            yield _WORDS[kind].format(of=event.of.upper())
        if event.stuck:
            yield f"it stays in the kernel of {event.of.upper()}"
        for line in lines:
            yield self._end(line, "it" if kind == "arrive" and line.id == own else str(self._copies[line.id]))
        if kind == "arrive" and own in self._world.target.pending:
            waits = self._world.target.pending[own].write.decision is Decision.WAIT
            yield "it waits" if waits else "it is in flight"
        for name in event.told:
            yield f"the guest is told that {NAMES[name]} is done"
        if event.stopped:
            yield f"the guest on {event.stopped.upper()} stops with an I/O error"

    def _message(self, event: Event, timer: Timer) -> str:
        node = connection_of(timer).node.upper()
        request = _request_of(timer)
        if event.arrived is not None:
            return f"{event.arrived} arrives at the storage"
        if request is None:
            return f"the storage learns that a connection of {node} has ended"
        return f"the reply to {NAMES[request.number]} arrives at {node}"

    @staticmethod
    def _end(line: WriteLine, copy: str) -> str:
        ends = {"apply": "is applied", "wait": "is applied", "ignore": "is completed and ignored"}
        ends |= {"refuse": "is refused", "abort": "is aborted"}
        why = f" ({line.why})" if line.why and line.action not in ("apply", "wait") else ""
        return f"{copy} {ends[line.action]}{why}"

    def _damage(self) -> str:
        """Say which copy of which write did it."""
        lines = self._world.log.lines
        ignored = [line for line in lines if line.action == "ignore"]
        if ignored:
            copies = " and ".join(str(self._copies[line.id]) for line in ignored)
            return f"{copies} {'was' if len(ignored) == 1 else 'were'} completed and never written"
        applied = [line for line in lines if line.applied_ns is not None]
        last = self._copies[applied[-1].id]
        where = next(n for n, event in enumerate(self._events, 1) if last.id in event.ended)
        return f"{last} was applied at last, by event {where}"


def _told(result: Result) -> object:
    return result.verdict, {anomaly.kind for anomaly in result.anomalies}, result.deadlines


def _request_of(timer: Timer) -> Request | None:
    """Return the write that a message is of, either way."""
    message = timer.args[1] if len(timer.args) > 1 and isinstance(timer.args[1], tuple) else ()
    return next((part for part in message if isinstance(part, Request)), None)
