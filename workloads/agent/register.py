"""The register workload: which block is read or written next, from a seed.

What the checker needs is overwrites that are read soon after: a hot set, so that blocks are
rewritten while an older write may still be alive somewhere, and bursts (A, then A' as soon as A
completes, then a read), the shape of the founding case. Operations are drawn in batches, since
drawing one costs more when asked for one at a time. Flushes, where the storage has something to flush, take
the place of operations that were drawn.
"""

from _random import Random
from typing import Any

from workloads.agent.operations import BURST, FLUSH, KIND_BITS, READ, WRITE

_BATCH = 256
_DRAW_BITS = 32


class Register:
    """A seeded stream of operations over `blocks` blocks, the first `hot_blocks` of which are the hot set."""

    def __init__(self, random: Random, workload: dict[str, Any]) -> None:
        self.blocks = int(workload["blocks"])
        self.hot_blocks = int(workload["hot_blocks"])
        self._random = random
        hot = float(workload["hot_fraction"]) if self.hot_blocks else 0.0
        if self.hot_blocks == self.blocks:
            hot = 1.0
        reads, bursts = float(workload["read_fraction"]), float(workload["burst_fraction"])
        bounds = (hot * reads, hot * (reads + (1 - reads) * bursts), hot, hot + (1 - hot) * reads)
        self._bounds = tuple(int(bound * (1 << _DRAW_BITS)) for bound in bounds)
        self._flush_bound = int(float(workload["flush_fraction"]) * (1 << _DRAW_BITS))

    def batch(self) -> list[int]:
        """Return the next operations; the last of the list is to be done first.

        Two draws an operation: which of the five kinds by set it is, and which block of the set.
        """
        hot_blocks, cold_blocks = self.hot_blocks, self.blocks - self.hot_blocks
        hot_read, hot_burst, hot, cold_read = self._bounds
        words = self._words(2 * _BATCH)
        batch = []
        for which, place in zip(words[::2], words[1::2], strict=True):
            if which < hot:
                kind = READ if which < hot_read else BURST if which < hot_burst else WRITE
                batch.append((place * hot_blocks >> _DRAW_BITS) << KIND_BITS | kind)
            else:
                kind = READ if which < cold_read else WRITE
                batch.append((hot_blocks + (place * cold_blocks >> _DRAW_BITS)) << KIND_BITS | kind)
        if self._flush_bound:
            draws = zip(self._words(_BATCH), batch, strict=True)
            batch = [FLUSH if draw < self._flush_bound else operation for draw, operation in draws]
        return batch

    def _words(self, count: int) -> list[int]:
        size = count * _DRAW_BITS // 8
        return memoryview(self._random.getrandbits(size * 8).to_bytes(size, "little")).cast("I").tolist()
