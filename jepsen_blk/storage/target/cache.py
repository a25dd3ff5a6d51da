"""A volatile write cache before the backing: what a power loss takes and what it leaves.

A completed write is in the cache; only a flush, or a write that is to be durable (FUA), puts it onto the
backing. Nothing is put there in the background, so a power loss takes all that was not asked for.

The cache's medium outlives its server, as memory does on a machine on which only a program has crashed: a
file for the real target, memory in a simulation. Losing it is the power loss: then the backing is all that
there is.

Standard library only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from jepsen_blk.stamp import BLOCK_BYTES
from jepsen_blk.storage.holds import blocks_of
from jepsen_blk.storage.target.backing import Backing, part_in_block


def lose_cache(path: Path, size_bytes: int) -> int:
    """Lose the cache of a store of this size whose server is dead; return how many blocks it took along.

    Without a file there is nothing to lose.
    """
    lost = unflushed(path, size_bytes)
    path.unlink(missing_ok=True)
    return lost


def unflushed(path: Path, size_bytes: int) -> int:
    """Return how many blocks `lose_cache` would take along; its server may be there, and frozen."""
    try:
        with path.open("rb") as file:
            flags = file.read(len(blocks_of(0, size_bytes)))
    except FileNotFoundError:
        return 0
    return len(flags) - flags.count(0)


def medium_bytes(size_bytes: int) -> int:
    """Return how large a medium the cache of a store of this size needs."""
    return _data_at(size_bytes) + size_bytes


class VolatileCache:
    """Caches the writes to `backing` on a `medium` of medium_bytes, and goes on with what is there.

    The medium has a byte for each block, not 0 where the block is not on the backing yet, and then the
    blocks. With `ignores_flush` it lies: what is asked to be durable is acknowledged and stays in the cache.
    """

    def __init__(
        self, backing: Backing, medium: Backing, size_bytes: int, *, ignores_flush: bool = False
    ) -> None:
        self._backing = backing
        self._medium = medium
        self._size_bytes = size_bytes
        self._ignores_flush = ignores_flush
        self._data_at = _data_at(size_bytes)
        blocks = blocks_of(0, size_bytes)
        flags = memoryview(bytearray(len(blocks)))
        medium.read(flags, 0)
        self._dirty = {block for block in blocks if flags[block]}
        self._lock = threading.Lock()

    @property
    def cached(self) -> int:
        """Number of blocks that a power loss would take."""
        return len(self._dirty)

    def read(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` from `offset`; raises OSError."""
        with self._lock:
            for block in blocks_of(offset, len(buffer)):
                part = part_in_block(block, offset, len(buffer))
                self._read(block, buffer[part.start - offset : part.stop - offset], part.start)

    def write(self, data: memoryview, offset: int, *, durable: bool = False) -> None:
        """Store `data` at `offset`, in the cache only unless it is to be durable; raises OSError."""
        blocks = blocks_of(offset, len(data))
        with self._lock:
            for block in blocks:
                part = part_in_block(block, offset, len(data))
                self._write(block, data[part.start - offset : part.stop - offset], part.start)
        if durable:
            self._destage(blocks)

    def flush(self) -> None:
        """Make completed writes durable; raises OSError."""
        with self._lock:
            blocks = tuple(self._dirty)
        self._destage(blocks)

    def _read(self, block: int, buffer: memoryview, offset: int) -> None:
        if block in self._dirty:
            self._medium.read(buffer, self._data_at + offset)
        else:
            self._backing.read(buffer, offset)

    def _write(self, block: int, data: memoryview, offset: int) -> None:
        if block not in self._dirty:
            whole = part_in_block(block, 0, self._size_bytes)
            if len(data) < len(whole):
                before = memoryview(bytearray(len(whole)))
                self._backing.read(before, whole.start)
                self._medium.write(before, self._data_at + whole.start)
        self._medium.write(data, self._data_at + offset)
        if block not in self._dirty:
            self._mark(block, dirty=True)

    def _destage(self, blocks: Iterable[int]) -> None:
        """Put these blocks onto the backing; each stays in the cache until it is there."""
        if self._ignores_flush:
            return
        for block in blocks:
            with self._lock:
                if block in self._dirty:
                    whole = part_in_block(block, 0, self._size_bytes)
                    data = memoryview(bytearray(len(whole)))
                    self._medium.read(data, self._data_at + whole.start)
                    self._backing.write(data, whole.start)
                    self._mark(block, dirty=False)
        self._backing.flush()

    def _mark(self, block: int, *, dirty: bool) -> None:
        self._medium.write(memoryview(b"\1" if dirty else b"\0"), block)
        if dirty:
            self._dirty.add(block)
        else:
            self._dirty.discard(block)


def _data_at(size_bytes: int) -> int:
    """Return where the blocks begin on the medium, behind their flags."""
    return -(-len(blocks_of(0, size_bytes)) // BLOCK_BYTES) * BLOCK_BYTES
