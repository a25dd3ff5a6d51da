"""Just enough of the NBD protocol to watch it pass: the handshake's end, requests and replies.

The proxy changes nothing on the wire; it must only know where one request ends and the next
begins, which are writes, and which reply answers which. Newstyle negotiation, simple and structured
replies. Numbers are those of the protocol's specification (doc/proto.md of the NBD project).
"""

from __future__ import annotations

import asyncio
import struct

from jepsen_blk.storage.wire import Outcome, Reply, Request, Span, Stream, WireError

CMD_READ = 0
CMD_WRITE = 1
CMD_DISC = 2
CMD_WRITE_ZEROES = 6
MAX_PAYLOAD_BYTES = 64 << 20
"""Twice what servers take; a longer request means that the stream was misread."""

_GREETING_BYTES = 18
_CLIENT_FLAGS_BYTES = 4
_CLIENT_NO_ZEROES = 2
_OPTION = struct.Struct(">QII")
_OPTION_MAGIC = 0x49484156454F5054
_REPLY = struct.Struct(">QIII")
_REPLY_MAGIC = 0x0003E889045565A9
_OPT_EXPORT_NAME = 1
_OPT_ABORT = 2
_OPT_STARTTLS = 5
_OPT_GO = 7
_REP_ACK = 1
_REP_ERROR = 1 << 31
_EXPORT_BYTES = 10
_EXPORT_ZEROES = 124

_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC = 0x25609513
_SIMPLE = struct.Struct(">IIQ")
_SIMPLE_MAGIC = 0x67446698
_CHUNK = struct.Struct(">IHHQI")
_CHUNK_MAGIC = 0x668E33EF
_CHUNK_DONE = 1
_CHUNK_ERROR = 1 << 15


class NbdWire:
    """Implements `Wire` for NBD."""

    def __init__(self) -> None:
        self._reads: dict[int, int] = {}

    async def open(self, client: Stream, server: Stream) -> bool:
        """Relay the negotiation."""
        return await _pass_negotiation(client, server)

    async def read_request(self, reader: asyncio.StreamReader) -> Request:
        """Read one request with its payload."""
        head = await reader.readexactly(_REQUEST.size)
        magic, _, kind, cookie, offset, length = _REQUEST.unpack(head)
        if magic != _REQUEST_MAGIC or (kind == CMD_WRITE and length > MAX_PAYLOAD_BYTES):
            raise WireError("the client sent something that is no NBD request")
        payload = await reader.readexactly(length) if kind == CMD_WRITE else b""
        if kind == CMD_READ:
            self._reads[cookie] = length
        write = Span(offset, length, payload) if kind in (CMD_WRITE, CMD_WRITE_ZEROES) else None
        return Request(cookie, head + payload, write, farewell=kind == CMD_DISC)

    async def read_reply(self, reader: asyncio.StreamReader) -> Reply:
        """Read one simple reply or one chunk of a structured one."""
        reply = await _read_reply(reader, self._reads)
        if reply.done:
            self._reads.pop(reply.cookie, None)
        return reply

    def sent(self, request: Request) -> None:
        """Nothing of NBD depends on it."""


async def _pass_negotiation(client: Stream, server: Stream) -> bool:
    """Relay the handshake, which is lock-step; return True once both sides are in transmission.

    False: the client gave up. Raises WireError for TLS or another protocol, IncompleteReadError when a
    side goes away.
    """
    client.writer.write(await server.reader.readexactly(_GREETING_BYTES))
    flags = await client.reader.readexactly(_CLIENT_FLAGS_BYTES)
    server.writer.write(flags)
    while True:
        head = await client.reader.readexactly(_OPTION.size)
        magic, option, length = _OPTION.unpack(head)
        if magic != _OPTION_MAGIC or length > MAX_PAYLOAD_BYTES:
            raise WireError("the client does not speak newstyle NBD")
        if option == _OPT_STARTTLS:
            raise WireError("the client asks for TLS, which the proxy cannot follow; turn it off")
        server.writer.write(head + await client.reader.readexactly(length))
        if option == _OPT_EXPORT_NAME:
            no_zeroes = flags[-1] & _CLIENT_NO_ZEROES
            rest = _EXPORT_BYTES + (0 if no_zeroes else _EXPORT_ZEROES)
            client.writer.write(await server.reader.readexactly(rest))
            return True
        final = await _pass_option_replies(client, server)
        if option == _OPT_GO and final == _REP_ACK:
            return True
        if option == _OPT_ABORT:
            return False


async def _pass_option_replies(client: Stream, server: Stream) -> int:
    """Relay the replies to one option; return the type of the last."""
    while True:
        head = await server.reader.readexactly(_REPLY.size)
        magic, _, kind, length = _REPLY.unpack(head)
        if magic != _REPLY_MAGIC or length > MAX_PAYLOAD_BYTES:
            raise WireError("the server does not speak newstyle NBD")
        client.writer.write(head + await server.reader.readexactly(length))
        if kind == _REP_ACK or kind & _REP_ERROR:
            return int(kind)


async def _read_reply(reader: asyncio.StreamReader, reads: dict[int, int]) -> Reply:
    """Read one reply or chunk; `reads` gives the length of each read in flight by its cookie."""
    magic_bytes = await reader.readexactly(4)
    magic = int.from_bytes(magic_bytes, "big")
    if magic == _SIMPLE_MAGIC:
        head = magic_bytes + await reader.readexactly(_SIMPLE.size - 4)
        _, error, cookie = _SIMPLE.unpack(head)
        length = 0 if error else reads.get(cookie, 0)
        return Reply(cookie, head + await reader.readexactly(length), outcome=_outcome(error != 0))
    if magic == _CHUNK_MAGIC:
        head = magic_bytes + await reader.readexactly(_CHUNK.size - 4)
        _, flags, kind, cookie, length = _CHUNK.unpack(head)
        if length > MAX_PAYLOAD_BYTES:
            raise WireError("the server sent a chunk that is too long")
        raw = head + await reader.readexactly(length)
        return Reply(cookie, raw, bool(flags & _CHUNK_DONE), _outcome(bool(kind & _CHUNK_ERROR)))
    raise WireError("the server sent something that is no NBD reply")


def _outcome(failed: bool) -> Outcome:
    return Outcome.ERROR if failed else Outcome.OK
