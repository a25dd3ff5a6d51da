"""One proxied connection: requests pass, or are parked on the wire, as in a network that delays them.

A hold parks everything from the caught write's header on, since a byte stream keeps its order. The
server's side of the connection outlives the client's: what a dead hypervisor had sent may still
arrive, and that is the point.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from jepsen_blk.storage.holds import Hold, blocks_of, stamp_of
from jepsen_blk.storage.wire import Outcome, Reply, Request, Stream, Wire, WireError

LAST_REPLIES_S = 30.0
"""How long a server may take to answer what a dead client had sent, before its connection is closed."""
_MAX_PARKED_BYTES = 64 << 20
_NO_REPLY = "the server's connection ended before its reply"
_GONE = (asyncio.IncompleteReadError, OSError)
_LEFT = (*_GONE, type(None))
"""How reading from a client ends when it dies, and (None) when it says goodbye."""


@dataclass(slots=True, eq=False)
class ProxiedWrite:
    """A write on its way; times are ns of CLOCK_MONOTONIC."""

    id: int
    node: str
    blocks: range
    value: int
    process: int
    received_ns: int
    hold: Hold | None = None
    parked: bool = False
    delivered: bool = True

    def describe(self) -> dict[str, Any]:
        """Return it as `InFlight`."""
        return {
            "id": self.id,
            "node": self.node,
            "block": self.blocks[0] if self.blocks else 0,
            "value": self.value,
            "received_ns": self.received_ns,
            "held": not self.delivered,
        }


class Ledger(Protocol):
    """Where a connection reports its writes; the proxy's book of all of them."""

    def arrived(self, write: ProxiedWrite) -> None:
        """Note a write; a hold that catches it is set in `write.hold`."""

    def ended(self, write: ProxiedWrite, outcome: Outcome, why: str) -> None:
        """Note a reply, or the end of hope for one."""

    def left(self, writes: Iterable[ProxiedWrite]) -> None:
        """Note that the client left without having heard of these."""

    def next_id(self) -> int:
        """Return a fresh id for a write."""

    async def opened(self, connection: ParkedConnection) -> None:
        """Do what has to be done on a new connection before the client's first request."""


class ParkedConnection:
    """Relays between a client and the server, parking and delivering as the holds say."""

    def __init__(self, node: str, client: Stream, server: Stream, wire: Wire, ledger: Ledger) -> None:
        self.node = node
        self.wire = wire
        self.client_left = False
        self._client = client
        self._server = server
        self._ledger = ledger
        self._writes: dict[int, ProxiedWrite] = {}
        self._parked: deque[tuple[Request, ProxiedWrite | None]] = deque()
        self._parked_bytes = 0
        self._failed: dict[int, Reply] = {}
        self._own: dict[int, asyncio.Future[Reply]] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Relay until both sides are done; raises WireError when the stream cannot be followed."""
        try:
            if not await self.wire.open(self._client, self._server):
                return
            await self._transmit()
        except _GONE:
            return
        finally:
            for write in self._writes.values():
                self._ledger.ended(write, Outcome.ERROR, _NO_REPLY)
            for answer in self._own.values():
                if not answer.done():
                    answer.set_exception(ConnectionError(_NO_REPLY))
            self._client.writer.close()
            self._server.writer.close()

    def deliver(self) -> None:
        """Send on what is parked, up to the next write that is still held."""
        while self._parked:
            request, write = self._parked[0]
            if write is not None and write.hold is not None and not write.hold.released:
                break
            self._parked.popleft()
            self._parked_bytes -= len(request.raw)
            if write is not None:
                write.delivered = True
            self._send(request)
        self._changed.set()

    async def execute(self, request: Request) -> Reply:
        """Send a request of our own on the client's connection; its answer is not passed on.

        Raises ConnectionError when the server's side ends before it.
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._own[request.cookie] = answer
        self._send(request)
        try:
            return await answer
        finally:
            del self._own[request.cookie]

    def _send(self, request: Request) -> None:
        self.wire.sent(request)
        self._server.writer.write(request.raw)

    async def _transmit(self) -> None:
        replies = asyncio.create_task(self._pass_replies())
        requests = asyncio.create_task(self._pass_requests())
        tasks = {replies, requests}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if replies not in done and isinstance(requests.exception(), _LEFT):
                await self._settle(replies)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, WireError):
                raise end

    async def _settle(self, replies: asyncio.Task[None]) -> None:
        """The client has left: keep the server's side until what was sent or parked is answered."""
        self.client_left = True
        self._ledger.left(self._writes.values())
        while self._parked and not replies.done():
            await self._change_or(replies, None)
        deadline = time.monotonic() + LAST_REPLIES_S
        while self._writes and not replies.done() and time.monotonic() < deadline:
            await self._change_or(replies, deadline - time.monotonic())

    async def _change_or(self, task: asyncio.Task[None], timeout_s: float | None) -> None:
        self._changed.clear()
        change = asyncio.create_task(self._changed.wait())
        await asyncio.wait({change, task}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        change.cancel()

    async def _pass_requests(self) -> None:
        await self._ledger.opened(self)
        while True:
            request = await self.wire.read_request(self._client.reader)
            if request.farewell:
                return  # passed on, it would let the server forget what it has not answered yet
            write = self._note(request)
            if self._parked or (write is not None and write.hold is not None):
                await self._park(request, write)
            else:
                self._send(request)
                await self._server.writer.drain()

    def _note(self, request: Request) -> ProxiedWrite | None:
        span = request.write
        if span is None:
            return None
        value, process = stamp_of(span.payload)
        blocks = blocks_of(span.offset, span.length)
        write = ProxiedWrite(self._ledger.next_id(), self.node, blocks, value, process, time.monotonic_ns())
        self._writes[request.cookie] = write
        self._ledger.arrived(write)
        return write

    async def _park(self, request: Request, write: ProxiedWrite | None) -> None:
        if write is not None:
            write.parked = True
            write.delivered = False
        self._parked.append((request, write))
        self._parked_bytes += len(request.raw)
        while self._parked_bytes > _MAX_PARKED_BYTES:
            self._changed.clear()
            await self._changed.wait()

    async def _pass_replies(self) -> None:
        client = self._client.writer
        while True:
            reply = await self.wire.read_reply(self._server.reader)
            own = self._own.get(reply.cookie)
            if own is not None:
                if not own.done():
                    own.set_result(reply)
                continue
            # A dead client does not stop the replies from being read: they tell when a write landed.
            if not client.is_closing():
                client.write(reply.raw)
                with contextlib.suppress(*_GONE):
                    await client.drain()
            if reply.cookie in self._writes:
                self._note_reply(reply)

    def _note_reply(self, reply: Reply) -> None:
        if reply.outcome is not Outcome.OK:
            self._failed[reply.cookie] = reply
        if reply.done:
            last = self._failed.pop(reply.cookie, reply)
            self._ledger.ended(self._writes.pop(reply.cookie), last.outcome, last.why)
            self._changed.set()
