"""Just enough of iSCSI to watch it pass, and to send a SCSI command of our own on a session that passes.

Whole PDUs are relayed as they are, without digests. A write is a SCSI WRITE; its stamp is in the immediate
data, which hold a block of ours and more. What Data-Out brings later passes behind its command.

A command of our own is marked for immediate delivery: it carries the session's command number and does not
use it up (RFC 7143, 4.2.2.1), so that none of the client's has to be renumbered. Of the target's status
numbers the client sees that one is missing; libiscsi does not mind.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from enum import IntEnum

from jepsen_blk.storage.wire import Outcome, Reply, Request, Span, Stream, WireError

SECTOR_BYTES = 512

_BHS_BYTES = 48
_NO_TAG = 0xFFFFFFFF
_OPCODE = 0x3F
_IMMEDIATE = 0x40
_SCSI_COMMAND = 0x01
_LOGIN_REQUEST = 0x03
_SCSI_RESPONSE = 0x21
_LOGIN_RESPONSE = 0x23
_DATA_IN = 0x25
_DATA_OUT = 0x05
_REQUESTS = frozenset((0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10))
_RESPONSES = frozenset((0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3F))
_FINAL = 0x80
_WRITES = 0x20
_SIMPLE = 0x01
_LAST_STAGE = 0x83
"""In a login's flags: on to the full feature phase."""
_STATUS_IN_DATA = 0x01
_DIGESTS = (b"HeaderDigest", b"DataDigest")

GOOD = 0x00
CHECK_CONDITION = 0x02
RESERVATION_CONFLICT = 0x18
UNIT_ATTENTION = 0x06
_PREEMPTED = (UNIT_ATTENTION, 0x2A, 0x03)
_STATUS_NAMES = {CHECK_CONDITION: "CHECK CONDITION", RESERVATION_CONFLICT: "RESERVATION CONFLICT"}
_SENSE_NAMES = {
    _PREEMPTED: "UNIT ATTENTION, reservations preempted",
    (0x05, 0x24, 0x00): "ILLEGAL REQUEST, invalid field in CDB",
    (0x05, 0x20, 0x00): "ILLEGAL REQUEST, invalid command operation code",
}


class _Operation(IntEnum):
    WRITE_6 = 0x0A
    WRITE_10 = 0x2A
    WRITE_12 = 0xAA
    WRITE_16 = 0x8A
    WRITE_SAME_10 = 0x41
    WRITE_SAME_16 = 0x93


@dataclass(frozen=True, slots=True)
class Pdu:
    """One PDU: the basic header segment, the data without padding, and all of it."""

    head: bytes
    data: bytes
    raw: bytes

    @property
    def opcode(self) -> int:
        """What it is."""
        return self.head[0] & _OPCODE

    @property
    def tag(self) -> int:
        """The initiator's task tag."""
        return int.from_bytes(self.head[16:20], "big")

    def number(self, at: int) -> int:
        """Return a sequence number of the header."""
        return int.from_bytes(self.head[at : at + 4], "big")


@dataclass(frozen=True, slots=True)
class Answer:
    """How a SCSI command ended; `sense` is (key, code, qualifier), zeros where there is none."""

    status: int
    sense: tuple[int, int, int]

    @property
    def text(self) -> str:
        """Say it as the standard does; empty for GOOD."""
        if self.status == GOOD:
            return ""
        name = _STATUS_NAMES.get(self.status, f"status {self.status:#04x}")
        if self.status != CHECK_CONDITION:
            return name
        return f"{name}: {_SENSE_NAMES.get(self.sense, 'sense ' + bytes(self.sense).hex('/'))}"

    @property
    def outcome(self) -> Outcome:
        """Tell a refusal of this initiator from other failures."""
        refused = self.status == RESERVATION_CONFLICT or self.sense == _PREEMPTED
        return Outcome.OK if self.status == GOOD else Outcome.REFUSED if refused else Outcome.ERROR


