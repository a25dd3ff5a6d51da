"""How a guest moves in the simulator: its memory is copied, it is stopped, drains, and switches over.

In post-copy it does so at once, and works at the destination while its memory is still on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from jepsen_blk.errors import LabError
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import GuestState, Migration, MigrationPhase, Progress
from jepsen_blk.lab.sim.bell import Bell
from jepsen_blk.lab.sim.line import GIVES_UP_S
from jepsen_blk.lab.sim.machine import Machine
from jepsen_blk.lab.sim.wire import SimNetwork
from jepsen_blk.spec import Spec

_COPY_S = 0.4
_STEP_S = 0.02
_UNENDING = 0.9
_SWITCH_S = 0.02
_FINISH_TIMEOUT_S = 60.0
_EVER_S = 1e6
_POSTCOPY_BYTES_PER_S = 32 << 20
_POSTCOPY = (MigrationPhase.POSTCOPY, MigrationPhase.INTERRUPTED)
_ENDED = (MigrationPhase.COMPLETED, MigrationPhase.CANCELLED, MigrationPhase.FAILED)
MODES = ("precopy", "postcopy", "unending")


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
    page_requests: int = 0
    before: GuestState = GuestState.RUNNING
    stopped_ns: int = 0
    end_ns: int = 0
    task: asyncio.Task[None] | None = None

    @property
    def frozen(self) -> bool:
        """Tell whether one side stands still."""
        return self.source.frozen or self.destination.frozen


class Migrations:
    """The last migration of each node; `bell` is rung when one has come further."""

    def __init__(self, spec: Spec, network: SimNetwork, bell: Bell) -> None:
        self._flushes = spec.storage.flush
        self._memory_bytes = spec.guest.memory_mb << 20
        self._network = network
        self._bell = bell
        self._movings: dict[str, _Moving] = {}
        self._loop = asyncio.get_running_loop()
        network.on_migration = self._lose_link

    def require_none(self, source: str) -> None:
        """Raise LabError while the node's guest is being moved."""
        if source in self._movings and self._movings[source].phase not in _ENDED:
            raise LabError(f"the guest on {source} is being moved already")

    def begin(self, source: Machine, destination: Machine, mode: str, *, pause: bool) -> None:
        """Begin to copy the guest's memory."""
        moving = _Moving(source, destination, mode, pause, self._now_ns())
        self._movings[source.node] = self._movings[destination.node] = moving
        moving.task = asyncio.create_task(self._move(moving))

    def let_switch_over(self, source: str) -> None:
        """Let one that waits before its switch-over go on."""
        self._moving(source).pause = False
        self._bell.ring()

    async def finish(self, source: str) -> Migration:
        """Return once the destination holds the guest, stopped."""
        moving = self._moving(source)
        what = f"the migration from {source} did not end"
        over = (*_ENDED, *_POSTCOPY)
        await self._bell.until(lambda: moving.phase in over, _FINISH_TIMEOUT_S, what)
        if moving.phase not in (MigrationPhase.COMPLETED, *_POSTCOPY):
            raise LabError(f"the migration from {source} {moving.phase.value}")
        total_ms = (moving.end_ns - moving.begin_ns) / 1e6
        downtime_ms = (moving.end_ns - moving.stopped_ns) / 1e6
        times = (moving.begin_ns, moving.stopped_ns, moving.end_ns, total_ms, downtime_ms)
        return Migration(source, moving.destination.node, moving.mode, *times, self._memory_bytes)

    def cancel(self, source: str) -> None:
        """Cancel it; the destination hears of it where its link is whole."""
        moving = self._moving(source)
        if moving.phase in _ENDED:
            raise LabError(f"the migration from {source} is over: it {moving.phase.value}")
        if moving.phase in _POSTCOPY:
            raise LabError(f"the migration from {source} is {moving.phase.value}: there is no way back")
        self._break_off(moving, MigrationPhase.CANCELLED)

    def recover(self, source: str) -> None:
        """Take up an interrupted post-copy again; raises LabError without one, or where the path is cut."""
        moving = self._moving(source)
        if moving.phase is not MigrationPhase.INTERRUPTED:
            raise LabError(f"the migration from {source} is {moving.phase.value}, not interrupted")
        if self._network.is_cut(source, Path_.MIGRATION):
            raise LabError(f"the migration from {source} is not taken up again: its path is cut")
        moving.destination.feed()
        self._reach(moving, MigrationPhase.POSTCOPY)

    def lose_process(self, node: str) -> None:
        """Take in that the node's process was killed; in post-copy the guest never has its memory then."""
        moving = self._movings.get(node)
        if moving is None or moving.phase in _ENDED:
            return
        if moving.phase not in _POSTCOPY:
            self._break_off(moving, MigrationPhase.FAILED)
            return
        if moving.task is not None:
            moving.task.cancel()
        moving.destination.starve()
        self._reach(moving, MigrationPhase.FAILED)

    async def wait(self, node: str, phase: MigrationPhase, timeout_s: float) -> None:
        """Return once the node's last migration is in that phase."""
        moving = self._moving(node)
        what = f"the migration was not {phase.value}"
        await self._bell.until(lambda: moving.phase is phase or moving.phase in _ENDED, timeout_s, what)
        if moving.phase is not phase:
            raise LabError(f"the migration {moving.phase.value}: it was not {phase.value}")

    def progress(self, source: str) -> Progress:
        """Say how far the last migration is."""
        moving = self._movings.get(source)
        if moving is None:
            return Progress(MigrationPhase.NONE, 0.0, 0)
        return Progress(moving.phase, moving.copied, moving.page_requests)

    async def close(self) -> None:
        """End what is under way."""
        tasks = {moving.task for moving in self._movings.values() if moving.task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _move(self, moving: _Moving) -> None:
        """Copy, stop the guest, let it drain, switch over."""
        source = moving.source
        if moving.mode != "postcopy" and not await self._copied(moving):
            self._break_off(moving, MigrationPhase.FAILED)
            return
        moving.before, moving.stopped_ns = source.state, self._now_ns()
        source.stop(GuestState.SWITCHING)
        self._reach(moving, MigrationPhase.STOPPED)
        await self._until(moving, lambda: source.frontend.drained)
        if self._flushes and self._network.is_cut(source.node, Path_.STORAGE):
            self._break_off(moving, MigrationPhase.FAILED)  # what cannot be flushed is not handed over
            return
        self._reach(moving, MigrationPhase.SWITCHOVER)
        await self._until(moving, lambda: not moving.pause)
        await asyncio.sleep(_SWITCH_S)
        await self._until(moving, lambda: True)
        self._switch_over(moving)
        if moving.mode == "postcopy":
            self._reach(moving, MigrationPhase.POSTCOPY)
            while not await self._copied(moving):
                self._interrupt(moving)
                await self._until(moving, lambda: moving.phase is MigrationPhase.POSTCOPY)
        source.state = GuestState.MIGRATED
        self._reach(moving, MigrationPhase.COMPLETED)

    async def _copied(self, moving: _Moving) -> bool:
        """Return once the memory is copied, or that the link was reset or has been silent for too long."""
        silent_s = 0.0
        while moving.copied < 1.0:
            await asyncio.sleep(_STEP_S)
            if moving.frozen:
                continue  # the kernels of both sides acknowledge each other
            if moving.phase is MigrationPhase.INTERRUPTED:
                return False
            if self._network.is_cut(moving.source.node, Path_.MIGRATION):
                silent_s += _STEP_S
                if silent_s >= GIVES_UP_S:
                    return False
                continue
            silent_s = 0.0
            most = _UNENDING if moving.mode == "unending" else 1.0
            at_least_s = _COPY_S
            if moving.mode == "postcopy":
                moving.page_requests += moving.destination.state is GuestState.RUNNING
                at_least_s = self._memory_bytes / _POSTCOPY_BYTES_PER_S
            takes_s = max(at_least_s, self._network.stream_s(moving.source.node, self._memory_bytes))
            moving.copied = min(moving.copied + _STEP_S / takes_s, most)
        return True

    async def _until(self, moving: _Moving, condition: Callable[[], bool]) -> None:
        """Wait for the condition, and for both sides to be there for it."""
        await self._bell.until(lambda: condition() and not moving.frozen, _EVER_S, "the guest did not move")

    def _reach(self, moving: _Moving, phase: MigrationPhase) -> None:
        moving.phase = phase
        self._bell.ring()

    def _switch_over(self, moving: _Moving) -> None:
        source, destination = moving.source, moving.destination
        guest, requests = source.give_away()
        destination.plug(guest)
        destination.frontend.enter(requests)
        destination.state = GuestState.PAUSED
        moving.end_ns = self._now_ns()

    def _interrupt(self, moving: _Moving) -> None:
        """Leave the guest without the rest of its memory: it waits for the first page that it lacks."""
        moving.destination.starve()
        self._reach(moving, MigrationPhase.INTERRUPTED)

    def _break_off(self, moving: _Moving, phase: MigrationPhase) -> None:
        """End a migration that has not completed: the source goes on as it was, once it is there to learn."""
        source, destination = moving.source, moving.destination
        if source.frozen:
            source.frontend.process.keep(self._break_off, moving, phase)
            return
        if moving.task is not None and moving.task is not asyncio.current_task():
            moving.task.cancel()
        moving.phase = phase
        if source.state is GuestState.SWITCHING:
            source.state = GuestState.IO_ERROR if source.frontend.failed else GuestState.PAUSED
            if moving.before is GuestState.RUNNING and source.state is GuestState.PAUSED:
                source.run()
        if not self._network.is_cut(source.node, Path_.MIGRATION):
            destination.end()
        self._bell.ring()

    def _lose_link(self, node: str) -> int:
        """Reset the node's migration connections, if there are any; return how many migrations had some."""
        moving = self._movings.get(node)
        if moving is None or moving.phase in (*_ENDED, MigrationPhase.INTERRUPTED):
            return 0
        if moving.phase is MigrationPhase.POSTCOPY:
            self._interrupt(moving)
        else:
            self._break_off(moving, MigrationPhase.FAILED)
        return 1

    def _now_ns(self) -> int:
        return round(self._loop.time() * 1e9)

    def _moving(self, node: str) -> _Moving:
        moving = self._movings.get(node)
        if moving is None:
            raise LabError(f"no migration has begun on {node}")
        return moving
