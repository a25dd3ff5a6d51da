"""The Hypervisor seam over real QEMU: one guest, two nodes, live migration over the migration network.

The destination always starts stopped (`-S`), so that the handoff policy's steps come between "the
source is gone" and "the destination may write"; `resume` then lets it run, and QEMU re-issues what
had failed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepsen_blk.errors import LabError
from jepsen_blk.lab.local.migration import MANNERS, MigrationRun
from jepsen_blk.lab.local.namespaces import LocalNode, Namespaces
from jepsen_blk.lab.local.qemu import Machine, Qemu
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import GuestState, Migration, MigrationPhase, Network, Progress

_MIGRATION_TIMEOUT_S = 60.0
_GONE_TIMEOUT_S = 1.0
_CANCEL_TIMEOUT_S = 10.0
_RESTORE_TIMEOUT_S = 20.0
_RESUME_TIMEOUT_S = 10.0
_POLL_S = 0.01
_LOOK_AGAIN_S = 0.1
"""What no event says, such as a process that was frozen, is seen within this."""
_READ_DISK = 'qemu-io -d /machine/peripheral/disk0/virtio-backend "aio_read -q 0 4096"'
"""aio_read, since it alone enters the device's statistics: the monitor is told nothing of the result."""
_STATES = {
    "running": GuestState.RUNNING,
    "paused": GuestState.PAUSED,
    "inmigrate": GuestState.INCOMING,
    "io-error": GuestState.IO_ERROR,
    "postmigrate": GuestState.MIGRATED,
    "prelaunch": GuestState.PAUSED,
    "finish-migrate": GuestState.SWITCHING,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node's guest runs and how it reaches storage and its peers."""

    node: LocalNode
    migration_address: str
    disk: Sequence[str]
    """What QEMU is told of its disk."""
    reconnects_s: float
    """How long its client then tries to reach the storage again."""


class QemuHypervisor:
    """Implements lab.seams.Hypervisor with one QEMU process a node."""

    def __init__(
        self,
        machine: Machine,
        snapshot: Path,
        places: dict[str, Place],
        namespaces: Namespaces,
        network: Network,
        logs: Path,
        attach: Callable[[str], Any],
    ) -> None:
        self._machine = machine
        self._snapshot = snapshot
        self._places = places
        self._namespaces = namespaces
        self._network = network
        self._logs = logs
        self._attach = attach
        self._qemus: dict[str, Qemu] = {}
        self._runs: dict[str, MigrationRun] = {}

    async def start(self, node: str) -> None:
        """Start the guest on `node` from the pre-booted state and let it run; end what is there."""
        old = self._qemus.get(node)
        if old is not None:
            await old.kill()
        fd = os.open(self._snapshot, os.O_RDONLY)
        try:
            qemu = await self._launch(node, ["-S", "-incoming", f"fd:{fd}"], (fd,))
        finally:
            os.close(fd)
        await self._until(
            qemu, lambda status: status != "inmigrate", _RESTORE_TIMEOUT_S, "the restored guest"
        )
        await self._attach(node)
        await self.resume(node)

    async def prepare(self, node: str) -> None:
        """Have an empty QEMU wait for an incoming migration on `node`; a finished one makes room."""
        old = self._qemus.get(node)
        if old is not None and old.process.running:
            if await old.status() == "inmigrate":
                return
            await old.kill()
        await self._launch(node, ["-S", "-incoming", "defer"])

    async def state(self, node: str) -> GuestState:
        """Ask the node's QEMU for its run state."""
        qemu = self._qemus.get(node)
        if qemu is None or not qemu.process.running:
            return GuestState.ABSENT
        if qemu.process.frozen:  # its monitor would not answer
            return GuestState.FROZEN
        try:
            return _STATES.get(await qemu.status(), GuestState.PAUSED)
        except LabError as error:  # a QEMU that ends closes its monitor a moment before it is gone
            try:
                await qemu.process.wait(_GONE_TIMEOUT_S)
            except LabError:
                raise error from None
            return GuestState.ABSENT

    async def begin_migration(
        self, source: str, destination: str, mode: str = "precopy", *, pause: bool = False
    ) -> None:
        """Have a QEMU wait at the destination and begin to copy the guest to it."""
        if mode not in MANNERS:
            choices = ", ".join(MANNERS)
            raise LabError(f"migration mode {mode!r} is not offered by this lab; it has: {choices}")
        begin_ns = time.monotonic_ns()
        await self.prepare(destination)
        address = self._places[destination].migration_address
        run = MigrationRun(self._qemu(source), self._qemu(destination), address, mode, begin_ns)
        self._runs[source] = self._runs[destination] = run
        await run.begin(pause=pause)

    async def continue_migration(self, source: str) -> None:
        """Let a paused migration switch over."""
        await self._run(source).go_on()

    async def finish_migration(self, source: str) -> Migration:
        """Return once the destination holds the guest, stopped."""
        run = self._run(source)
        postcopy = run.mode == "postcopy"
        if postcopy:
            switched = {MigrationPhase.POSTCOPY, MigrationPhase.COMPLETED}
            await run.wait(run.old, switched, _MIGRATION_TIMEOUT_S)
            what = f"the guest on {run.new.name}"
            await self._until(run.new, lambda status: status != "inmigrate", _MIGRATION_TIMEOUT_S, what)
        else:
            for qemu in (run.old, run.new):
                await run.wait(qemu, {MigrationPhase.COMPLETED}, _MIGRATION_TIMEOUT_S)
        end_ns = time.monotonic_ns()
        info = await run.statistics()
        stop = run.old.last_event("STOP")
        stopped_ns = stop.time_ns if stop else end_ns
        # What QEMU calls the downtime of a post-copy is not one.
        downtime_ms = (end_ns - stopped_ns) / 1e6 if postcopy else float(info.get("downtime", 0))
        await self._attach(run.new.name)
        return Migration(
            source=source,
            destination=run.new.name,
            mode=run.mode,
            begin_ns=run.begin_ns,
            stopped_ns=stopped_ns,
            end_ns=end_ns,
            total_ms=float(info.get("total-time", 0)),
            downtime_ms=downtime_ms,
            transferred_bytes=int(info.get("ram", {}).get("transferred", 0)),
        )

    async def cancel_migration(self, source: str) -> None:
        """Cancel the migration, and return once the source says so."""
        await self._run(source).cancel(_CANCEL_TIMEOUT_S)

    async def recover_migration(self, source: str) -> None:
        """Take up an interrupted post-copy migration again over a new connection."""
        await self._run(source).recover()

    async def wait_migration(self, node: str, phase: MigrationPhase, timeout_s: float) -> None:
        """Return once the last migration is in `phase` as `node` sees it."""
        await self._run(node).wait(self._qemu(node), {phase}, timeout_s)

    async def progress(self, source: str) -> Progress:
        """Ask the source how far its last migration is."""
        run = self._runs.get(source)
        return await run.progress() if run else Progress(MigrationPhase.NONE, 0.0, 0)

    async def pause(self, node: str) -> None:
        """Stop the guest's processors."""
        await self._qemu(node).execute("stop")

    async def resume(self, node: str) -> None:
        """Let the guest run, repeating `cont` until it does: one during an I/O error may be swallowed."""
        qemu = self._qemu(node)
        deadline = time.monotonic() + _RESUME_TIMEOUT_S
        while True:
            await qemu.execute("cont")
            status = await qemu.status()
            if status == "running":
                return
            if time.monotonic() > deadline:
                raise LabError(f"the guest on {node} does not resume: it is {status}")
            await asyncio.sleep(_POLL_S)

    def stops_at(self, error: str) -> bool:
        """Tell whether a disk error of that name stops the guest."""
        return self._machine.disk_errors == "stop" or (self._machine.disk_errors, error) == (
            "enospc",
            "ENOSPC",
        )

    def reconnects_s(self) -> float:
        """Tell what QEMU's NBD client was told; its iSCSI initiator never gives up."""
        return max(place.reconnects_s for place in self._places.values())

    def requeues(self) -> bool:
        """QEMU drains its disks before the switch-over."""
        return False

    async def wait_state(self, node: str, state: GuestState, timeout_s: float) -> None:
        """Return once the guest on `node` is in `state`: QEMU's events say when to look again."""
        deadline = time.monotonic() + timeout_s
        while True:
            qemu = self._qemus.get(node)
            known = len(qemu.events) if qemu else 0
            now = await self.state(node)
            if now is state:
                return
            if qemu is None or now is GuestState.ABSENT:
                raise LabError(f"there is no guest on {node} that could be {state.value}")
            if time.monotonic() > deadline:
                raise LabError(
                    f"{state.value} on {node} did not come within {timeout_s:g} s; it is {now.value}"
                )
            await qemu.another_event(known, _LOOK_AGAIN_S)

    async def wait_disk(self, node: str, timeout_s: float) -> None:
        """Read the disk from QEMU itself until it answers: its NBD client reconnects when it is asked to."""
        deadline = time.monotonic() + timeout_s
        qemu = self._qemu(node)
        before = await qemu.reads_completed()
        while True:
            await qemu.execute("human-monitor-command", {"command-line": _READ_DISK})
            await asyncio.sleep(_POLL_S)
            if await qemu.reads_completed() > before:
                return
            if time.monotonic() > deadline:
                raise LabError(f"the disk of {node} does not answer within {timeout_s:g} s")

    async def kill(self, node: str) -> None:
        """Kill the node's QEMU at once."""
        await self._qemu(node).kill()

    async def disconnect(self, node: str) -> None:
        """Drop the node's storage connections from its own side."""
        await self._network.reset(node, Path_.STORAGE)

    async def last_words(self, node: str) -> str:
        """Return what the console says of the guest's end."""
        text = (self._logs / f"console-{node}.log").read_text(errors="replace")
        lines = [line.strip() for line in text.splitlines()]
        return next((line for line in lines if "panic" in line), lines[-1] if lines else "")

    async def close(self) -> None:
        """Drop the monitors; the processes end with the lab's namespaces."""
        for qemu in self._qemus.values():
            await qemu.kill()

    async def _launch(self, node: str, extra: list[str], fds: tuple[int, ...] = ()) -> Qemu:
        place = self._places[node]
        agent = self._namespaces.inner_run_dir / f"agent-{node}.sock"
        argv = self._machine.argv(node, agent, self._logs / f"console-{node}.log", place.disk)
        self._qemus[node] = await Qemu.start(
            place.node,
            [*argv, *extra],
            inner_run_dir=self._namespaces.inner_run_dir,
            run_dir=self._namespaces.run_dir,
            log=self._logs / f"qemu-{node}.log",
            fds=fds,
        )
        return self._qemus[node]

    def _run(self, node: str) -> MigrationRun:
        run = self._runs.get(node)
        if run is None:
            raise LabError(f"no migration has begun on {node}")
        return run

    async def _until(self, qemu: Qemu, match: Callable[[str], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            status = await qemu.status()
            if match(status):
                return
            if time.monotonic() > deadline:
                raise LabError(f"{what} did not come within {timeout_s:g} s; QEMU is {status}")
            await asyncio.sleep(_POLL_S)

    def _qemu(self, node: str) -> Qemu:
        qemu = self._qemus.get(node)
        if qemu is None:
            raise LabError(f"no guest on node {node}")
        return qemu
