"""The world that is explored: the simulator's own parts, and every event that may be next.

An event is known by its key, so that a list of keys is an interleaving and plays again alike. Time stands
still: what a part of the simulator sets a timer for may happen at any point, in any order but that of the
messages of one connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jepsen_blk.errors import InternalError
from jepsen_blk.explore.case import BLOCK, Case, Scope, Wire
from jepsen_blk.explore.fingerprint import Fingerprint, position
from jepsen_blk.explore.guest import ScriptedGuest, stamp
from jepsen_blk.explore.loop import ChoiceLoop, Timer, at_once
from jepsen_blk.explore.register import INITIAL, A, B, Hears
from jepsen_blk.explore.seams import DeafStream, Memory, OneBlock, StepwiseHypervisor, StepwiseStorage, Turns
from jepsen_blk.handoff import Handoff, run_handoff
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import GuestState, MigrationPhase
from jepsen_blk.lab.sim.connection import Connection, Flow
from jepsen_blk.lab.sim.target import SimTarget
from jepsen_blk.lab.sim.wire import SimNetwork
from jepsen_blk.spec import Spec

X, Y = "x", "y"
WRITES = {INITIAL: stamp(0, 1), A: stamp(0, 2), B: stamp(0, 3)}
AGAIN = {B: stamp(1, 1)}
"""In a failover the second write is that of the next boot."""

Key = tuple[str, int | str]
"""An event: what it is, and the timer's number, or the node or write that it is of."""

_TIMED = {"_deliver": "arrive", "_due": "apply", "_give_up": "give-up", "_try_again": "retry"}
_TIMED |= {"_send_again": "resend", "go": "step"}
"""What a timer is for, by the method that it calls."""
TIMED_KINDS = frozenset((*_TIMED.values(), "too-late"))
"""Events of which the key has the number of a timer."""


@dataclass(slots=True)
class Done:
    """What of the move and the loss has happened."""

    moved: str = ""
    cut: bool = False
    mended: bool = False
    reset: bool = False
    killed: bool = False
    let_run: int = 0


