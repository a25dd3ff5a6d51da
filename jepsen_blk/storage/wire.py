"""What the holding proxy has to know of a protocol: where requests end, which are writes, what answers them.

The proxy changes nothing of what passes. A protocol is a `Wire` a connection: NBD (nbd_wire.py) and iSCSI
(iscsi_wire.py).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class WireError(Exception):
    """The stream is not the protocol that we can follow; the message is one line."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One side of a proxied connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Outcome(StrEnum):
    """How the server answered."""

    OK = "ok"
    ERROR = "error"
    REFUSED = "refused"
    """It does not take the client's writes."""


@dataclass(frozen=True, slots=True)
class Span:
    """What a write is to change; `payload` is its data, or the part that came with the request."""

    offset: int
    length: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent, all of it in `raw`; `write` if it is one, `farewell` if the client leaves by it."""

    cookie: int
    raw: bytes
    write: Span | None = None
    farewell: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply or a part of one; `done` with the last."""

    cookie: int
    raw: bytes
    done: bool = True
    outcome: Outcome = Outcome.OK
    why: str = ""


class Wire(Protocol):
    """One connection's view of its protocol.

    All raise WireError for a stream that cannot be followed, IncompleteReadError or ConnectionError when a
    side goes away.
    """

    async def open(self, client: Stream, server: Stream) -> bool:
        """Relay the handshake; return True once requests may follow, False if the client gave up."""

    async def read_request(self, reader: asyncio.StreamReader) -> Request:
        """Read what the client sends next."""

    async def read_reply(self, reader: asyncio.StreamReader) -> Reply:
        """Read what the server sends next."""

    def sent(self, request: Request) -> None:
        """Note that the request is on its way to the server."""
