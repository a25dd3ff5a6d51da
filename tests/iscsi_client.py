"""A small blocking iSCSI initiator: one session, one connection, one logical unit."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from jepsen_blk.stamp import BLOCK_BYTES
from jepsen_blk.storage.servers import TGT_TARGET, initiator_name

GOOD, CHECK_CONDITION, RESERVATION_CONFLICT = 0x00, 0x02, 0x18
_BHS = 48
_SECTORS = BLOCK_BYTES // 512
_READ, _WRITE = 0x28, 0x2A


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    data: bytes
    sense: bytes = b""


class IscsiClient:
    """Raises ConnectionError when the other side ends the connection."""

    def __init__(self, port: int, node: str, isid: int = 1, digest: str = "None") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._itt = 0
        self._cmd_sn = 1
        self._exp_stat_sn = 0
        self._answers: dict[int, Answer] = {}
        self._data: dict[int, bytes] = {}
        try:
            self._login(initiator_name(node), isid, digest)
        except BaseException:
            self.socket.close()
            raise

    def _login(self, name: str, isid: int, digest: str) -> None:
        keys = {
            "InitiatorName": name,
            "SessionType": "Normal",
            "TargetName": TGT_TARGET,
            "HeaderDigest": digest,
            "DataDigest": "None",
            "InitialR2T": "No",
            "ImmediateData": "Yes",
            "MaxRecvDataSegmentLength": "262144",
        }
        text = b"".join(f"{key}={value}\0".encode() for key, value in keys.items())
        head = struct.pack(">BBBB", 0x43, 0x87, 0, 0) + len(text).to_bytes(4, "big")
        head += bytes((0x80, 0, 0, 0, 0, isid)) + bytes(2)
        head += struct.pack(">IHHII16x", 0, 0, 0, self._cmd_sn, 0)
        self.socket.sendall(head + _padded(text))
        answer, _ = self._pdu()
        if answer[0] & 0x3F != 0x23 or answer[36]:
            raise ConnectionError(f"the login was refused: {answer[36:38].hex()}")
        self._exp_stat_sn = int.from_bytes(answer[24:28], "big") + 1

    def send(self, cdb: bytes, data: bytes = b"", expected: int = 0, *, immediate: int | None = None) -> int:
        """Send a command with (the first `immediate` bytes of) its data; return its task tag."""
        self._itt += 1
        sent = data if immediate is None else data[:immediate]
        flags = 0x81 | (0x20 if data else 0) | (0x40 if expected else 0)
        head = struct.pack(">BB2x", 0x01, flags) + len(sent).to_bytes(4, "big")
        head += bytes((0, 1)) + bytes(6)
        head += struct.pack(">IIII", self._itt, len(data) or expected, self._cmd_sn, self._exp_stat_sn)
        self._cmd_sn += 1
        self.socket.sendall(head + cdb.ljust(16, b"\0") + _padded(sent))
        return self._itt

    def reply(self, tag: int) -> Answer:
        """Return the answer to a command, reading on until it is there."""
        while tag not in self._answers:
            head, data = self._pdu()
            opcode, found = head[0] & 0x3F, int.from_bytes(head[16:20], "big")
            self._exp_stat_sn = int.from_bytes(head[24:28], "big") + 1
            if opcode == 0x25:
                self._data[found] = self._data.get(found, b"") + data
                if head[1] & 1:
                    self._answers[found] = Answer(head[3], self._data.pop(found))
            elif opcode == 0x21:
                self._answers[found] = Answer(head[3], self._data.pop(found, b""), data[2:])
        return self._answers.pop(tag)

    def send_rest(self, data: bytes) -> None:
        """Send what the target asks for next of a write's data."""
        head, _ = self._pdu()
        assert head[0] == 0x31, head
        offset, length = struct.unpack(">II", head[40:48])
        out = struct.pack(">BB2x", 0x05, 0x80) + length.to_bytes(4, "big") + head[8:24]
        out += struct.pack(">4xI4xII4x", self._exp_stat_sn, 0, offset)
        self.socket.sendall(out + _padded(data[offset : offset + length]))

    def begin_write(self, block: int, data: bytes) -> int:
        """Send a write with a part of its data."""
        return self.send(_cdb(_WRITE, block), data, immediate=512)

    def send_write(self, block: int, data: bytes) -> int:
        return self.send(_cdb(_WRITE, block), data)

    def write(self, block: int, data: bytes) -> int:
        return self.reply(self.send_write(block, data)).status

    def read(self, block: int) -> bytes:
        answer = self.reply(self.send(_cdb(_READ, block), expected=BLOCK_BYTES))
        assert answer.status == GOOD, answer
        return answer.data

    def settle(self) -> None:
        """Have a unit attention reported, as a new nexus has one."""
        self.reply(self.send(bytes(6)))

    def close(self) -> None:
        self.socket.close()

    def die(self) -> None:
        """End the connection by a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _pdu(self) -> tuple[bytes, bytes]:
        head = self._receive(_BHS)
        length = int.from_bytes(head[5:8], "big")
        return head, self._receive(-(-length // 4) * 4)[:length]

    def _receive(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            part = self.socket.recv(count - len(received))
            if not part:
                raise ConnectionError("the connection ended")
            received += part
        return received


def _cdb(operation: int, block: int) -> bytes:
    return struct.pack(">BBIBHB", operation, 0, block * _SECTORS, 0, _SECTORS, 0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
