"""A small blocking NBD client: requests and replies apart, so that a test can leave writes in flight."""

from __future__ import annotations

import select
import socket
import struct

from jepsen_blk.stamp import BLOCK_BYTES, Stamp, encode

TIMEOUT_S = 10.0
FLAG_SEND_FLUSH = 1 << 2
FLAG_SEND_FUA = 1 << 3
EPERM = 1
EIO = 5

_OPTION_MAGIC = b"IHAVEOPT"
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_FUA = 1


def data_of(block: int, sequence: int, *, count: int = 1) -> bytes:
    """Stamped data of `count` blocks from `block` on."""
    return b"".join(encode(Stamp(7, block + i, 0, 3, sequence)) for i in range(count))


class NbdClient:
    """One connection in transmission; `cookie`s name requests as the protocol does."""

    def __init__(self, port: int, export: str, *, structured: bool = False, old_option: bool = False) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._cookie = 0
        self._lengths: dict[int, int] = {}
        self._replies: dict[int, tuple[int, bytes]] = {}
        self._chunks: dict[int, tuple[int, bytearray]] = {}
        try:
            self.size, self.flags = self._handshake(export.encode(), structured, old_option)
        except BaseException:
            self.socket.close()
            raise

    def _handshake(self, name: bytes, structured: bool, old_option: bool) -> tuple[int, int]:
        greeting = self._receive(18)
        assert greeting[:16] == b"NBDMAGIC" + _OPTION_MAGIC
        self.socket.sendall(struct.pack(">I", 3))
        if structured:
            assert self._option(8, b"") == (1, b"")
        if old_option:
            self.socket.sendall(_OPTION_MAGIC + struct.pack(">II", 1, len(name)) + name)
            info = self._receive(10)
        else:
            info = self._go(struct.pack(">I", len(name)) + name + struct.pack(">H", 0))
        size, flags = struct.unpack(">QH", info)
        return size, flags

    def _go(self, data: bytes) -> bytes:
        self._send_option(7, data)
        info = b""
        while True:
            kind, body = self._option_reply()
            if kind == 3 and body[:2] == b"\0\0":
                info = body[2:]
            elif kind == 1:
                return info
            else:
                assert kind == 3, f"option reply {kind:#x} {body!r}"

    def _option(self, option: int, data: bytes) -> tuple[int, bytes]:
        self._send_option(option, data)
        return self._option_reply()

    def _send_option(self, option: int, data: bytes) -> None:
        self.socket.sendall(_OPTION_MAGIC + struct.pack(">II", option, len(data)) + data)

    def _option_reply(self) -> tuple[int, bytes]:
        _, _, kind, length = struct.unpack(">QIII", self._receive(20))
        return kind, self._receive(length)

    def _request(self, kind: int, offset: int, length: int, payload: bytes = b"", flags: int = 0) -> int:
        self._cookie += 1
        self._lengths[self._cookie] = length if kind == _READ else 0
        self.socket.sendall(
            struct.pack(">IHHQQI", 0x25609513, flags, kind, self._cookie, offset, length) + payload
        )
        return self._cookie

    def send_write(self, block: int, data: bytes) -> int:
        return self._request(_WRITE, block * BLOCK_BYTES, len(data), data)

    def send_read(self, block: int, count: int = 1) -> int:
        return self._request(_READ, block * BLOCK_BYTES, count * BLOCK_BYTES)

    def reply(self, cookie: int) -> int:
        """Wait for the reply and return its error number."""
        while cookie not in self._replies:
            self._receive_reply()
        return self._replies[cookie][0]

    def answered(self, cookie: int) -> bool:
        """Tell whether the reply is here already."""
        while select.select([self.socket], [], [], 0)[0]:
            self._receive_reply()
        return cookie in self._replies

    def write(self, block: int, data: bytes) -> int:
        return self.reply(self.send_write(block, data))

    def write_durably(self, block: int, data: bytes) -> int:
        return self.reply(self._request(_WRITE, block * BLOCK_BYTES, len(data), data, _FUA))

    def read(self, block: int, count: int = 1) -> bytes:
        cookie = self.send_read(block, count)
        assert self.reply(cookie) == 0
        return self._replies[cookie][1]

    def try_read(self, block: int) -> int:
        return self.reply(self.send_read(block))

    def flush(self) -> int:
        return self.reply(self._request(_FLUSH, 0, 0))

    def send_disconnect(self) -> None:
        self._request(_DISCONNECT, 0, 0)

    def die(self) -> None:
        """End the connection with a reset, as a killed or fenced host does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        if self.socket.fileno() >= 0:
            self.socket.close()

    def _receive_reply(self) -> None:
        magic = struct.unpack(">I", self._receive(4))[0]
        if magic == 0x67446698:
            error, cookie = struct.unpack(">IQ", self._receive(12))
            data = b"" if error else self._receive(self._lengths[cookie])
            self._replies[cookie] = (error, data)
            return
        assert magic == 0x668E33EF, f"{magic:#x}"
        flags, kind, cookie, length = struct.unpack(">HHQI", self._receive(16))
        body = self._receive(length)
        error, data = self._chunks.setdefault(cookie, (0, bytearray()))
        if kind & 1 << 15:
            error = struct.unpack(">I", body[:4])[0]
        elif kind == 1:
            data += body[8:]
        elif kind == 2:
            data += bytes(struct.unpack(">I", body[8:12])[0])
        self._chunks[cookie] = (error, data)
        if flags & 1:
            self._replies[cookie] = (error, bytes(data))

    def _receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self.socket.recv(length - len(data))
            if not part:
                raise ConnectionError("the server closed the connection")
            data += part
        return data
