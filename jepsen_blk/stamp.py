"""What a block carries: a self-describing stamp, so that every read names the write it saw.

The stamp is 64 bytes and fills its block by repetition, eight times in each 512-byte sector.
A read that finds two different stamps in one block is torn; a valid stamp of another block is a
misdirected write; a valid stamp of another run is foreign data; anything else is garbage.

Layout, little-endian: magic 4s, crc32 u32 of the rest, run u64, block u64, boot u32, process u32,
sequence u64, 24 zero bytes.

Standard library only: the guest's agent and the storage target import this module.
"""

import struct
import zlib
from typing import NamedTuple

STAMP_BYTES = 64
BLOCK_BYTES = 4096
MAGIC = b"JBLK"
SEQUENCE_BITS = 40
"""A write's value is `boot << SEQUENCE_BITS | sequence`; sequences start at 1, so 0 is never written."""

_BODY = struct.Struct("<QQIIQ24x")
_HEAD = struct.Struct("<4sI")


class Stamp(NamedTuple):
    """Who wrote a block: ids of the run, block, boot and process, and the write's sequence number."""

    run: int
    block: int
    boot: int
    process: int
    sequence: int

    @property
    def value(self) -> int:
        """The write's value as histories name it, unique in a run."""
        return self.boot << SEQUENCE_BITS | self.sequence


def encode(stamp: Stamp, length: int = BLOCK_BYTES) -> bytes:
    """Return `length` bytes (a multiple of 64) filled with the stamp."""
    body = _BODY.pack(*stamp)
    return (_HEAD.pack(MAGIC, zlib.crc32(body)) + body) * (length // STAMP_BYTES)


def decode_one(data: bytes) -> Stamp | None:
    """Return the stamp in the first 64 bytes of `data`, or None if they hold no valid one."""
    body = bytes(data[8:STAMP_BYTES])
    if len(body) != STAMP_BYTES - 8 or data[:4] != MAGIC:
        return None
    if _HEAD.unpack_from(data)[1] != zlib.crc32(body):
        return None
    return Stamp(*_BODY.unpack(body))
