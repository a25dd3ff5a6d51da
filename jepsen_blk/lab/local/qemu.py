"""One QEMU process and its QMP monitor.

Every monitor call is bounded in time, since QMP hangs while QEMU drains a disk that does not
answer. Events are kept with their times and waited for by position, so that a wait never matches an
event of an earlier migration.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError

from jepsen_blk.errors import LabError
from jepsen_blk.lab.local.image import GuestImage
from jepsen_blk.lab.local.namespaces import LocalNode, LocalProcess
from jepsen_blk.storage.servers import TGT_TARGET, initiator_name

BINARY = "qemu-system-x86_64"
_CONNECT_TIMEOUT_S = 15.0
_CALL_TIMEOUT_S = 10.0
_OLDEST_EVENT_NS = 5 * 10**9
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)  # what it logs as errors we retry or raise

_TCG = "tcg,thread=single,tb-size=64"
"""There is one virtual processor: in a single thread its locked instructions need not be atomic for others,
which takes about a third of the time off the guest's block layer."""
_TCG_CPU = "max,erms=off,pku=off,smap=off,la57=off"
"""Without what costs TCG more than it gives a test (a sixth of the throughput): `rep movsb` byte by byte, a
TLB flush for protection keys at each context switch, a lookup after each of SMAP's switches, a fifth page
level."""
_DISK_OPTIONS = "request-merging=off"
"""One request of the guest is one on the wire. No thread of its own: QEMU would drain it before it reports
the stop, and what was in flight then could not be counted."""
_ERROR_OPTIONS = {
    "stop": "werror=stop,rerror=stop",
    "enospc": "werror=enospc,rerror=report",
    "report": "werror=report,rerror=report",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """The virtual hardware: the same on both nodes and in the snapshot, or a migration is refused."""

    image: GuestImage
    accelerator: str
    memory_mb: int
    disk_errors: str = "stop"
    write_cache: bool = False
    """Whether the guest sees a disk with a volatile cache, and flushes it; if not, its writes carry FUA where
    the storage has that."""

    def argv(self, name: str, agent_socket: Path, console: Path, disk: Sequence[str]) -> list[str]:
        """Build QEMU's command line; `disk` is the -blockdev of node name "disk"."""
        disk_options = f"{_ERROR_OPTIONS[self.disk_errors]},{_DISK_OPTIONS}"
        disk_options += f",write-cache={'on' if self.write_cache else 'off'}"
        accelerator = "kvm" if self.accelerator == "kvm" else _TCG
        return [
            *(BINARY, "-name", f"jepsen-blk-{name}", "-nodefaults", "-no-user-config", "-no-reboot"),
            *("-display", "none", "-machine", "q35,usb=off,hpet=off", "-accel", accelerator),
            *("-cpu", "host" if self.accelerator == "kvm" else _TCG_CPU),
            *("-smp", "1", "-m", str(self.memory_mb)),
            *("-kernel", str(self.image.kernel), "-initrd", str(self.image.initramfs)),
            *("-append", "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off nowatchdog"),
            *("-chardev", f"file,id=console,path={_escaped(console)},append=on"),
            *("-serial", "chardev:console"),
            *disk,
            *("-device", f"virtio-blk-pci,id=disk0,drive=disk,{disk_options}"),
            *("-chardev", f"socket,id=agent,path={_escaped(agent_socket)},server=off,reconnect=1"),
            *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=jepsen-blk"),
        ]


@dataclass(frozen=True, slots=True)
class QmpEvent:
    """An event of the monitor; `time_ns` is on the controller's monotonic clock."""

    name: str
    data: dict[str, Any]
    time_ns: int


@dataclass(slots=True, eq=False)
class Qemu:
    """A running QEMU with its monitor connected."""

    name: str
    process: LocalProcess
    client: QMPClient
    events: list[QmpEvent] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        node: LocalNode,
        argv: Sequence[str],
        *,
        inner_run_dir: Path,
        run_dir: Path,
        log: Path,
        fds: Sequence[int] = (),
    ) -> Qemu:
        """Start QEMU on the node and connect to its monitor (a socket in the lab's private /run).

        Post-copy needs userfaultfd, which most kernels leave to the host's root.
        """
        socket = f"qmp-{node.name}-{time.monotonic_ns()}.sock"
        monitor = ["-qmp", f"unix:{inner_run_dir / socket},server=on,wait=off"]
        process = await node.start([*argv, *monitor], log=log, fds=fds, as_root=True)
        client = QMPClient(node.name)
        qemu = cls(node.name, process, client)
        listener = EventListener()
        client.register_listener(listener)
        try:
            await qemu._connect(run_dir / socket)
        except BaseException:
            await process.kill()
            raise
        qemu._reader = asyncio.create_task(qemu._read(listener))
        return qemu

    async def execute(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        *,
        timeout_s: float = _CALL_TIMEOUT_S,
        out_of_band: bool = False,
    ) -> Any:
        """Execute a QMP command; raises LabError on refusal, time-out or a dead QEMU."""
        try:
            return await asyncio.wait_for(self.client.execute(command, arguments, out_of_band), timeout_s)
        except TimeoutError as error:
            raise LabError(f"QEMU on {self.name} did not answer {command} within {timeout_s:g} s") from error
        except ExecuteError as error:
            raise LabError(f"QEMU on {self.name} refused {command}: {error}") from error
        except (QMPError, OSError) as error:
            raise LabError(
                f"QEMU on {self.name} is gone ({command}): {self.process.tail() or error}"
            ) from error

    async def status(self) -> str:
        """Return the run state, e.g. "running", "io-error", "postmigrate"."""
        return str((await self.execute("query-status"))["status"])

    async def reads_completed(self) -> int:
        """Return how many reads the guest's disk has completed without an error."""
        (stats,) = (disk["stats"] for disk in await self.execute("query-blockstats") if disk.get("qdev"))
        return int(stats["rd_operations"])

    async def wait_event(
        self, match: Callable[[QmpEvent], bool], *, after: int, timeout_s: float, what: str
    ) -> QmpEvent:
        """Return the first matching event at position `after` or later."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for event in self.events[after:]:
                        if match(event):
                            return event
                    if not self.process.running:
                        raise LabError(f"QEMU on {self.name} ended: {self.process.tail()}")
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), 0.5)
        except TimeoutError as error:
            raise LabError(f"QEMU on {self.name}: {what} did not come within {timeout_s:g} s") from error

    async def another_event(self, after: int, within_s: float) -> None:
        """Return once there are more than `after` events, or after `within_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while len(self.events) <= after:
                    self._changed.clear()
                    await self._changed.wait()

    def last_event(self, name: str) -> QmpEvent | None:
        """Return the newest event of that name."""
        return next((event for event in reversed(self.events) if event.name == name), None)

    async def kill(self) -> None:
        """Kill QEMU at once and drop the monitor."""
        await self.process.kill()
        if self._reader is not None:
            self._reader.cancel()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.client.disconnect(), 1)

    async def _connect(self, socket: Path) -> None:
        deadline = time.monotonic() + _CONNECT_TIMEOUT_S
        while True:
            try:
                await asyncio.wait_for(self.client.connect(str(socket)), _CONNECT_TIMEOUT_S)
                return
            except (QMPError, OSError, TimeoutError) as error:
                if not self.process.running:
                    raise LabError(f"QEMU on {self.name} did not start: {self.process.tail()}") from error
                if time.monotonic() > deadline:
                    raise LabError(
                        f"QEMU on {self.name}: no monitor after {_CONNECT_TIMEOUT_S:g} s"
                    ) from error
                await asyncio.sleep(0.01)

    async def _read(self, listener: EventListener) -> None:
        message: Any
        async for message in listener:
            when_ns = happened_ns(message.get("timestamp", {}), time.time_ns(), time.monotonic_ns())
            self.events.append(QmpEvent(message["event"], message.get("data", {}), when_ns))
            self._changed.set()


def happened_ns(stamp: dict[str, int], wall_ns: int, now_ns: int) -> int:
    """Return when an event happened, on the monotonic clock, whose stamp is of the wall clock.

    Only how old it is is taken from the wall clock. Where it has jumped since no age can be told from it, and
    the event has just happened.
    """
    age_ns = wall_ns - stamp.get("seconds", 0) * 10**9 - stamp.get("microseconds", 0) * 1000
    return now_ns - (age_ns if 0 <= age_ns <= _OLDEST_EVENT_NS else 0)


def nbd_disk(host: str, port: int, export: str, reconnect_delay_s: int) -> list[str]:
    """The disk as an NBD export; dead peers are noticed by TCP keep-alive, set on the node."""
    server = f"server.type=inet,server.host={host},server.port={port},server.keep-alive=on"
    disk = f"driver=nbd,node-name=disk,export={export},cache.direct=on,{server}"
    return ["-blockdev", f"{disk},reconnect-delay={reconnect_delay_s}"]


def iscsi_disk(host: str, port: int, node: str) -> list[str]:
    """The disk as a unit of an iSCSI target: QEMU's own initiator, which logs in again for ever."""
    portal = f"transport=tcp,portal={host}:{port},target={TGT_TARGET},lun=1"
    disk = f"driver=iscsi,node-name=disk,header-digest=none,cache.direct=on,{portal}"
    return ["-blockdev", f"{disk},initiator-name={initiator_name(node)}"]


def null_disk(size_bytes: int) -> list[str]:
    """A disk of zeros for the pre-boot; its size must be that of the real one."""
    return ["-blockdev", f"driver=null-co,node-name=disk,size={size_bytes},read-zeroes=on,cache.direct=on"]


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")