class World:
    """One execution; `hears` is told what the guest issues, is told and reads."""

    def __init__(self, case: Case, spec: Spec, hears: Hears) -> None:
        self.loop = ChoiceLoop()  # type: ignore[abstract]  # what it lacks is for real files and sockets
        asyncio._set_running_loop(self.loop)
        self.case, self.hears = case, hears
        self.log = Memory()
        self.target = SimTarget(spec.storage.conflict, 0.0, self.log, OneBlock())
        self.network = SimNetwork(self.target.disconnect)
        self.turns = Turns(self.loop)
        self.hypervisor = StepwiseHypervisor(
            self.turns, spec, self.network, self.target, DeafStream(), (X, Y), self._boot
        )
        self.storage = StepwiseStorage(self.turns, self.target)
        self.guests: list[ScriptedGuest] = []
        self.done = Done()
        self._handoff = spec.handoff
        self._handing: asyncio.Task[None] | None = None
        at_once(self.hypervisor.start(X))
        if case.scope is not Scope.FAILOVER:
            self.hypervisor.prepare(Y)
        self.loop.settle()

    # What may be next.

    def choices(self) -> list[Key]:
        """Return all events that may be next; those that let things arrive come first."""
        found = [*self._timers(), *self._moves()]
        return sorted(found, key=lambda key: _ORDER[key[0]])

    def _timers(self) -> Iterator[Key]:
        flows: set[int] = set()
        for number, timer in self.loop.timers.items():
            kind = _TIMED.get(timer.method)
            if kind is None:
                raise InternalError(f"the explorer does not know the timer {timer.method}")
            if kind == "arrive":
                if id(timer.owner) in flows:
                    continue
                flows.add(id(timer.owner))
            if kind == "step" and self.case.wire is Wire.PROMPT and self._on_wire():
                continue
            if kind == "retry" and self._is_cut():
                yield "too-late", number
            else:
                yield kind, number

    def _moves(self) -> Iterator[Key]:
        done, failover = self.done, self.case.scope is Scope.FAILOVER
        for number, each in enumerate(self.guests):
            if each.next is not None:
                yield "issue", number
        if self._may_be_lost():
            yield "cut", X
            if not failover:
                yield "reset", X
        if self._is_cut():
            yield "mend", X
        if failover:
            if not done.killed and not done.moved:
                yield "kill", X
            if not done.moved and (done.cut or done.killed):
                yield "fail-over", X
        elif not done.moved and self.state(X) in (GuestState.RUNNING, GuestState.IO_ERROR):
            yield "migrate", X
        elif done.moved == "stopped" and self._at_switch_over():
            yield "switch-over", X
        yield from self._let_runs()

    def _may_be_lost(self) -> bool:
        """Tell whether X may lose its path now: once, and as long as anything could come of it."""
        done, scope = self.done, self.case.scope
        if done.cut or done.reset or scope is Scope.MIGRATION:
            return False
        if scope is Scope.FAILOVER:
            return not done.moved
        return not done.moved or self._on_wire() or bool(self.target.of(X))

    def _let_runs(self) -> Iterator[Key]:
        """Yield where a guest that an error has stopped may be let run.

        On Y: once, and again once that cannot fail any more. On X a guest that is to migrate waits for
        that; one that was replaced is let run once, when its path is whole.
        """
        once = self.done.let_run == 0
        if self.state(Y) is GuestState.IO_ERROR and (once or not (self.target.pending or self._on_wire())):
            yield "let-run", Y
        replaced = self.case.scope is Scope.FAILOVER and not self._is_cut()
        if replaced and once and self.state(X) is GuestState.IO_ERROR:
            yield "let-run", X

    # What is done.

    def perform(self, key: Key) -> None:
        """Let the event happen."""
        kind, of = key
        if kind in TIMED_KINDS:
            self._take(kind, int(of))
            return
        if kind == "issue":
            guest = self.guests[int(of)]
            if self._heard(guest) and guest.next is not None:
                self.hears.issued(guest.next)
            guest.issue()
        elif kind == "cut":
            self.done.cut = True
            at_once(self.network.cut(X, Path_.STORAGE))
        elif kind == "reset":
            self.done.reset = True
            at_once(self.network.reset(X, Path_.STORAGE))
        elif kind == "mend":
            self.done.mended = True
            at_once(self.network.heal(X, Path_.STORAGE))
        elif kind == "kill":
            self.done.killed = True
            at_once(self.hypervisor.kill_now(X))
        elif kind == "migrate":
            self.done.moved = "stopped"
            at_once(self.hypervisor.begin_migration(X, Y, pause=True))
        elif kind == "switch-over":
            self.done.moved = "moved"
            at_once(self.hypervisor.continue_migration(X))
            self._handing = self.loop.create_task(self._finish_migration())
        elif kind == "fail-over":
            self.done.moved = "moved"
            self._handing = self.loop.create_task(self._fail_over())
        else:
            self.done.let_run += 1
            at_once(self.hypervisor.resume(str(of)))
        self.loop.settle()

    def _take(self, kind: str, number: int) -> None:
        if kind == "too-late":
            self.loop.now_s = float(self.loop.timers[number].args[0])
        self.loop.take(number)
        self.loop.now_s = 0.0
        if self._handing is not None and self._handing.done():
            self._handing.result()

    def waiting_as(self, key: Key) -> int | None:
        """Return where among the timers an event waits, or None for what waits for no timer."""
        kind, of = key
        return [*self.loop.timers].index(int(of)) if kind in TIMED_KINDS else None

    def look(self) -> None:
        """Have the guest read, if nothing stands between it and the storage."""
        guest, node = self.guests[-1], Y if self.state(Y) is GuestState.RUNNING else X
        machine = self.hypervisor.machine(node)
        if machine is None or machine.guest is not guest or not guest.running:
            return
        if machine.frontend.clear:
            self.target.read(node, BLOCK, self._seen)

    def fingerprint(self) -> tuple[Any, tuple[Any, ...]]:
        """Return what this state is known by: all that can be reached, and the events in waiting."""
        walk = Fingerprint()
        done = self.done
        body = (
            (done.moved, done.cut, done.mended, done.reset, done.killed, done.let_run),
            walk.of(self.target),
            walk.of(self.network),
            walk.of(self.hypervisor),
            walk.of(self.guests),
            position(self._handing),
        )
        return body, tuple([walk.apart().of(timer) for timer in self.loop.timers.values()])

    def _seen(self, code: int, data: bytes) -> None:
        if not code:
            self.hears.read(_VALUE_OF.get(data, INITIAL))

    # How the guest moves: as nemesis.fault.Stage has it, with a choice before each step.

    async def _finish_migration(self) -> None:
        await self.hypervisor.finish_migration(X)
        await self._hand_over()
        await self.turns.take("run", Y)
        await self.hypervisor.resume(Y)

    async def _fail_over(self) -> None:
        await self._hand_over()
        await self.turns.take("start", Y)
        if not self.guests[0].told:
            self.hears.fenced(A)
        await self.hypervisor.start(Y)

    async def _hand_over(self) -> None:
        await run_handoff(Handoff(self._handoff, self.storage, self.hypervisor, X, Y))

    def _boot(self) -> ScriptedGuest:
        if self.case.scope is not Scope.FAILOVER:
            writes = tuple((name, WRITES[name][1]) for name in (A, B))
        else:
            name = B if self.guests else A
            writes = ((name, (AGAIN if self.guests else WRITES)[name][1]),)
        guest = ScriptedGuest(writes, self._ended)
        self.guests.append(guest)
        return guest

    def _ended(self, guest: ScriptedGuest, name: int, done: bool) -> None:
        if self._heard(guest):
            (self.hears.told if done else self.hears.failed)(name)

    def _heard(self, guest: ScriptedGuest) -> bool:
        """Tell whether what the guest does is still part of the history: not once another has taken over."""
        return guest is self.guests[-1]

    # What is so.

    def state(self, node: str) -> GuestState:
        """Return the state of the node's guest."""
        return at_once(self.hypervisor.state(node))

    def stuck_bytes(self) -> int:
        """Return how much X's kernel holds for a path that is cut."""
        return at_once(self.network.unacknowledged_bytes(X, Path_.STORAGE))

    def _is_cut(self) -> bool:
        return self.done.cut and not self.done.mended

    def _at_switch_over(self) -> bool:
        return at_once(self.hypervisor.progress(X)).phase is MigrationPhase.SWITCHOVER

    def _on_wire(self) -> bool:
        """Tell whether anything that X has sent to the storage has not arrived."""
        timers = self.loop.timers.values()
        return bool(self.stuck_bytes()) or any(is_outward(t) and connection_of(t).node == X for t in timers)


def is_outward(timer: Timer) -> bool:
    """Tell whether the timer is a message to the storage."""
    return (
        isinstance(timer.owner, Flow)
        and timer.method == "_deliver"
        and connection_of(timer).out is timer.owner
    )


def connection_of(timer: Timer) -> Connection:
    """Return the connection of a message."""
    connection: Connection = timer.args[1][0]
    return connection


_VALUE_OF = {WRITES[A][1]: A, WRITES[B][1]: B, AGAIN[B][1]: B}
_ORDER = {
    kind: number
    for number, kind in enumerate(
        (
            *("arrive", "issue", "cut", "reset", "kill", "give-up", "too-late", "migrate", "switch-over"),
            *("fail-over", "step", "let-run", "retry", "apply", "mend", "resend"),
        )
    )
}
