"""The hypervisors of the simulator: the guest is started, moved, stopped and killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from jepsen_blk.errors import LabError
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import GuestState, GuestStream, Migration, MigrationPhase, Progress
from jepsen_blk.lab.sim.bell import Bell
from jepsen_blk.lab.sim.frontend import Frontend
from jepsen_blk.lab.sim.guest import SimGuest
from jepsen_blk.lab.sim.target import SimTarget
from jepsen_blk.lab.sim.transport import Serial
from jepsen_blk.lab.sim.wire import GIVES_UP_S, SimNetwork
from jepsen_blk.spec import Spec

_COPY_S = 0.4
_STEP_S = 0.02
_UNENDING = 0.9
_SWITCH_S = 0.02
_FINISH_TIMEOUT_S = 60.0
_POLL_S = 0.01
NO_POSTCOPY = "the simulator moves a guest by pre-copy only"
NO_SECOND_RUN = "the simulator does not yet let a guest run where it has moved away from"
_ENDED = (MigrationPhase.COMPLETED, MigrationPhase.CANCELLED, MigrationPhase.FAILED)


@dataclass(slots=True, eq=False)
class Machine:
    """A node's hypervisor process; without a guest it waits for one, or is gone."""

    node: str
    state: GuestState
    frontend: Frontend
    guest: SimGuest | None = None


@dataclass(slots=True, eq=False)
class _Moving:
    """A migration, and its task; `before` is what the guest was when its source stopped it."""

    source: Machine
    destination: Machine
    mode: str
    pause: bool
    begin_ns: int
    phase: MigrationPhase = MigrationPhase.COPYING
    copied: float = 0.0
    before: GuestState = GuestState.RUNNING
    stopped_ns: int = 0
    end_ns: int = 0
    task: asyncio.Task[None] | None = None


