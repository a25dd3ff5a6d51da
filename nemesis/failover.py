"""Failover: a node is lost and its guest is started again on the other one; then the lost node comes back.

A cluster cannot tell a dead node from one that hangs or is cut off. It starts the guest again after the
handoff policy's steps, and only these keep what the old guest had begun, and all that it goes on to write,
from landing among the new one's writes.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from jepsen_blk.errors import LabError
from jepsen_blk.lab.abilities import Ability
from jepsen_blk.lab.paths import Direction
from jepsen_blk.lab.seams import GuestState
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import let_work, require_absent, require_running, require_working
from nemesis.overlap import Ground
from nemesis.path_loss import PathLoss

_BACK_TIMEOUT_S = 10.0
"""A path that was dead for a while carries again only when the node's TCP next tries."""
_POLL_S = 0.01


@dataclass(slots=True)
class Failover:
    """Lose the guest's node, start the guest again, and let the node come back after `duration_s`.

    The old guest then runs beside the new one for `overlap_s`; a node that was killed has none.
    """

    name: ClassVar[str] = "failover"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    by: Literal["kill", "stop", "cut"] = "kill"
    duration_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    overlap_s: Annotated[float, Field(ge=0, le=3600)] = 0.5
    _node: str = field(default="", init=False, repr=False)
    _lost: str = field(default="", init=False, repr=False)
    _cut: PathLoss = field(default_factory=lambda: PathLoss(reset=False), init=False, repr=False)

    def abilities(self) -> frozenset[Ability]:
        """Say what not every lab can do."""
        return frozenset({Ability.FREEZE} if self.by == "stop" else ())

    def upsets(self) -> frozenset[Ground]:
        """It moves the guest, and probes the storage path even where it does not cut it."""
        return frozenset({Ground.STORAGE_PATH, Ground.PLACE, Ground.MEMORY})

    async def setup(self, stage: Stage) -> None:
        """See that the guest works, so that there is something to lose."""
        await require_running(stage)
        await stage.work_on(0)
        await self._cut.setup(stage)
        self._node = stage.guest_node

    async def inject(self, stage: Stage) -> None:
        """Lose the node, see that it is lost, and start the guest again."""
        match self.by:
            case "kill":
                await stage.lab.hypervisor.kill(self._node)
            case "stop":
                await stage.lab.freeze(self._node)
            case "cut":
                await self._cut.inject(stage)
        self._lost = await self._see_lost(stage)
        await stage.fail_over()

    async def prove(self, stage: Stage) -> str:
        """The node was lost, and the guest that was started again completes operations."""
        return f"{self._lost}; started again, {await require_working(stage)}"

    async def dwell(self, stage: Stage) -> None:
        """Let the new guest work, then have the node come back, if there is anything left of it."""
        await stage.work_on(self.duration_s)
        if await stage.lab.hypervisor.state(self._node) is GuestState.ABSENT:
            return
        await self._come_back(stage)
        how = await self._let_run(stage, _BACK_TIMEOUT_S)
        if not how:
            raise LabError(f"the old guest on {self._node} was not seen again within {_BACK_TIMEOUT_S:g} s")
        stage.events.emit("fault", self.name, "came-back", node=self._node, why=how)
        await self._let_run(stage, self.overlap_s, until_seen=False)

    async def heal(self, stage: Stage) -> None:
        """Have the node come back; kill its guest, or let it work on where none was started in its place."""
        if not self._node:
            return
        await self._come_back(stage)
        if self._node == stage.guest_node:
            await let_work(stage)
        else:
            await stage.lab.hypervisor.kill(self._node)

    async def prove_healed(self, stage: Stage) -> str:
        """One guest is left and completes operations; the lost node's path is whole."""
        if self._node not in ("", stage.guest_node):
            await require_absent(stage, self._node)
        return f"{await self._cut.require_whole(stage)}; {await require_working(stage)}"

    async def _see_lost(self, stage: Stage) -> str:
        if self.by == "cut":
            return await self._cut.require_cut(stage, Direction.BOTH)
        if self.by == "stop":
            if not await stage.lab.frozen(self._node):
                raise NotProven(f"the processes of {self._node} are not stopped")
            return f"the processes of {self._node} are stopped"
        return await require_absent(stage, self._node)

    async def _come_back(self, stage: Stage) -> None:
        if self.by == "stop":
            await stage.lab.thaw(self._node)
        if self.by == "cut":
            await self._cut.mend(stage)

    async def _let_run(self, stage: Stage, limit_s: float, *, until_seen: bool = True) -> str:
        """Let the old guest run, also where an I/O error has stopped it, as some managers do by themselves.

        Return how it was seen by the storage, at once unless told otherwise, and nothing if it was not.
        """
        hypervisor, clock = stage.lab.hypervisor, asyncio.get_running_loop().time
        end_s, resumed, seen = clock() + limit_s, False, ""
        while clock() < end_s and not (seen and until_seen):
            stopped = await hypervisor.state(self._node) is GuestState.IO_ERROR
            if await stage.lab.storage.in_flight(self._node):
                seen = "its writes are in flight"
            elif stopped and resumed:
                seen = "its disk fails again"
            if stopped:
                resumed = True
                with contextlib.suppress(LabError):  # one that is refused at once stops again at once
                    await hypervisor.resume(self._node)
            await asyncio.sleep(_POLL_S)
        return seen
