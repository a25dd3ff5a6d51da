"""Path loss: a node cannot reach the storage; what it had sent may still be alive there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jepsen_blk.lab.paths import Direction, Path_
from nemesis.fault import Stage
from nemesis.guest_disk import cut_off
from nemesis.on_paths import OnPaths
from nemesis.overlap import Ground


@dataclass(slots=True)
class PathLoss(OnPaths):
    """Cut a node's paths in both directions; `reset` also kills its connections on them."""

    name: ClassVar[str] = "path-loss"

    reset: bool = True

    async def inject(self, stage: Stage) -> None:
        """Cut, then kill the connections so that the frontend learns of it now."""
        await self.cut(stage, Direction.BOTH)
        if self.reset:
            for path in self.paths():
                await stage.lab.network.reset(self._node, path)

    async def prove(self, stage: Stage) -> str:
        """A new connection does not come through and, after a reset, the guest is without its disk."""
        takes_disk = self._node == stage.guest_node and self._takes_disk()
        shows = f"; {await cut_off(stage)}" if takes_disk else ""
        return f"{await self.require_cut(stage, Direction.BOTH)}{shows}"

    def needs_guest(self) -> bool:
        """Tell whether what the guest comes to is part of the proof."""
        return self.node == "guest" and self._takes_disk()

    def _takes_disk(self) -> bool:
        return self.reset and Path_.STORAGE in self.paths()

    def rests_on(self) -> frozenset[Ground]:
        """The cut paths, and a guest that does not need them."""
        return self.rests_on_cut()
