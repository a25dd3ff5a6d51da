"""The Hypervisor seam over real QEMU: one guest, two nodes, live migration over the migration network.

The destination always starts stopped (`-S`), so that the handoff policy's steps come between "the
source is gone" and "the destination may write"; `resume` then lets it run, and QEMU re-issues what
had failed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepsen_blk.errors import LabError
from jepsen_blk.lab.local.namespaces import LocalNode, Namespaces
from jepsen_blk.lab.local.qemu import Machine, Qemu, QmpEvent, nbd_disk
from jepsen_blk.lab.seams import GuestState, Migration, Network, Path_

_MIGRATION_PORT = 4444
_MIGRATION_TIMEOUT_S = 60.0
_RESTORE_TIMEOUT_S = 20.0
_RESUME_TIMEOUT_S = 10.0
_STATISTICS_TIMEOUT_S = 1.0
_POLL_S = 0.01
_READ_DISK = 'qemu-io -d /machine/peripheral/disk0/virtio-backend "aio_read -q 0 4096"'
"""aio_read, since it alone enters the device's statistics: the monitor is told nothing of the result."""
_CAPABILITIES = {"events": True, "postcopy-ram": False, "pause-before-switchover": False}
"""All stated before every migration: a capability persists, and a stale one fails the next."""
_PARAMETERS = {"max-bandwidth": 1 << 40, "downtime-limit": 10_000}
"""So that what is found dirty while the guest runs is sent once, after it has stopped. TCG marks a page dirty
before it stores to it; a page that is sent between the two is stale on the destination, and the guest crashes
there (seen once in 40 migrations on a busy machine)."""
_STATES = {
    "running": GuestState.RUNNING,
    "paused": GuestState.PAUSED,
    "inmigrate": GuestState.INCOMING,
    "io-error": GuestState.IO_ERROR,
    "postmigrate": GuestState.MIGRATED,
    "prelaunch": GuestState.PAUSED,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node's guest runs and how it reaches storage and its peers."""

    node: LocalNode
    migration_address: str
    storage_host: str
    storage_port: int
    export: str


class QemuHypervisor:
    """Implements lab.seams.Hypervisor with one QEMU process a node."""

    def __init__(
        self,
        machine: Machine,
        places: dict[str, Place],
        namespaces: Namespaces,
        network: Network,
        logs: Path,
        attach: Callable[[str], Any],
    ) -> None:
        self._machine = machine
        self._places = places
        self._namespaces = namespaces
        self._network = network
        self._logs = logs
        self._attach = attach
        self._qemus: dict[str, Qemu] = {}

    async def start(self, node: str, snapshot: Path) -> None:
        """Start the guest on `node` from the pre-booted state and let it run."""
        fd = os.open(snapshot, os.O_RDONLY)
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
        return _STATES.get(await qemu.status(), GuestState.PAUSED)

    async def migrate(self, source: str, destination: str, mode: str = "precopy") -> Migration:
        """Move the guest by pre-copy; returns once the destination holds it, stopped."""
        if mode != "precopy":
            raise LabError(f"migration mode {mode!r} is not offered by this lab; it has: precopy")
        await self.prepare(destination)
        old, new = self._qemus[source], self._qemus[destination]
        for qemu in (old, new):
            await self._configure(qemu)
        uri = f"tcp:{self._places[destination].migration_address}:{_MIGRATION_PORT}"
        await new.execute("migrate-incoming", {"uri": uri})
        begin_ns = time.monotonic_ns()
        after_old, after_new = len(old.events), len(new.events)
        await old.execute("migrate", {"uri": uri})
        await self._ended(old, after_old, source)
        await self._ended(new, after_new, destination)
        end_ns = time.monotonic_ns()
        info = await self._statistics(old)
        stop = old.last_event("STOP")
        await self._attach(destination)
        return Migration(
            source=source,
            destination=destination,
            mode=mode,
            begin_ns=begin_ns,
            stopped_ns=stop.time_ns if stop else end_ns,
            end_ns=end_ns,
            total_ms=float(info.get("total-time", 0)),
            downtime_ms=float(info.get("downtime", 0)),
            transferred_bytes=int(info.get("ram", {}).get("transferred", 0)),
        )

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

    async def wait_state(self, node: str, state: GuestState, timeout_s: float) -> None:
        """Return once the guest on `node` is in `state`."""
        await self._until(
            self._qemu(node),
            lambda status: _STATES.get(status) is state,
            timeout_s,
            f"{state.value} on {node}",
        )

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
        disk = nbd_disk(place.storage_host, place.storage_port, place.export)
        argv = self._machine.argv(node, agent, self._logs / f"console-{node}.log", disk)
        self._qemus[node] = await Qemu.start(
            place.node,
            [*argv, *extra],
            inner_run_dir=self._namespaces.inner_run_dir,
            run_dir=self._namespaces.run_dir,
            log=self._logs / f"qemu-{node}.log",
            fds=fds,
        )
        return self._qemus[node]

    async def _configure(self, qemu: Qemu) -> None:
        states = [{"capability": name, "state": on} for name, on in _CAPABILITIES.items()]
        await qemu.execute("migrate-set-capabilities", {"capabilities": states})
        await qemu.execute("migrate-set-parameters", _PARAMETERS)

    async def _ended(self, qemu: Qemu, after: int, node: str) -> None:
        def final(event: QmpEvent) -> bool:
            return event.name == "MIGRATION" and event.data["status"] in ("completed", "failed", "cancelled")

        event = await qemu.wait_event(
            final, after=after, timeout_s=_MIGRATION_TIMEOUT_S, what=f"the end of the migration on {node}"
        )
        if event.data["status"] != "completed":
            info = await qemu.execute("query-migrate")
            why = info.get("error-desc", "no reason given")
            raise LabError(f"the migration {event.data['status']} on {node}: {why}")

    async def _statistics(self, qemu: Qemu) -> dict[str, Any]:
        """Return query-migrate's answer once it is final, which is a moment after the event."""
        deadline = time.monotonic() + _STATISTICS_TIMEOUT_S
        while True:
            info: dict[str, Any] = await qemu.execute("query-migrate")
            if info.get("total-time") or time.monotonic() > deadline:
                return info
            await asyncio.sleep(_POLL_S)

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
