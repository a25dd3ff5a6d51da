"""Hold: the storage accepts a write and keeps it in flight, as a slow array or a busy path does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from jepsen_blk.lab.seams import InFlight
from nemesis.fault import NotProven, Stage
from nemesis.overlap import Ground

_CATCH_TIMEOUT_S = 10.0


def hot_blocks(stage: Stage) -> tuple[int, ...]:
    """Return the blocks that the workload overwrites soonest: its hot ones, or all if it has none."""
    hot = int(stage.workload.get("hot_blocks", 0)) or int(stage.workload["blocks"])
    return tuple(range(hot))


@dataclass(slots=True)
class Hold:
    """Hold the guest's next write (to one of `blocks`, if given) for `duration_s`."""

    name: ClassVar[str] = "hold"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    duration_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    blocks: tuple[int, ...] = ()
    _hold: int | None = field(default=None, init=False, repr=False)
    held: InFlight | None = field(default=None, init=False, repr=False)

    def upsets(self) -> frozenset[Ground]:
        """Nothing: each hold ends for itself."""
        return frozenset()

    def rests_on(self) -> frozenset[Ground]:
        """The server that holds the write, and no hypervisor that waits for it to let the guest go."""
        return frozenset({Ground.SERVER, Ground.PLACE})

    async def setup(self, stage: Stage) -> None:
        """Nothing to prepare."""

    async def inject(self, stage: Stage) -> None:
        """Arm the hold and wait until it has caught a write."""
        self._hold = await stage.lab.storage.hold(stage.guest_node, self.blocks)
        self.held = await stage.lab.storage.wait_held(self._hold, _CATCH_TIMEOUT_S)

    async def prove(self, stage: Stage) -> str:
        """The storage has the write in flight, held."""
        held = self.held
        if held is None or not await self.still_held(stage):
            raise NotProven("the storage holds no write")
        return f"write {held.value} of {held.node} to block {held.block} is held in flight"

    async def dwell(self, stage: Stage) -> None:
        """Leave it held."""
        await asyncio.sleep(self.duration_s)

    async def heal(self, stage: Stage) -> None:
        """Release it, or disarm the hold."""
        if self._hold is not None:
            await stage.lab.storage.release(self._hold)

    async def prove_healed(self, stage: Stage) -> str:
        """The write has landed, one way or another."""
        if self._hold is None or self.held is None:
            return "no write was held"
        await stage.lab.storage.wait_landed(self._hold, _CATCH_TIMEOUT_S)
        return f"write {self.held.value} has landed"

    async def still_held(self, stage: Stage) -> bool:
        """Tell whether the storage still has the caught write in flight and held."""
        held = self.held
        if held is None:
            return False
        return any(
            write.id == held.id and write.held for write in await stage.lab.storage.in_flight(held.node)
        )

    async def wait_overwritten(self, stage: Stage, node: str, count: int, timeout_s: float) -> None:
        """Return once `node` has had `count` writes to the held write's block completed."""
        if self.held is None:
            raise NotProven("no write was held")
        await stage.lab.storage.wait_writes(node, self.held.block, count, timeout_s)
