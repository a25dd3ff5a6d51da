"""Path loss: a node cannot reach the storage; what it had sent may still be alive there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jepsen_blk.lab.paths import Direction, Path_
from jepsen_blk.lab.seams import GuestState
from nemesis.fault import Stage
from nemesis.on_paths import OnPaths
from nemesis.overlap import Ground

_ERROR_TIMEOUT_S = 10.0


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
        """A new connection does not come through and, after a reset, the guest's disk failed."""
        fails = self.reset and self._node == stage.guest_node and Path_.STORAGE in self.paths()
        if fails:
            await stage.lab.hypervisor.wait_state(self._node, GuestState.IO_ERROR, _ERROR_TIMEOUT_S)
        cut = await self.require_cut(stage, Direction.BOTH)
        return f"{cut}; its guest is in io-error" if fails else cut

    def rests_on(self) -> frozenset[Ground]:
        """The cut paths, and a guest that does not need them."""
        return self.rests_on_cut()
