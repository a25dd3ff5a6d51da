"""A holding proxy for stock storage servers: the network as the place where a write stays alive.

    python -m jepsen_blk.storage.proxy --listen x=127.0.0.1:10810 --listen y=127.0.0.1:10811 \
        --server 127.0.0.1:10809 --control proxy.sock --log target.jsonl

Each node has a port of its own, which is how the proxy knows it. The proxy answers the control
protocol of the policy target, except for misbehaviours, and for fencing unless `--reserve` has it done by
the target's persistent reservations.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepsen_blk.errors import EXIT_INTERNAL, LabError
from jepsen_blk.storage.holds import HoldBook, HoldError
from jepsen_blk.storage.iscsi_wire import IscsiWire
from jepsen_blk.storage.log import TargetLog, WriteLine
from jepsen_blk.storage.nbd_wire import NbdWire
from jepsen_blk.storage.parking import ParkedConnection, ProxiedWrite
from jepsen_blk.storage.reissues import Reissues
from jepsen_blk.storage.requests import MAX_REQUEST_BYTES, RequestError, ok, parse_request, refused
from jepsen_blk.storage.reservations import ReservationError, Reservations
from jepsen_blk.storage.servers import Listen
from jepsen_blk.storage.sightings import Sighting, Sightings
from jepsen_blk.storage.wire import Outcome, Stream, Wire, WireError

_log = logging.getLogger("jepsen_blk.storage.proxy")
_CONNECT_TIMEOUT_S = 5.0
_REQUEST_TIMEOUT_S = 5.0
_STREAM_BYTES = 1 << 20
_CLIENT_BUFFER_BYTES = 8 << 20
"""Replies kept for a client that does not read, before replies of the server are left unread."""
_WIRES: dict[str, Callable[[], Wire]] = {"nbd": NbdWire, "iscsi": IscsiWire}


@dataclass(frozen=True, slots=True)
class Server:
    """The server behind the proxy, what it speaks, and whether it is to keep nodes out by reservations."""

    address: Listen | Path
    protocol: str = "nbd"
    reserve: bool = False

    def __str__(self) -> str:
        return str(self.address)


class Proxy:
    """All connections of all nodes, their writes and holds; implements the ledger of `parking`."""

    def __init__(self, server: Server, log: TargetLog) -> None:
        self._server = server
        self._reservations = Reservations() if server.reserve else None
        self._target_log = log
        self._holds = HoldBook()
        self._reissues = Reissues()
        self._sightings = Sightings()
        self._in_flight: dict[int, ProxiedWrite] = {}
        self._connections: set[ParkedConnection] = set()
        self._received = 0
        self._last_id = log.last_id
        self._counts: Counter[str] = Counter()
        self._watchers: set[asyncio.Event] = set()

    # What a connection reports.

    def next_id(self) -> int:
        """Return a fresh id for a write."""
        self._received += 1
        self._last_id += 1
        return self._last_id

    def arrived(self, write: ProxiedWrite) -> None:
        """Note a write, and catch it if a hold waits for it."""
        self._in_flight[write.id] = write
        again = self._reissues.arrived(write.node, write.value)
        self._catch(write)
        if self._sightings.arrived(write.node, lambda: self._of(write.node)) or again:
            self._notify()

    def _of(self, node: str) -> list[ProxiedWrite]:
        return [write for write in self._in_flight.values() if write.node == node]

    def _catch(self, write: ProxiedWrite) -> None:
        hold = self._holds.match(write.node, write.blocks)
        if hold is None:
            return
        write.hold = hold
        write.delivered = False
        self._reissues.expect(write.value)
        self._counts["held"] += 1
        self._holds.catch(hold, write.blocks, write.describe())
        self._target_log.event(
            "held",
            id=write.id,
            hold=hold.id,
            node=write.node,
            block=write.describe()["block"],
            value=write.value,
            time=time.monotonic_ns(),
        )
        self._notify()

    def ended(self, write: ProxiedWrite, outcome: Outcome, why: str) -> None:
        """Log the write and wake whoever waits for it."""
        done_ns = time.monotonic_ns()
        del self._in_flight[write.id]
        self._reissues.ended(write.value)
        self._counts[outcome] += 1
        self._target_log.write(
            WriteLine(
                write.id,
                write.node,
                write.blocks[0] if write.blocks else 0,
                write.value,
                write.process,
                write.received_ns,
                done_ns if outcome is Outcome.OK else None,
                done_ns,
                "park" if write.parked else "refuse" if outcome is Outcome.REFUSED else "apply",
                outcome,
                why,
            )
        )
        if outcome is not Outcome.OK:
            self._reissues.expect(write.value)
        if write.hold is not None:
            write.hold.landed = True
            self._target_log.flush()
        elif outcome is Outcome.OK:
            self._holds.completed(write.node, write.blocks)
        self._notify()

    def left(self, writes: Iterable[ProxiedWrite]) -> None:
        """Note that these may be sent again: their client left without having heard of them."""
        for write in writes:
            self._reissues.expect(write.value)

    async def opened(self, connection: ParkedConnection) -> None:
        """Have the session registered where reservations are used."""
        if self._reservations is not None and isinstance(connection.wire, IscsiWire):
            await self._reservations.opened(connection, connection.wire)

    async def serve(self, node: str, client: Stream) -> None:
        """Relay one connection of `node` until it is done."""
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                server = await self._connect()
        except (OSError, TimeoutError) as error:
            _log.error("%s: the server %s cannot be reached: %s", node, self._server, error)
            client.writer.close()
            return
        self._target_log.event("connect", node=node, time=time.monotonic_ns())
        client.writer.transport.set_write_buffer_limits(high=_CLIENT_BUFFER_BYTES)
        connection = ParkedConnection(node, client, server, _WIRES[self._server.protocol](), self)
        self._connections.add(connection)
        try:
            await connection.run()
        except WireError as error:
            _log.error("%s: %s", node, error)
        finally:
            self._connections.discard(connection)
            if self._reservations is not None:
                self._reservations.closed(connection)
            self._target_log.event("disconnect", node=node, time=time.monotonic_ns())

    async def _connect(self) -> Stream:
        address = self._server.address
        if isinstance(address, Path):
            return Stream(*await asyncio.open_unix_connection(address, limit=_STREAM_BYTES))
        return Stream(*await asyncio.open_connection(address.host, address.port, limit=_STREAM_BYTES))

    # What the control socket asks.

    async def answer(self, line: bytes) -> bytes:
        """Answer one control request."""
        handlers: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "hold": self._hold,
            "wait_held": self._wait_held,
            "wait_writes": self._wait_writes,
            "reissues": self._count_reissues,
            "wait_reissues": self._wait_reissues,
            "release": self._release,
            "wait_landed": self._wait_landed,
            "in_flight": self._describe_in_flight,
            "wait_in_flight": self._wait_in_flight,
            "unfence": self._unfence,
            "stats": self._stats,
        }
        if self._reservations is not None:
            handlers |= {"fence": self._fence}
        try:
            request = parse_request(line)
            handler = handlers.get(request.do)
            if handler is None:
                what = "misbehaviours" if "behave" in request.do else "fencing"
                return refused(f"the stock server has no {what}")
            return ok(**await handler(**request.fields))
        except (RequestError, HoldError, ReservationError, ConnectionError) as error:
            return refused(str(error))
        except TimeoutError:
            return refused("timeout")

    async def _hold(self, node: str, blocks: list[int]) -> dict[str, Any]:
        return {"hold": self._holds.arm(node, blocks).id}

    async def _wait_held(self, hold: int, timeout_s: float) -> dict[str, Any]:
        await self._await(lambda: self._holds.is_caught(hold), timeout_s)
        return {"write": self._holds.get(hold).caught}

    async def _wait_writes(self, node: str, block: int, count: int, timeout_s: float) -> dict[str, Any]:
        await self._await(lambda: self._holds.count(node, block) >= count, timeout_s)
        return {}

    async def _count_reissues(self, node: str) -> dict[str, Any]:
        return {"count": self._reissues.count(node)}

    async def _wait_reissues(self, node: str, count: int, timeout_s: float) -> dict[str, Any]:
        await self._await(lambda: self._reissues.count(node) >= count, timeout_s)
        return {}

    async def _release(self, hold: int) -> dict[str, Any]:
        released = self._holds.release(hold)
        if released is not None and released.caught is not None:
            self._target_log.event("released", hold=hold, id=released.caught["id"], time=time.monotonic_ns())
            for connection in self._connections:
                connection.deliver()
        self._notify()
        return {}

    async def _wait_landed(self, hold: int, timeout_s: float) -> dict[str, Any]:
        await self._await(lambda: self._holds.get(hold).landed, timeout_s)
        return {}

    async def _describe_in_flight(self, node: str) -> dict[str, Any]:
        return {"writes": [write.describe() for write in self._of(node)]}

    async def _wait_in_flight(
        self, node: str, blocks: list[int], count: int, timeout_s: float
    ) -> dict[str, Any]:
        sighting = Sighting(node, frozenset(blocks), count)
        self._sightings.look_out(sighting, self._of(node))
        try:
            await self._await(lambda: sighting.seen is not None, timeout_s)
        finally:
            self._sightings.end(sighting)
        return {"writes": sighting.seen}

    async def _fence(self, node: str, abort: bool) -> dict[str, Any]:
        if self._reservations is not None:
            await self._reservations.fence(node, abort=abort)
            self._target_log.event("fence", node=node, abort=abort, time=time.monotonic_ns())
        return {}

    async def _unfence(self, node: str) -> dict[str, Any]:
        if self._reservations is not None:
            await self._reservations.unfence(node)
            self._target_log.event("unfence", node=node, time=time.monotonic_ns())
        return {}

    async def _stats(self) -> dict[str, Any]:
        return {
            "stats": {
                "received": self._received,
                "applied": self._counts[Outcome.OK],
                "ignored": 0,
                "refused": self._counts[Outcome.REFUSED],
                "aborted": 0,
                "errors": self._counts[Outcome.ERROR],
                "held": self._counts["held"],
                "in_flight": len(self._in_flight),
            }
        }

    async def _await(self, condition: Callable[[], bool], timeout_s: float) -> None:
        event = asyncio.Event()
        self._watchers.add(event)
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    event.clear()
                    await event.wait()
        finally:
            self._watchers.discard(event)

    def _notify(self) -> None:
        for event in self._watchers:
            event.set()


async def run_proxy(listens: dict[str, Listen], server: Server, control: Path, log_path: Path) -> None:
    """Serve until SIGTERM or SIGINT; raises LabError when an address cannot be listened on."""
    log = TargetLog(log_path)
    log.start()
    proxy = Proxy(server, log)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks: set[asyncio.Task[None]] = set()
    try:
        for node, listen in listens.items():
            await _listen(proxy, node, listen, tasks)
        with contextlib.suppress(FileNotFoundError):
            control.unlink()
        await asyncio.start_unix_server(_control_handler(proxy), control, limit=MAX_REQUEST_BYTES)
        await stop.wait()
    except OSError as error:
        raise LabError(f"the proxy cannot listen: {error}; is the address free?") from error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        log.close()


async def _listen(proxy: Proxy, node: str, listen: Listen, tasks: set[asyncio.Task[None]]) -> None:
    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(proxy.serve(node, Stream(reader, writer)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await asyncio.start_server(accept, listen.host, listen.port, limit=_STREAM_BYTES)


def _control_handler(
    proxy: Proxy,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that is gone, or sends nothing, wants no answer.
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                line = await reader.readline()
            writer.write(await proxy.answer(line))
            await writer.drain()
        writer.close()

    return handle


def _address(text: str) -> Listen:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDR:PORT")
    return Listen(host.strip("[]"), int(port))


def _node_address(text: str) -> tuple[str, Listen]:
    node, _, address = text.partition("=")
    return node, _address(address)


def _server_address(text: str) -> Listen | Path:
    return Path(text.removeprefix("unix:")) if text.startswith("unix:") else _address(text)


def main() -> int:
    """Run the proxy from the command line."""
    parser = argparse.ArgumentParser(prog="jepsen_blk.storage.proxy", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--listen", type=_node_address, action="append", required=True, metavar="NODE=ADDR:PORT"
    )
    parser.add_argument("--server", type=_server_address, required=True, metavar="ADDR:PORT|unix:PATH")
    parser.add_argument("--protocol", choices=_WIRES, default="nbd")
    parser.add_argument("--reserve", action="store_true", help="fence by persistent reservations (iscsi)")
    parser.add_argument("--control", type=Path, required=True, metavar="SOCKET")
    parser.add_argument("--log", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        server = Server(options.server, options.protocol, options.reserve)
        asyncio.run(run_proxy(dict(options.listen), server, options.control, options.log))
    except LabError as error:
        _log.error("%s", error)
        return EXIT_INTERNAL
    return 0


if __name__ == "__main__":
    sys.exit(main())
