"""What a read found: the value of a write, or the sentinel of what is no value.

Apart from the engine, which asks once for each read, so that the rules of torn, foreign and garbage blocks
stand in one place.
"""

from struct import Struct
from zlib import crc32

from jepsen_blk.stamp import BLOCK_BYTES, MAGIC, SEQUENCE_BITS, STAMP_BYTES, decode_one

_INITIAL, _PHANTOM, _TORN, _FOREIGN = 0, -1, -2, -3
_REPEAT = BLOCK_BYTES // STAMP_BYTES
_BODY = Struct("<QQIIQ24x")
_HEAD = Struct("<4sI")
_ZEROS = bytes(BLOCK_BYTES)


def observe(data: bytes, run: int) -> int:
    """Return the value that the block `data` holds in the run, or the sentinel of what is no value."""
    head = data[:STAMP_BYTES]
    if data != head * _REPEAT:
        chunks = {data[at : at + STAMP_BYTES] for at in range(0, BLOCK_BYTES, STAMP_BYTES)}
        return _TORN if any(decode_one(chunk) for chunk in chunks) else _PHANTOM
    body = head[8:]
    if head[:8] == _HEAD.pack(MAGIC, crc32(body)):
        of_run, _, boot, _, sequence = _BODY.unpack(body)
        return boot << SEQUENCE_BITS | sequence if of_run == run else _FOREIGN
    return _INITIAL if data == _ZEROS else _PHANTOM
