"""The register workload: which block is read or written next, from a seed.

What the checker needs is overwrites that are read soon after: a hot set, so that blocks are
rewritten while an older write may still be alive somewhere, and bursts (A, then A' as soon as A
completes, then a read), the shape of the founding case. Operations are drawn in batches, since
drawing one costs more when asked for one at a time.
"""

from _random import Random
from typing import Any

READ = 0
WRITE = 1
BURST = 2
"""A write to be followed, once it completes, by another write of the block and then a read."""
SWEEP = 3
"""A read of the sweep over every block."""
KIND_BITS = 2
"""An operation is the integer `block << KIND_BITS | kind`."""

_BATCH = 256
_FRACTION_BITS = 16
_BLOCK_BITS = 32
_DRAW_BITS = 3 * _FRACTION_BITS + _BLOCK_BITS


class Register:
    """A seeded stream of operations over `blocks` blocks, the first `hot_blocks` of which are the hot set."""

    def __init__(self, random: Random, workload: dict[str, Any]) -> None:
        self.blocks = int(workload["blocks"])
        self.hot_blocks = int(workload["hot_blocks"])
        self._draw = random.getrandbits
        scale = 1 << _FRACTION_BITS
        self._hot = int(workload["hot_fraction"] * scale) if self.hot_blocks else 0
        if self.hot_blocks == self.blocks:
            self._hot = scale
        self._read = int(workload["read_fraction"] * scale)
        self._burst = int(workload["burst_fraction"] * scale)

    def batch(self) -> list[int]:
        """Return the next operations; the last of the list is to be done first."""
        draw, hot, read, burst = self._draw, self._hot, self._read, self._burst
        hot_blocks, cold_blocks = self.hot_blocks, self.blocks - self.hot_blocks
        mask = (1 << _FRACTION_BITS) - 1
        batch = []
        for _ in range(_BATCH):
            bits = draw(_DRAW_BITS)
            place = bits >> 3 * _FRACTION_BITS
            if bits & mask < hot:
                block = place * hot_blocks >> _BLOCK_BITS
                again = burst
            else:
                block = hot_blocks + (place * cold_blocks >> _BLOCK_BITS)
                again = 0
            if bits >> _FRACTION_BITS & mask < read:
                kind = READ
            elif bits >> 2 * _FRACTION_BITS & mask < again:
                kind = BURST
            else:
                kind = WRITE
            batch.append(block << KIND_BITS | kind)
        return batch