class IscsiWire:
    """Implements `Wire` for iSCSI, and makes commands for the session that it follows."""

    def __init__(self) -> None:
        self._command_number = 0
        self._status_number = 0
        self._own_tag = _NO_TAG

    async def open(self, client: Stream, server: Stream) -> bool:
        """Relay the login, to the full feature phase."""
        while True:
            asked = await _read_pdu(client.reader, _REQUESTS, "the client")
            if asked.opcode != _LOGIN_REQUEST:
                raise WireError("the client sent something before its iSCSI login")
            self._command_number = asked.number(24)
            server.writer.write(asked.raw)
            told = await _read_pdu(server.reader, _RESPONSES, "the server")
            if told.opcode == _LOGIN_RESPONSE:
                self._status_number = told.number(24)
                _refuse_digests(told.data)
            client.writer.write(told.raw)
            if told.opcode != _LOGIN_RESPONSE or told.head[36]:  # a redirection, or a refusal
                return False
            if told.head[1] & _LAST_STAGE == _LAST_STAGE:
                return True

    async def read_request(self, reader: asyncio.StreamReader) -> Request:
        """Read one PDU of the client."""
        pdu = await _read_pdu(reader, _REQUESTS, "the client")
        is_write = pdu.opcode == _SCSI_COMMAND and pdu.head[1] & _WRITES
        return Request(pdu.tag, pdu.raw, _span(pdu.head[32:48], pdu.data) if is_write else None)

    async def read_reply(self, reader: asyncio.StreamReader) -> Reply:
        """Read one PDU of the server; only a status ends a command."""
        pdu = await _read_pdu(reader, _RESPONSES, "the server")
        done = pdu.opcode == _SCSI_RESPONSE or (pdu.opcode == _DATA_IN and pdu.head[1] & _STATUS_IN_DATA)
        if not done:
            return Reply(pdu.tag, pdu.raw, done=False)
        self._status_number = pdu.number(24)
        answer = answer_of(pdu.raw)
        return Reply(pdu.tag, pdu.raw, True, answer.outcome, answer.text)

    def sent(self, request: Request) -> None:
        """Follow the client's command numbers, as far as the server has seen them."""
        opcode = request.raw[0]
        if opcode & _OPCODE != _DATA_OUT and not opcode & _IMMEDIATE:
            self._command_number = int.from_bytes(request.raw[24:28], "big") + 1 & _NO_TAG

    def command(self, unit: int, block: bytes, data: bytes) -> Request:
        """Make a command of our own with the descriptor block `block`, whose data go with it."""
        self._own_tag = self._own_tag - 1 or _NO_TAG - 1
        head = struct.pack(">BBH", _IMMEDIATE | _SCSI_COMMAND, _FINAL | _WRITES | _SIMPLE, 0)
        head += len(data).to_bytes(4, "big") + struct.pack(">H6x", unit)
        numbers = self._own_tag, len(data), self._command_number, self._status_number + 1 & _NO_TAG
        head += struct.pack(">IIII", *numbers) + block.ljust(16, b"\0")
        return Request(self._own_tag, head + data + bytes(-len(data) % 4))


def answer_of(raw: bytes) -> Answer:
    """Read the status, and the sense if there is one, of a response."""
    if raw[0] & _OPCODE == _SCSI_RESPONSE and raw[2]:
        return Answer(CHECK_CONDITION, (0x0B, 0, 0))  # the target itself has failed
    status, sense = raw[3], raw[_BHS_BYTES + 2 :]
    if status == CHECK_CONDITION and len(sense) >= 14 and sense[0] & 0x7E == 0x70:
        return Answer(status, (sense[2] & 0x0F, sense[12], sense[13]))
    return Answer(status, (0, 0, 0))


def _span(block: bytes, data: bytes) -> Span | None:
    """Return what the command of that descriptor block writes, None if it is no write to the medium."""
    match block[0]:
        case _Operation.WRITE_6:
            at, count = int.from_bytes(block[1:4], "big") & 0x1FFFFF, block[4] or 256
        case _Operation.WRITE_10 | _Operation.WRITE_SAME_10:
            at, count = int.from_bytes(block[2:6], "big"), int.from_bytes(block[7:9], "big")
        case _Operation.WRITE_12:
            at, count = int.from_bytes(block[2:6], "big"), int.from_bytes(block[6:10], "big")
        case _Operation.WRITE_16 | _Operation.WRITE_SAME_16:
            at, count = int.from_bytes(block[2:10], "big"), int.from_bytes(block[10:14], "big")
        case _:
            return None
    return Span(at * SECTOR_BYTES, count * SECTOR_BYTES, data)


async def _read_pdu(reader: asyncio.StreamReader, known: frozenset[int], who: str) -> Pdu:
    head = await reader.readexactly(_BHS_BYTES)
    if head[0] & _OPCODE not in known:
        raise WireError(f"{who} sent something that is no iSCSI PDU")
    length = int.from_bytes(head[5:8], "big")
    more = head[4] * 4
    rest = await reader.readexactly(more + length + -length % 4)
    return Pdu(head, rest[more : more + length], head + rest)


def _refuse_digests(keys: bytes) -> None:
    for key in keys.split(b"\0"):
        name, _, value = key.partition(b"=")
        if name in _DIGESTS and value != b"None":
            raise WireError(f"{name.decode()}={value.decode()}: the proxy follows no digests; turn them off")
