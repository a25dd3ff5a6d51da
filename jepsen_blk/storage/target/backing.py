"""Where the target keeps its data: memory, or a file or device of the user.

Memory copies happen under the interpreter's lock, so a read never sees half of a write; a file
gives what its kernel gives.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from jepsen_blk.stamp import BLOCK_BYTES


class Backing(Protocol):
    """Bytes at offsets; calls come from many threads."""

    @property
    def cached(self) -> int:
        """Number of blocks in a volatile cache."""

    def read(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` from `offset`."""

    def write(self, data: memoryview, offset: int, *, durable: bool = False) -> None:
        """Store `data` at `offset`, durably if asked to; raises OSError."""

    def flush(self) -> None:
        """Make completed writes durable; raises OSError."""


def part_in_block(block: int, offset: int, length: int) -> range:
    """Return the bytes of `block` that `length` bytes at `offset` cover."""
    return range(max(offset, block * BLOCK_BYTES), min(offset + length, (block + 1) * BLOCK_BYTES))


class MemoryBacking:
    """`size_bytes` of zeroed memory."""

    cached = 0

    def __init__(self, size_bytes: int) -> None:
        self._memory = memoryview(bytearray(size_bytes))

    def read(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` from `offset`."""
        buffer[:] = self._memory[offset : offset + len(buffer)]

    def write(self, data: memoryview, offset: int, *, durable: bool = False) -> None:
        """Store `data` at `offset`."""
        self._memory[offset : offset + len(data)] = data

    def flush(self) -> None:
        """Nothing to do: memory is lost with the target, and durability is not its subject."""


class FileBacking:
    """A file or block device, opened for the target's life; a missing file is created sparse."""

    cached = 0

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.lseek(self._fd, 0, os.SEEK_END) < size_bytes:
            os.ftruncate(self._fd, size_bytes)

    def read(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` from `offset`; raises OSError."""
        done = 0
        while done < len(buffer):
            count = os.preadv(self._fd, [buffer[done:]], offset + done)
            if count == 0:
                raise OSError(f"end of the backing file at {offset + done}")
            done += count

    def write(self, data: memoryview, offset: int, *, durable: bool = False) -> None:
        """Store `data` at `offset`; raises OSError."""
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], offset + done)
        if durable:
            self.flush()

    def flush(self) -> None:
        """Wait until the kernel has the data on the device; raises OSError."""
        os.fdatasync(self._fd)
