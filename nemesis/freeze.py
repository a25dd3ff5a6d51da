"""Freeze: a node's processes hang, as on a machine without memory, and go on later as if nothing had been.

Unlike a pause it is not the hypervisor's doing: its monitor is silent too, and what a frozen node had begun
may go on at any time. The kernel lives, so connections stay up and nobody is told.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from jepsen_blk.lab.abilities import Ability
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import SETTLE_S, require_running, require_standstill, require_working
from nemesis.overlap import Ground


@dataclass(slots=True)
class Freeze:
    """Stop every process of the guest's node, or of the storage's, for `duration_s`."""

    name: ClassVar[str] = "freeze"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    node: Literal["guest", "storage"] = "guest"
    duration_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    _node: str = field(default="", init=False, repr=False)

    def abilities(self) -> frozenset[Ability]:
        """Say what not every lab can do."""
        return frozenset({Ability.FREEZE})

    def upsets(self) -> frozenset[Ground]:
        """Nothing that others rest on."""
        return frozenset()

    async def setup(self, stage: Stage) -> None:
        """See that the guest works: a standstill from before would prove the fault."""
        await require_running(stage)
        await stage.work_on(0)
        self._node = stage.guest_node if self.node == "guest" else stage.lab.storage_node

    async def inject(self, stage: Stage) -> None:
        """Stop the processes."""
        await stage.lab.freeze(self._node)

    async def prove(self, stage: Stage) -> str:
        """All of the node's processes are stopped, and no operation completes any more."""
        if not await stage.lab.frozen(self._node):
            raise NotProven(f"the processes of {self._node} are not stopped")
        await require_standstill(stage)
        return f"the processes of {self._node} are stopped and the guest completes nothing"

    async def dwell(self, stage: Stage) -> None:
        """Leave them stopped."""
        await asyncio.sleep(max(0.0, self.duration_s - 2 * SETTLE_S))

    async def heal(self, stage: Stage) -> None:
        """Let them go on."""
        if self._node:
            await stage.lab.thaw(self._node)

    async def prove_healed(self, stage: Stage) -> str:
        """Nothing is stopped, and the guest completes operations."""
        if self._node and await stage.lab.frozen(self._node):
            raise NotProven(f"the processes of {self._node} are still stopped")
        return await require_working(stage)
