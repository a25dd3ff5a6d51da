"""Path loss: a node cannot reach the storage; what it had sent may still be alive there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from jepsen_blk.lab.seams import GuestState, Path_
from nemesis.fault import NotProven, Stage, let_run, require_working


@dataclass(slots=True)
class PathLoss:
    """Cut the guest's node off from the storage for `duration_s`; `reset` also kills its connections."""

    name: ClassVar[str] = "path-loss"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    duration_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    reset: bool = True
    _node: str = field(default="", init=False, repr=False)

    async def setup(self, stage: Stage) -> None:
        """See that the path works: a cut of a dead path would prove itself."""
        self._node = stage.guest_node
        if not await stage.lab.network.reachable(self._node, Path_.STORAGE):
            raise NotProven(f"{self._node} could not reach the storage before the cut")

    async def inject(self, stage: Stage) -> None:
        """Cut, then kill the connections so that the frontend learns of it now."""
        await stage.lab.network.cut(self._node, Path_.STORAGE)
        stage.events.emit("network", Path_.STORAGE.value, "cut", node=self._node)
        if self.reset:
            await stage.lab.network.reset(self._node, Path_.STORAGE)

    async def prove(self, stage: Stage) -> str:
        """A new connection does not come through and, after a reset, the guest's disk failed."""
        if self.reset:
            await stage.lab.hypervisor.wait_state(self._node, GuestState.IO_ERROR, 10)
        if await stage.lab.network.reachable(self._node, Path_.STORAGE):
            raise NotProven(f"{self._node} still reaches the storage")
        return f"{self._node} cannot reach the storage" + (", its guest is in io-error" if self.reset else "")

    async def dwell(self, stage: Stage) -> None:
        """Leave it cut."""
        await asyncio.sleep(self.duration_s)

    async def heal(self, stage: Stage) -> None:
        """Mend the path and let a stopped guest run on."""
        await self.mend(stage)
        await let_run(stage)

    async def prove_healed(self, stage: Stage) -> str:
        """The path carries a new connection, and the guest completes operations again."""
        if not await stage.lab.network.reachable(self._node, Path_.STORAGE):
            raise NotProven(f"{self._node} does not reach the storage after healing")
        return f"{self._node} reaches the storage; {await require_working(stage)}"

    async def mend(self, stage: Stage) -> None:
        """Mend the path only."""
        if self._node:
            await stage.lab.network.heal(self._node, Path_.STORAGE)
            stage.events.emit("network", Path_.STORAGE.value, "healed", node=self._node)