class SimHypervisor:
    """Implements lab.seams.Hypervisor, but for post-copy."""

    def __init__(
        self, spec: Spec, network: SimNetwork, target: SimTarget, stream: GuestStream, nodes: tuple[str, str]
    ) -> None:
        self._spec = spec
        self._network, self._target = network, target
        self._attach: Callable[[str], Awaitable[None]] = stream.attach
        self._serials = {node: Serial(stream.accept(node)) for node in nodes}
        self._machines: dict[str, Machine] = {}
        self._movings: dict[str, _Moving] = {}
        self._bell = Bell()
        self._loop = asyncio.get_running_loop()
        network.on_migration = self._lose_migration

    async def start(self, node: str) -> None:
        """Start the guest on the node and let it run; one on another node runs on."""
        self._end(node)
        machine = self._make(node, GuestState.RUNNING)
        machine.guest = SimGuest()
        self._plug(machine)
        await self._attach(node)
        machine.guest.run()

    def prepare(self, node: str) -> None:
        """Have a process wait for an incoming guest on the node; what is there makes room."""
        machine = self._machines.get(node)
        if machine is None or machine.state is not GuestState.INCOMING:
            self._end(node)
            self._make(node, GuestState.INCOMING)

    async def state(self, node: str) -> GuestState:
        """Return the state of the node's guest."""
        machine = self._machines.get(node)
        return machine.state if machine else GuestState.ABSENT

    async def begin_migration(
        self, source: str, destination: str, mode: str = "precopy", *, pause: bool = False
    ) -> None:
        """Begin to copy the guest's memory."""
        if mode not in ("precopy", "unending"):
            raise LabError(NO_POSTCOPY)
        machine = self._machine(source)
        if machine.state not in (GuestState.RUNNING, GuestState.PAUSED, GuestState.IO_ERROR):
            raise LabError(f"the guest on {source} is {machine.state.value} and cannot be moved")
        if source in self._movings and self._movings[source].phase not in _ENDED:
            raise LabError(f"the guest on {source} is being moved already")
        self.prepare(destination)
        moving = _Moving(machine, self._machine(destination), mode, pause, self._now_ns())
        self._movings[source] = self._movings[destination] = moving
        moving.task = asyncio.create_task(self._move(moving))

    async def continue_migration(self, source: str) -> None:
        """Let the migration switch over."""
        self._moving(source).pause = False
        self._bell.ring()

    async def finish_migration(self, source: str) -> Migration:
        """Return once the destination holds the guest, stopped."""
        moving = self._moving(source)
        what = f"the migration from {source} did not end"
        await self._bell.until(lambda: moving.phase in _ENDED, _FINISH_TIMEOUT_S, what)
        if moving.phase is not MigrationPhase.COMPLETED:
            raise LabError(f"the migration from {source} {moving.phase.value}")
        destination = moving.destination.node
        await self._attach(destination)
        total_ms = (moving.end_ns - moving.begin_ns) / 1e6
        downtime_ms = (moving.end_ns - moving.stopped_ns) / 1e6
        times = (moving.begin_ns, moving.stopped_ns, moving.end_ns, total_ms, downtime_ms)
        return Migration(source, destination, moving.mode, *times, self._spec.guest.memory_mb << 20)

    async def cancel_migration(self, source: str) -> None:
        """Cancel it; the destination hears of it where its link is whole."""
        moving = self._moving(source)
        if moving.phase in _ENDED:
            raise LabError(f"the migration from {source} is over: it {moving.phase.value}")
        self._break_off(moving, MigrationPhase.CANCELLED)

    async def recover_migration(self, source: str) -> None:
        """Raise LabError: there is no post-copy that could be interrupted."""
        raise LabError(NO_POSTCOPY)

    async def wait_migration(self, node: str, phase: MigrationPhase, timeout_s: float) -> None:
        """Return once the last migration is in that phase."""
        moving = self._moving(node)
        what = f"the migration was not {phase.value}"
        await self._bell.until(lambda: moving.phase is phase or moving.phase in _ENDED, timeout_s, what)
        if moving.phase is not phase:
            raise LabError(f"the migration {moving.phase.value}: it was not {phase.value}")

    async def progress(self, source: str) -> Progress:
        """Return how far the last migration is."""
        moving = self._movings.get(source)
        return Progress(moving.phase, moving.copied, 0) if moving else Progress(MigrationPhase.NONE, 0.0, 0)

    async def pause(self, node: str) -> None:
        """Stop the guest's processors."""
        machine = self._machine(node)
        if machine.state is GuestState.RUNNING:
            self._stop(machine, GuestState.PAUSED)

    async def resume(self, node: str) -> None:
        """Let the guest run; what had failed, or came with it, is sent again."""
        machine = self._machine(node)
        if machine.state is GuestState.MIGRATED:
            raise LabError(NO_SECOND_RUN)
        if machine.state not in (GuestState.RUNNING, GuestState.PAUSED, GuestState.IO_ERROR):
            raise LabError(f"the guest on {node} does not resume: it is {machine.state.value}")
        self._run(machine)

    def stops_at(self, error: str) -> bool:
        """Tell whether a disk error of that name stops the guest."""
        errors = self._spec.guest.disk_errors
        return errors == "stop" or (errors, error) == ("enospc", "ENOSPC")

    def reconnects_s(self) -> float:
        """Tell how long the frontend tries a lost connection again."""
        return float(self._spec.guest.reconnect_delay_s)

    def requeues(self) -> bool:
        """Tell whether the frontend is Xen's."""
        return self._spec.guest.frontend == "blkfront"

    async def wait_state(self, node: str, state: GuestState, timeout_s: float) -> None:
        """Return once the node's guest is in that state."""

        def now() -> GuestState:
            machine = self._machines.get(node)
            return machine.state if machine else GuestState.ABSENT

        what = f"{state.value} on {node} did not come"
        await self._bell.until(lambda: now() in (state, GuestState.ABSENT), timeout_s, what)
        if now() is not state:
            raise LabError(f"there is no guest on {node} that could be {state.value}")

    async def wait_disk(self, node: str, timeout_s: float) -> None:
        """Return once the storage would answer a read of the node."""
        self._machine(node)
        end_s = self._loop.time() + timeout_s
        while not self._disk_answers(node):
            if self._loop.time() > end_s:
                raise LabError(f"the disk of {node} does not answer within {timeout_s:g} s")
            await asyncio.sleep(_POLL_S)

    async def kill(self, node: str) -> None:
        """Kill the node's process at once."""
        self._end(node)
        moving = self._movings.get(node)
        if moving is not None and moving.phase not in _ENDED:
            self._break_off(moving, MigrationPhase.FAILED)

    async def last_words(self, node: str) -> str:
        """A simulated guest ends only when it is killed."""
        return ""

    async def disconnect(self, node: str) -> None:
        """Drop the node's storage connections from its own side."""
        await self._network.reset(node, Path_.STORAGE)

    async def close(self) -> None:
        """End everything."""
        tasks = {moving.task for moving in self._movings.values() if moving.task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for node in self._machines:
            self._end(node)
        for serial in self._serials.values():
            serial.abort()

    async def _move(self, moving: _Moving) -> None:
        """Copy, stop the guest, let it drain, switch over."""
        source = moving.source
        silent_s = 0.0
        while moving.copied < 1.0:
            await asyncio.sleep(_STEP_S)
            if self._network.is_cut(source.node, Path_.MIGRATION):
                silent_s += _STEP_S
                if silent_s >= GIVES_UP_S:
                    self._break_off(moving, MigrationPhase.FAILED)
                    return
                continue
            silent_s = 0.0
            most = _UNENDING if moving.mode == "unending" else 1.0
            moving.copied = min(moving.copied + _STEP_S / _COPY_S, most)
        moving.before, moving.stopped_ns = source.state, self._now_ns()
        self._stop(source, GuestState.SWITCHING)
        moving.phase = MigrationPhase.STOPPED
        self._bell.ring()
        await self._bell.until(lambda: source.frontend.drained, 1e6, "the guest's requests did not end")
        if self._spec.storage.flush and self._network.is_cut(source.node, Path_.STORAGE):
            self._break_off(moving, MigrationPhase.FAILED)  # what cannot be flushed is not handed over
            return
        moving.phase = MigrationPhase.SWITCHOVER
        self._bell.ring()
        await self._bell.until(lambda: not moving.pause, 1e6, "the migration was not let switch over")
        await asyncio.sleep(_SWITCH_S)
        self._switch_over(moving)

    def _switch_over(self, moving: _Moving) -> None:
        source, destination = moving.source, moving.destination
        destination.guest, source.guest = source.guest, None
        destination.frontend.enter(source.frontend.leave())
        self._plug(destination)
        source.state, destination.state = GuestState.MIGRATED, GuestState.PAUSED
        moving.phase, moving.end_ns = MigrationPhase.COMPLETED, self._now_ns()
        self._bell.ring()

    def _break_off(self, moving: _Moving, phase: MigrationPhase) -> None:
        """End a migration that has not completed: the source goes on as it was."""
        moving.phase = phase
        if moving.task is not None and moving.task is not asyncio.current_task():
            moving.task.cancel()
        source, destination = moving.source, moving.destination
        if source.state is GuestState.SWITCHING:
            source.state = GuestState.IO_ERROR if source.frontend.failed else GuestState.PAUSED
            if moving.before is GuestState.RUNNING and source.state is GuestState.PAUSED:
                self._run(source)
        heard = not self._network.is_cut(source.node, Path_.MIGRATION)
        if heard and self._machines.get(destination.node) is destination:
            self._end(destination.node)
        self._bell.ring()

    def _lose_migration(self, node: str) -> int:
        moving = self._movings.get(node)
        if moving is None or moving.phase in _ENDED:
            return 0
        self._break_off(moving, MigrationPhase.FAILED)
        return 1

    def _make(self, node: str, state: GuestState) -> Machine:
        def stopped() -> None:
            if machine.state is GuestState.RUNNING:
                self._stop(machine, GuestState.IO_ERROR)

        frontend = Frontend(
            node, self._spec.guest, self._network, self._target, stopped=stopped, changed=self._bell.ring
        )
        machine = self._machines[node] = Machine(node, state, frontend)
        return machine

    def _plug(self, machine: Machine) -> None:
        """Connect the guest to the node's disk and port."""
        guest = machine.guest
        if guest is not None:
            guest.submitted = machine.frontend.submit
            guest.say = self._serials[machine.node].say
            self._serials[machine.node].guest = guest

    def _run(self, machine: Machine) -> None:
        machine.state = GuestState.RUNNING
        machine.frontend.resume()
        if machine.guest is not None and machine.state is GuestState.RUNNING:
            machine.guest.run()
        self._bell.ring()

    def _stop(self, machine: Machine, state: GuestState) -> None:
        machine.state = state
        if machine.guest is not None:
            machine.guest.stop()
        self._bell.ring()

    def _end(self, node: str) -> None:
        machine = self._machines.get(node)
        if machine is None or machine.state is GuestState.ABSENT:
            return
        self._stop(machine, GuestState.ABSENT)
        machine.guest = self._serials[node].guest = None
        machine.frontend.close()

    def _disk_answers(self, node: str) -> bool:
        target = self._target
        served = self._network.takes_connection(node) and not target.process.frozen
        return served and target.arbiter.admits(node)

    def _now_ns(self) -> int:
        return round(self._loop.time() * 1e9)

    def _machine(self, node: str) -> Machine:
        machine = self._machines.get(node)
        if machine is None or machine.state is GuestState.ABSENT:
            raise LabError(f"no guest on node {node}")
        return machine

    def _moving(self, node: str) -> _Moving:
        moving = self._movings.get(node)
        if moving is None:
            raise LabError(f"no migration has begun on {node}")
        return moving
