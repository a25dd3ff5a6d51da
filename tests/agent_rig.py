"""What the agent's tests stand on: a disk for O_DIRECT, a recording sink, a QEMU that only carries bytes."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jepsen_blk.history.record import ROW
from jepsen_blk.stamp import BLOCK_BYTES
from workloads.agent.aio import Aio
from workloads.agent.operations import REQUESTS
from workloads.guest import GuestLink
from workloads.source import SentWorkload

RUN = 0xC0FFEE
WORKLOAD: dict[str, Any] = {
    "name": "register",
    "blocks": 64,
    "hot_blocks": 4,
    "hot_fraction": 0.5,
    "read_fraction": 0.3,
    "burst_fraction": 0.3,
    "flush_fraction": 0.0,
    "queue_depth": 8,
    "overlapping_writes": False,
}
WAIT_S = 30.0


def direct_disk(folder: Path, blocks: int) -> Path:
    """Make a disk of zeros in `folder`; skips the test where the file system has no O_DIRECT."""
    path = folder / "disk"
    path.write_bytes(bytes(blocks * BLOCK_BYTES))
    try:
        os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
    except OSError as error:
        pytest.skip(f"{folder}: its file system has no O_DIRECT ({error.strerror})")
    return path


class FaultyAio(Aio):
    """Real AIO that fails the writes of some blocks, answers nothing for those in `silent`, and takes at most
    `room` requests at a time. Flushes may fail too, or not be answered."""

    failing: Sequence[int] = ()
    silent: Sequence[int] = ()
    room: int | None = None
    failing_flushes = False
    lost_flushes = False

    def __init__(self, fd: int, slots: int) -> None:
        super().__init__(fd, slots)
        self.withheld: list[tuple[int, int]] = []

    def submit(self, count: int) -> int:
        taken = count if self.room is None else min(count, self.room)
        left = super().submit(taken) + count - taken
        self.queue[:left] = self.queue[count - left : count]
        return left

    def reap(self) -> list[tuple[int, int]]:
        if not self.silent and not self.lost_flushes and self.withheld:
            withheld, self.withheld = self.withheld, []
            return withheld
        done = []
        for request, result in super().reap():
            if request % REQUESTS == 2:
                answered = done if not self.lost_flushes else self.withheld
                answered.append((request, -5 if self.failing_flushes else result))
                continue
            block = self.offsets[request] // BLOCK_BYTES
            if request % REQUESTS == 1 and block in self.silent:
                self.withheld.append((request, result))
            else:
                failed = request % REQUESTS == 1 and block in self.failing
                done.append((request, -5 if failed else result))
        return done


class Recorder:
    """A journal in memory; `reached` waits for a number of rows."""

    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []
        self.chunks: list[tuple[int, int, bytes]] = []
        self.log: list[str] = []
        self._rows = 0
        self._more = asyncio.Event()

    def note(self, note: dict[str, Any]) -> None:
        self.notes.append(note)

    def rows(self, boot: int, sequence: int, payload: bytes) -> None:
        self.log.append("sink")
        self.chunks.append((boot, sequence, payload))
        self._rows += len(payload) // ROW.itemsize
        self._more.set()

    async def reached(self, more: int) -> None:
        """Wait until `more` rows have come from now on."""
        target = self._rows + more
        async with asyncio.timeout(WAIT_S):
            while self._rows < target:
                self._more.clear()
                await self._more.wait()

    def table(self, boot: int = 0) -> np.ndarray:
        """Return the boot's rows in order."""
        return np.frombuffer(b"".join(rows for of, _, rows in self.chunks if of == boot), dtype=ROW)

    def sequences(self, boot: int = 0) -> list[int]:
        return [sequence for of, sequence, _ in self.chunks if of == boot]


class FakeQemu:
    """Carries bytes between the agent's port and one node's socket, as QEMU's chardev does.

    Bytes that come while it is connected to no node are lost. `mangle` may change, cut or swallow
    what the guest sends; a raised ConnectionError drops the node's socket.
    """

    def __init__(self, port: Path) -> None:
        self.port = port
        self.mangle: Callable[[bytes], bytes] = bytes
        self.dropped = asyncio.Event()
        self._host: asyncio.StreamWriter | None = None
        self._guest: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._from_guest, str(self.port))

    async def connect(self, node: Path) -> None:
        reader, self._host = await asyncio.open_unix_connection(str(node))
        self._tasks.append(asyncio.create_task(self._from_host(reader)))

    def drop(self) -> None:
        if self._host is not None:
            self._host.transport.abort()
            self._host = None
        self.dropped.set()

    async def close(self) -> None:
        self.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._guest is not None:
            self._guest.transport.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _from_guest(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._guest = writer
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                try:
                    data = self.mangle(data)
                except ConnectionError as cut:
                    if self._host is not None:
                        self._host.write(cut.args[0])
                        await self._host.drain()
                        self._host.close()
                        self._host = None
                    self.dropped.set()
                    continue
                if self._host is not None:
                    self._host.write(data)
        writer.close()

    async def _from_host(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if self._guest is not None:
                    self._guest.write(data)


class Rig:
    """A GuestLink on nodes x and y, a FakeQemu on x, and the agent as a process of its own."""

    def __init__(self, folder: Path, link: GuestLink, recorder: Recorder) -> None:
        self.folder = folder
        self.link = link
        self.recorder = recorder
        self.qemu = FakeQemu(folder / "port")
        self.disk = direct_disk(folder, WORKLOAD["blocks"])
        self.agent: asyncio.subprocess.Process | None = None

    def node(self, name: str) -> Path:
        return self.folder / name

    async def agent_exit_code(self) -> int:
        assert self.agent is not None
        return await asyncio.wait_for(self.agent.wait(), WAIT_S)


@asynccontextmanager
async def agent_rig(folder: Path, observers: Sequence[Any] = (), sent: SentWorkload | None = None) -> Any:
    """Bring the rig up to a reset boot 0; on the way out kill what still runs."""
    recorder = Recorder()
    link = GuestLink(recorder, observers, sent)
    rig = Rig(folder, link, recorder)
    for name in ("x", "y"):
        await link.listen(name, rig.node(name))
    await rig.qemu.start()
    rig.agent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workloads.agent"),
        *("--device", str(rig.disk), "--port", str(rig.qemu.port)),
    )
    try:
        await rig.qemu.connect(rig.node("x"))
        await link.hello(WAIT_S)
        await link.reset(boot=0, run=RUN, seed=7)
        yield rig
    finally:
        if rig.agent.returncode is None:
            rig.agent.kill()
            await rig.agent.wait()
        await link.close()
        await rig.qemu.close()
