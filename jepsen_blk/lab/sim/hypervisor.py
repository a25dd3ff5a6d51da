"""The hypervisors of the simulator: the guest is started, moved, stopped and killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from jepsen_blk.errors import LabError
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import GuestState, GuestStream, Migration, MigrationPhase, Progress
from jepsen_blk.lab.sim.bell import Bell
from jepsen_blk.lab.sim.guest import Booted, SimGuest
from jepsen_blk.lab.sim.machine import Machine
from jepsen_blk.lab.sim.migration import MODES, Migrations
from jepsen_blk.lab.sim.target import SimTarget
from jepsen_blk.lab.sim.transport import Serial
from jepsen_blk.lab.sim.wire import SimNetwork
from jepsen_blk.spec import Spec

_POLL_S = 0.01
_ANSWER_TIMEOUT_S = 10.0
_STANDING = (GuestState.RUNNING, GuestState.PAUSED, GuestState.IO_ERROR)


class SimHypervisor:
    """Implements lab.seams.Hypervisor; `boot` makes the guest of each start."""

    def __init__(
        self,
        spec: Spec,
        network: SimNetwork,
        target: SimTarget,
        stream: GuestStream,
        nodes: tuple[str, str],
        boot: Callable[[], Booted] = SimGuest,
    ) -> None:
        self._spec = spec
        self._network, self._target = network, target
        self._boot = boot
        self._attach: Callable[[str], Awaitable[None]] = stream.attach
        self._serials = {node: Serial(stream.accept(node)) for node in nodes}
        self._machines: dict[str, Machine] = {}
        self._bell = Bell()
        self._migrations = Migrations(spec, network, self._bell)
        self._loop = asyncio.get_running_loop()

    async def start(self, node: str) -> None:
        """Start the guest on the node and let it run; one on another node runs on."""
        machine = self._launch(node)
        machine.state = GuestState.RUNNING
        guest = self._boot()
        machine.plug(guest)
        await self._attach(node)
        guest.run()

    def prepare(self, node: str) -> None:
        """Have a process wait for an incoming guest on the node; what is there makes room."""
        machine = self._machines.get(node)
        if machine is None or machine.state is not GuestState.INCOMING:
            self._launch(node)

    def machine(self, node: str) -> Machine | None:
        """Return the node's process, if it had one, as it is."""
        return self._machines.get(node)

    async def state(self, node: str) -> GuestState:
        """Return the state of the node's guest."""
        return self._state(node)

    async def begin_migration(
        self, source: str, destination: str, mode: str = "precopy", *, pause: bool = False
    ) -> None:
        """Begin to copy the guest's memory."""
        if mode not in MODES:
            raise LabError(f"migration mode {mode!r} is not one of {', '.join(MODES)}")
        machine = await self._answering(source)
        if machine.state not in _STANDING:
            raise LabError(f"the guest on {source} is {machine.state.value} and cannot be moved")
        self._migrations.require_none(source)
        self.prepare(destination)
        self._migrations.begin(machine, self._machine(destination), mode, pause=pause)

    async def continue_migration(self, source: str) -> None:
        """Let the migration switch over."""
        await self._answering(source)
        self._migrations.let_switch_over(source)

    async def finish_migration(self, source: str) -> Migration:
        """Return once the destination holds the guest, stopped."""
        migration = await self._migrations.finish(source)
        await self._attach(migration.destination)
        return migration

    async def cancel_migration(self, source: str) -> None:
        """Cancel it; the destination hears of it where its link is whole."""
        await self._answering(source)
        self._migrations.cancel(source)

    async def recover_migration(self, source: str) -> None:
        """Take up an interrupted post-copy migration again."""
        await self._answering(source)
        self._migrations.recover(source)

    async def wait_migration(self, node: str, phase: MigrationPhase, timeout_s: float) -> None:
        """Return once the last migration is in that phase."""
        await self._migrations.wait(node, phase, timeout_s)

    async def progress(self, source: str) -> Progress:
        """Return how far the last migration is."""
        return self._migrations.progress(source)

    async def pause(self, node: str) -> None:
        """Stop the guest's processors."""
        machine = await self._answering(node)
        if machine.state is GuestState.RUNNING:
            machine.stop(GuestState.PAUSED)

    async def resume(self, node: str) -> None:
        """Let the guest run, also one that has moved on; what had failed, or came with it, is sent again."""
        machine = await self._answering(node)
        if machine.state not in (*_STANDING, GuestState.MIGRATED):
            raise LabError(f"the guest on {node} does not resume: it is {machine.state.value}")
        if machine.guest is None:
            raise LabError(f"the guest on {node} cannot run again: its workload cannot be copied")
        machine.run()

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
        what = f"{state.value} on {node} did not come"
        await self._bell.until(lambda: self._state(node) in (state, GuestState.ABSENT), timeout_s, what)
        if self._state(node) is not state:
            raise LabError(f"there is no guest on {node} that could be {state.value}")

    async def wait_disk(self, node: str, timeout_s: float) -> None:
        """Return once the storage would answer a read of the node."""
        await self._answering(node)
        end_s = self._loop.time() + timeout_s
        while not self._disk_answers(node):
            if self._loop.time() > end_s:
                raise LabError(f"the disk of {node} does not answer within {timeout_s:g} s")
            await asyncio.sleep(_POLL_S)

    async def kill(self, node: str) -> None:
        """Kill the node's process at once."""
        machine = self._machines.get(node)
        if machine is not None:
            machine.end()
        self._migrations.lose_process(node)

    async def last_words(self, node: str) -> str:
        """A simulated guest ends only when it is killed."""
        return ""

    async def disconnect(self, node: str) -> None:
        """Drop the node's storage connections from its own side."""
        await self._network.reset(node, Path_.STORAGE)

    def freeze(self, node: str) -> None:
        """Let the node's process stand still, if it has one."""
        if node in self._machines:
            self._machines[node].freeze()

    def thaw(self, node: str) -> None:
        """Let the node's process go on; no error if it was not frozen."""
        if node in self._machines:
            self._machines[node].thaw()

    async def close(self) -> None:
        """End everything."""
        await self._migrations.close()
        for machine in self._machines.values():
            machine.end()
        for serial in self._serials.values():
            serial.abort()

    def _launch(self, node: str) -> Machine:
        """Start a process on the node in place of what is there."""
        old = self._machines.get(node)
        if old is not None:
            old.end()
        wires = (self._network, self._target, self._serials[node])
        machine = self._machines[node] = Machine(node, self._spec.guest, *wires, changed=self._bell.ring)
        return machine

    def _state(self, node: str) -> GuestState:
        machine = self._machines.get(node)
        return machine.seen if machine else GuestState.ABSENT

    def _disk_answers(self, node: str) -> bool:
        target = self._target
        served = self._network.takes_connection(node) and not target.process.frozen
        return served and target.arbiter.admits(node)

    async def _answering(self, node: str) -> Machine:
        """Return the node's process once its monitor answers: that of a frozen one does when it goes on."""
        machine = self._machine(node)
        what = f"the monitor of {node} did not answer"
        await self._bell.until(lambda: not machine.frozen, _ANSWER_TIMEOUT_S, what)
        return self._machine(node)

    def _machine(self, node: str) -> Machine:
        machine = self._machines.get(node)
        if machine is None or machine.state is GuestState.ABSENT:
            raise LabError(f"no guest on node {node}")
        return machine
