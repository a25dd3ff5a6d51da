"""Flapping: a path goes away and comes back, again and again, faster than its users settle."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from jepsen_blk.lab.paths import Direction
from nemesis.fault import Stage
from nemesis.guest_work import let_run
from nemesis.on_paths import OnPaths


@dataclass(slots=True)
class Flapping(OnPaths):
    """Cut a node's paths `times` times, for `duration_s` each; every cut and every mending is proven."""

    name: ClassVar[str] = "flapping"

    times: Annotated[int, Field(ge=2, le=1000)] = 3
    gap_s: Annotated[float, Field(ge=0, le=3600)] = 0.3
    """How long the paths are whole between two cuts."""

    async def inject(self, stage: Stage) -> None:
        """Cut for the first time."""
        await self.cut(stage, Direction.BOTH)

    async def prove(self, stage: Stage) -> str:
        """The first cut is one; the others are proven as they come."""
        return await self.require_cut(stage, Direction.BOTH)

    async def dwell(self, stage: Stage) -> None:
        """Mend and cut until the last cut has stood."""
        await asyncio.sleep(self.duration_s)
        for _ in range(self.times - 1):
            await self.mend(stage)
            await self.require_whole(stage)
            await let_run(stage)
            await asyncio.sleep(self.gap_s)
            await self.cut(stage, Direction.BOTH)
            await self.require_cut(stage, Direction.BOTH)
            await asyncio.sleep(self.duration_s)
