"""Frames: how the guest's stream survives a cut in the middle of a record.

A migration gives the host another socket, and what the old one held is lost wherever it was. So
each frame is found by its magic and believed by its checksum, and a reader that sees anything else
goes on at the next magic. Standard library only: both ends of the link import this module.
"""

import struct
from zlib import crc32

ROWS = 1
"""Kind of a frame that holds rows; numbered from 1, kept until acked."""
JSON = 2
"""Kind of a frame that holds one JSON object (hello, replies); its sequence is 0 and it is never kept."""
MAX_PAYLOAD_BYTES = 1 << 15
ROW = struct.Struct("<BBHIqqq")
"""f, outcome, process, block, value, start, finish: the row of jepsen_blk/history/record.py."""

_MAGIC = b"JB"
_HEAD = struct.Struct("<2sBxIII")
_CHECKED = _HEAD.size - 4


def pack_frame(kind: int, sequence: int, payload: bytes) -> bytes:
    """Return the frame's bytes; the checksum covers the header before it, and the payload."""
    head = _HEAD.pack(_MAGIC, kind, sequence, len(payload), 0)[:_CHECKED]
    return head + crc32(payload, crc32(head)).to_bytes(4, "little") + payload


class FrameReader:
    """Finds whole frames in a byte stream; `skipped` counts the bytes that belonged to none."""

    def __init__(self) -> None:
        self.skipped = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Take in bytes; return the frames completed by them as (kind, sequence, payload)."""
        buffer = self._buffer
        buffer += data
        frames = []
        at = 0
        while len(buffer) - at >= _HEAD.size:
            magic, kind, sequence, length, checksum = _HEAD.unpack_from(buffer, at)
            if magic != _MAGIC or kind not in (ROWS, JSON) or length > MAX_PAYLOAD_BYTES:
                at = self._skip(at)
                continue
            end = at + _HEAD.size + length
            if end > len(buffer):
                break
            payload = bytes(buffer[at + _HEAD.size : end])
            if crc32(payload, crc32(buffer[at : at + _CHECKED])) != checksum:
                at = self._skip(at)
                continue
            frames.append((kind, sequence, payload))
            at = end
        del buffer[:at]
        return frames

    def _skip(self, at: int) -> int:
        """Return where the next frame may begin; the last byte stays, since it may be half a magic."""
        found = self._buffer.find(_MAGIC, at + 1)
        if found < 0:
            found = len(self._buffer) - 1
        self.skipped += found - at
        return found
