"""The host's end of the link: one stream of rows, whichever node's socket it comes out of.

A guest that moves between nodes changes sockets in the middle of a frame, and two QEMUs may believe
that they run it. Only the attached node's frames enter the stream, in the order of their numbers,
each once; they are in the journal before anything else sees them, and only then acked, so that the
guest forgets nothing that is not on disk. A second version of a numbered frame is a split brain: it
is kept in the journal as evidence, and never mistaken for the stream.

A guest that is started again is another boot, with a stream and a clock of its own. The history has one
clock: the next boot is told where the one before has left it, so every boot's times are after those of the
boot before, as they were, and a gap between two boots is as long as it was, to within a frame's delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jepsen_blk import clock
from jepsen_blk.errors import InternalError, LabError
from jepsen_blk.history.record import PENDING, ROW
from jepsen_blk.lab.seams import Observer
from workloads.agent.frames import ROWS
from workloads.connection import Connection
from workloads.history_clock import HistoryClock
from workloads.source import SentWorkload
from workloads.stream import Arrival, RowStream

_REPEAT_S = 0.25
_GRACE_S = 10.0
_CALL_TIMEOUT_S = 10.0
_ACK_EVERY_FRAMES = 64
_ACK_AFTER_S = 0.5
"""Seldom, since each ack costs the guest a millisecond; but sooner than it sends again what is not acked."""
_RESEND_AFTER_S = 0.2
_SPLIT_BRAIN_LIMIT = 16


class Sink(Protocol):
    """Where the stream is kept; each call has it on disk (in the page cache) when it returns."""

    def note(self, note: dict[str, Any]) -> None:
        """Keep a note."""

    def rows(self, boot: int, sequence: int, payload: bytes) -> None:
        """Keep a chunk of rows."""


class GuestLink:
    """Implements lab.seams.Guest over one unix socket a node; QEMU connects, and may connect again.

    `operations` counts the rows received, `second_versions` the signs of two guests with one memory;
    `split_brain` holds a line for each of the first. A failing sink or observer fails the next call,
    never silently. `sent` is a workload that the guest's image does not have: each boot is told it.
    """

    def __init__(
        self, journal: Sink, observers: Sequence[Observer] = (), sent: SentWorkload | None = None
    ) -> None:
        self.operations = 0
        self.second_versions = 0
        self.split_brain: list[str] = []
        self._journal = journal
        self._observers = list(observers)
        self._sent = sent
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._current: dict[str, Connection] = {}
        self._node = ""
        self._stream: RowStream | None = None
        self._boot = self._run = self._seed = 0
        self._clock = HistoryClock()
        self._number = 0
        self._waiting: dict[int, tuple[dict[str, Any], asyncio.Future[dict[str, Any]]]] = {}
        self._moved = asyncio.Event()
        self._failure: Exception | None = None
        self._acked = 0
        self._ack_timer: asyncio.TimerHandle | None = None
        self._resend_after_s = 0.0

    async def listen(self, node: str, path: Path) -> None:
        """Wait for the node's QEMU on a unix socket."""
        self._node = self._node or node
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_unix_server(lambda: self.accept(node), str(path))
        except OSError as error:
            why = error.strerror or error
            raise LabError(f"{path}: cannot listen for the guest on {node}: {why}") from error
        self._servers.append(server)

    def accept(self, node: str) -> asyncio.Protocol:
        """Return the end of a new connection; the first node is attached until another is."""
        self._node = self._node or node
        return Connection(self, node)

    async def attach(self, node: str) -> None:
        """Take the guest's stream from this node on; what the old socket swallowed is asked for again.

        Does not wait for the guest, which may be stopped.
        """
        self._node = node
        self._greet()

    async def hello(self, timeout_s: float) -> None:
        """Return once the guest answers; raises LabError if it does not."""
        await self._call("ping", {}, timeout_s)

    async def reset(self, boot: int, run: int, seed: int) -> None:
        """Begin boot number `boot`: the guest forgets everything and numbers its frames from 1 again."""
        self._stream = None
        self._boot, self._run, self._seed = boot, run, seed
        shown = {"clock_ns": self._clock.now_ns()} if self._clock.newest_ns else {}
        reply = await self._call("reset", {"boot": boot, "run": run, "seed": seed, **shown}, _CALL_TIMEOUT_S)
        self._journal.note({"note": "boot", "boot": boot, "sequence": 1})
        self._stream = RowStream(boot)
        self._clock.note(reply["time"])
        self._acked = 0
        if self._node in self._current:
            self._current[self._node].stream = self._stream
        if self._sent is not None:
            fields = {"name": self._sent.name, "source": self._sent.source}
            await self._call("load", fields, _CALL_TIMEOUT_S)

    def give_up(self) -> int:
        """End the boot where it is and return its number: what it still reports is no part of the history.

        The history gets a fence here: what the boot had in flight has landed by now, or is to land no more.
        """
        if self._stream is not None:
            self._stream = None
            self._journal.note({"note": "fence", "boot": self._boot, "time": self._clock.now_ns()})
        return self._boot

    async def boot_again(self) -> int:
        """Begin the next boot on the attached node, where the guest was started again; return its number."""
        await self.hello(_CALL_TIMEOUT_S)
        await self.reset(self._boot + 1, self._run, self._seed + 1)
        return self._boot

    @contextlib.asynccontextmanager
    async def power_loss(self) -> AsyncIterator[None]:
        """Give the history a power loss of the storage, at some moment while the block ran.

        What the guest had reported before the block was done by then; a block that fails leaves no mark.
        """
        asked = await self.ping()
        self._clock.note(asked["time"])
        earliest_ns = self._clock.newest_ns
        yield
        latest_ns = self._clock.latest_ns(asked["time"], asked["sent_ns"])
        self._journal.note({"note": "crash", "earliest": earliest_ns, "latest": latest_ns})

    async def run(self, workload: dict[str, Any]) -> None:
        """Start issuing operations, or go on after `quiesce`; `workload` holds WorkloadSpec's fields."""
        await self._call("run", {"workload": workload}, _CALL_TIMEOUT_S)

    async def quiesce(self, timeout_s: float) -> bool:
        """Stop issuing and wait until nothing is in flight; False if something still is."""
        reply = await self._call("quiesce", {"timeout_s": timeout_s}, timeout_s + _GRACE_S)
        return bool(reply["quiet"])

    async def read_all(self, timeout_s: float) -> None:
        """Read every block once; returns when all reads have completed and been recorded."""
        reply = await self._call("read_all", {"timeout_s": timeout_s}, timeout_s + _GRACE_S)
        if not reply["quiet"]:
            raise LabError(f"the guest on {self._node} could not read every block within {timeout_s:g} s")

    async def issue(self, block: int, *, write: bool) -> int:
        """Issue one operation of the quiesced guest; return the value of a write once it is in flight."""
        fields = {"block": block, "write": write, "timeout_s": _CALL_TIMEOUT_S}
        reply = await self._call("issue", fields, _CALL_TIMEOUT_S + _GRACE_S)
        if not reply["quiet"]:
            raise LabError(f"the guest on {self._node} could not issue an operation on block {block}")
        return int(reply["value"])

    async def wall_ahead(self) -> int:
        """Return by how many ns the guest's wall clock is ahead of its monotonic one."""
        return int((await self._call("wall_clock", {}, _CALL_TIMEOUT_S))["ahead_ns"])

    async def set_wall_ahead(self, ahead_ns: int) -> None:
        """Set the guest's wall clock, whatever it shows, to so many ns ahead of its monotonic one."""
        await self._call("wall_clock", {"ahead_ns": ahead_ns}, _CALL_TIMEOUT_S)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Show `observer` every row from now on; return what ends that."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    async def abandon(self) -> int:
        """Report everything still in flight as indeterminate; return how many there were."""
        return int((await self._call("abandon", {}, _CALL_TIMEOUT_S))["count"])

    async def ping(self) -> dict[str, Any]:
        """Return the guest's counters, with `time` (ns, its clock) and `sent_ns`, `received_ns` (ours)."""
        sent_ns = clock.monotonic_ns()
        reply = await self._call("ping", {}, _CALL_TIMEOUT_S)
        return {**reply, "sent_ns": sent_ns, "received_ns": clock.monotonic_ns()}

    async def bye(self, timeout_s: float) -> None:
        """End the boot: when all its rows have come, say so in the journal and let the guest go."""
        await self._call("bye", {}, timeout_s)
        stream = self._stream
        if stream is None:
            raise InternalError("bye without a boot: reset comes first")
        self._journal.note({"note": "bye", "boot": stream.boot, "sequence": stream.received})
        self._ack(end=True)

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._ack_timer is not None:
            self._ack_timer.cancel()
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.transport.abort()
        for server in self._servers:
            await server.wait_closed()

    async def _call(self, do: str, fields: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Repeat a command until its reply has come, and every row that the reply stands on."""
        self._number += 1
        number = self._number
        command = {"id": number, "do": do, **fields}
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (command, future)
        try:
            async with asyncio.timeout(timeout_s):
                while not future.done():
                    self._send(command)
                    await asyncio.wait({future}, timeout=_REPEAT_S)
                    self._raise_failure()
                reply = future.result()
                if "error" in reply:
                    raise LabError(f"the guest on {self._node} refused {do!r}: {reply['error']}")
                await self._caught_up(reply["sequence"])
                return reply
        except TimeoutError as error:
            raise LabError(
                f"the guest on {self._node} did not complete {do!r} within {timeout_s:g} s"
            ) from error
        finally:
            del self._waiting[number]

    async def _caught_up(self, sequence: int) -> None:
        while self._stream is not None and self._stream.received < sequence:
            self._moved.clear()
            try:
                await asyncio.wait_for(self._moved.wait(), _REPEAT_S)
            except TimeoutError:
                self._ack(resend=True)
            self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def connected(self, connection: Connection) -> None:
        """Take in a new connection; the newest is the one that counts for its node."""
        self._connections.add(connection)
        self._current[connection.node] = connection
        if connection.node == self._node:
            self._greet()

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if self._current.get(connection.node) is connection:
            del self._current[connection.node]

    def received(self, connection: Connection, data: bytes) -> None:
        """Take in bytes of a connection; the first failure is kept and nothing is taken in after it."""
        if self._failure is not None:
            return
        try:
            for kind, sequence, payload in connection.reader.feed(data):
                if kind == ROWS:
                    self._take_rows(connection, sequence, payload)
                else:
                    self._take_message(payload)
        except (
            Exception
        ) as error:  # whatever the sink or an observer raises belongs to the caller of a command
            self._failure = error
            self._moved.set()

    def _take_message(self, payload: bytes) -> None:
        message = json.loads(payload)
        _, future = self._waiting.get(message.get("re", 0), (None, None))
        if future is not None and not future.done():
            future.set_result(message)

    def _take_rows(self, connection: Connection, sequence: int, payload: bytes) -> None:
        stream = connection.stream
        if stream is None:
            return
        if stream is not self._stream or self._current.get(self._node) is not connection:
            if stream.overhear(connection.node, sequence, payload) is Arrival.DIVERGED:
                self._split(stream, connection.node, sequence, payload)
            return
        arrival = stream.arrive(sequence, payload)
        if arrival is Arrival.NEXT:
            self._accept(stream, payload)
        elif arrival is Arrival.GAP:
            self._ask_again()
        elif arrival is Arrival.DIVERGED:
            self._split(stream, connection.node, sequence, payload)

    def _accept(self, stream: RowStream, payload: bytes) -> None:
        self._journal.rows(stream.boot, stream.received, payload)
        rows = np.frombuffer(payload, dtype=ROW)
        self.operations += len(rows)
        self._clock.note(int(rows["finish"].max(where=rows["finish"] != PENDING, initial=0)))
        for observe in self._observers:
            observe(stream.boot, rows)
        other = stream.contradiction()
        if other is not None:
            self._split(stream, other[0], stream.received, other[1])
        self._moved.set()
        if stream.received - self._acked >= _ACK_EVERY_FRAMES:
            self._ack()
        elif self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(_ACK_AFTER_S, self._ack)

    def _split(self, stream: RowStream, node: str, sequence: int, payload: bytes) -> None:
        """Keep the evidence that two guests run with one memory: the second version of a frame."""
        self.second_versions += 1
        if len(self.split_brain) >= _SPLIT_BRAIN_LIMIT:
            return
        self.split_brain.append(
            f"split brain: frame {sequence} of boot {stream.boot} came a second time, with other "
            f"operations, from {node}"
        )
        self._journal.rows(stream.boot, sequence, payload)
        self._journal.note({"note": "split-brain", "boot": stream.boot, "sequence": sequence, "node": node})

    def _ask_again(self) -> None:
        """Ask for what is missing, once in a while: what is on its way already comes first."""
        now_s = clock.monotonic()
        if now_s >= self._resend_after_s:
            self._resend_after_s = now_s + _RESEND_AFTER_S
            self._ack(resend=True)

    def _greet(self) -> None:
        """Tell the guest behind the attached node's socket what has come, and ask again what was asked."""
        connection = self._current.get(self._node)
        if connection is None:
            return
        if self._stream is not None:
            connection.stream = self._stream
            self._ack(resend=True)
        for command, future in self._waiting.values():
            if not future.done():
                self._send(command)

    def _ack(self, *, resend: bool = False, end: bool = False) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        stream = self._stream
        if stream is None:
            return
        self._acked = stream.received
        message = {"do": "ack", "boot": stream.boot, "seq": stream.received}
        self._send(message | ({"resend": True} if resend else {}) | ({"end": True} if end else {}))

    def _send(self, message: dict[str, Any]) -> None:
        """Send a line to the attached node, if it is connected; who needs it sent repeats it.

        The newline before it ends whatever the guest has of a line that a lost socket cut short.
        """
        connection = self._current.get(self._node)
        if connection is not None:
            connection.transport.write(b"\n" + json.dumps(message).encode() + b"\n")
