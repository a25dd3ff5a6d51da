"""One connection of a node's hypervisor to the host's end of the link: bytes in, bytes out."""

from __future__ import annotations

import asyncio
from typing import Protocol

from jepsen_blk.errors import InternalError
from workloads.agent.frames import FrameReader
from workloads.stream import RowStream


class End(Protocol):
    """The host's end, which its connections report to."""

    def connected(self, connection: Connection) -> None:
        """Take in a new connection."""

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection."""

    def received(self, connection: Connection, data: bytes) -> None:
        """Take in bytes of a connection."""


class Connection(asyncio.Protocol):
    """A connection from `node`; `stream` is the boot whose frames come out of it."""

    transport: asyncio.Transport

    def __init__(self, end: End, node: str) -> None:
        self.node = node
        self.reader = FrameReader()
        self.stream: RowStream | None = None
        self._end = end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Announce the connection."""
        if not isinstance(transport, asyncio.Transport):
            raise InternalError("a unix socket without a transport to write to")
        self.transport = transport
        self._end.connected(self)

    def data_received(self, data: bytes) -> None:
        """Hand the bytes on."""
        self._end.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Announce the end."""
        self._end.disconnected(self)
