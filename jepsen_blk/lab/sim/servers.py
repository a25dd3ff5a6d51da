"""The simulated storage as programs and their media: it ends, loses its power, and starts again."""

from __future__ import annotations

import asyncio

from jepsen_blk.errors import LabError
from jepsen_blk.lab.sim.target import SimTarget
from jepsen_blk.lab.sim.wire import SimNetwork
from jepsen_blk.spec import Spec
from jepsen_blk.storage.target.backing import Backing, MemoryBacking
from jepsen_blk.storage.target.cache import VolatileCache, medium_bytes

_REAPED_S = 0.001
"""Until whoever has killed the server knows that it is gone."""


class Media:
    """The blocks, and the medium of the volatile cache before them if there is one; both outlive a server."""

    def __init__(self, spec: Spec) -> None:
        self._size_bytes = spec.size_bytes
        self._ignores_flush = spec.storage.ignore_flush
        self._blocks = MemoryBacking(spec.size_bytes)
        self._cache = self._open() if spec.storage.cache == "volatile" else None

    @property
    def backing(self) -> Backing:
        """What a server reads and writes."""
        return self._cache or self._blocks

    @property
    def unflushed(self) -> int:
        """How many blocks are in the cache only."""
        return self.backing.cached

    def lose_cache(self) -> int:
        """Begin with an empty cache; return how many blocks the old one took along."""
        lost = self.unflushed
        if self._cache is not None:
            self._cache = self._open()
        return lost

    def _open(self) -> VolatileCache:
        medium = MemoryBacking(medium_bytes(self._size_bytes))
        return VolatileCache(self._blocks, medium, self._size_bytes, ignores_flush=self._ignores_flush)


class SimServers:
    """Implements lab.seams.StorageServers: one process that serves the media, and the connections to it."""

    def __init__(self, target: SimTarget, media: Media, network: SimNetwork) -> None:
        self._target, self._media, self._network = target, media, network

    async def stop(self) -> None:
        """End it with what it has in flight; its kernel ends the connections. No error if it has ended."""
        if self._target.serving:
            self._target.stop()
            self._network.refuse()
            await asyncio.sleep(_REAPED_S)

    async def unflushed(self) -> int:
        """Return how many blocks the loss of its volatile cache would take now."""
        return self._media.unflushed

    async def lose_cache(self) -> int:
        """Lose its volatile cache, after `stop`; return how many blocks that took along."""
        if self._target.serving:
            raise LabError("the storage's server still runs: its cache is lost when the power is")
        return self._media.lose_cache()

    async def throttle(self, node: str, bytes_per_s: int) -> None:
        """Raise LabError."""
        raise LabError("the simulator's storage has no throttle")

    async def start(self) -> None:
        """Start it with what the media have; no error if it runs."""
        if not self._target.serving:
            self._target.start(self._media.backing)
            self._network.accept()
