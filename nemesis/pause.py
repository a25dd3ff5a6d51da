"""Pause: the hypervisor stops the guest's processors for a while."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from jepsen_blk.lab.seams import GuestState
from nemesis.fault import Stage
from nemesis.guest_work import SETTLE_S, let_run, require_running, require_standstill, require_working
from nemesis.overlap import Ground


@dataclass(slots=True)
class Pause:
    """Stop the guest for `duration_s`."""

    name: ClassVar[str] = "pause"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    duration_s: Annotated[float, Field(gt=0, le=3600)] = 1.0

    def upsets(self) -> frozenset[Ground]:
        """Nothing that others rest on."""
        return frozenset()

    async def setup(self, stage: Stage) -> None:
        """See that the guest runs."""
        await require_running(stage)

    async def inject(self, stage: Stage) -> None:
        """Stop the processors."""
        await stage.lab.hypervisor.pause(stage.guest_node)

    async def prove(self, stage: Stage) -> str:
        """The hypervisor says paused, and no operation completes any more."""
        await stage.lab.hypervisor.wait_state(stage.guest_node, GuestState.PAUSED, 5)
        await require_standstill(stage)
        return "the guest is paused and completes nothing"

    async def dwell(self, stage: Stage) -> None:
        """Leave it paused."""
        await asyncio.sleep(max(0.0, self.duration_s - 2 * SETTLE_S))

    async def heal(self, stage: Stage) -> None:
        """Let it run."""
        await let_run(stage)

    async def prove_healed(self, stage: Stage) -> str:
        """The guest runs and completes operations."""
        return await require_working(stage)
