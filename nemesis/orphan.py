"""Orphan: a write outlives its guest and its hypervisor in the kernel of their node, and is sent much later.

    X: the storage path is lost; one write waits in the kernel's socket, the hypervisor is killed
    X -> Y: the guest is started again under the handoff policy; it works, is quiesced, reads every block
    X: the path is whole again, and the kernel sends what the dead process had given it

A process that is killed takes nothing back that it has written to a connected socket: the kernel goes on to
send it for minutes. Only a storage that shuts the node out, or power taken from the node, prevents it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from jepsen_blk import clock
from jepsen_blk.lab.abilities import Ability
from jepsen_blk.lab.paths import Direction, Path_
from jepsen_blk.stamp import BLOCK_BYTES
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import SETTLE_S, let_run, require_absent, require_running, require_working
from nemesis.overlap import Ground
from nemesis.path_loss import PathLoss

_SENT_TIMEOUT_S = 5.0
_ARRIVE_TIMEOUT_S = 30.0
"""The kernel waits twice as long before each attempt: the sooner the path is whole, the sooner it is here."""
_POLL_S = 0.01
_ONE_WRITE = {"queue_depth": 1, "read_fraction": 0.0, "flush_fraction": 0.0, "hot_fraction": 1.0}


@dataclass(slots=True)
class Orphan:
    """Kill a hypervisor whose write is unsent, start the guest again, mend the path after `duration_s`."""

    name: ClassVar[str] = "orphan"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    duration_s: Annotated[float, Field(ge=0, le=20)] = 0.3
    _node: str = field(default="", init=False, repr=False)
    _killed_ns: int = field(default=0, init=False, repr=False)
    _late: str = field(default="", init=False, repr=False)
    _quiesced: bool = field(default=False, init=False, repr=False)
    _cut: PathLoss = field(default_factory=lambda: PathLoss(reset=False), init=False, repr=False)

    def abilities(self) -> frozenset[Ability]:
        """Say what not every lab can do."""
        return frozenset({Ability.ORPHAN})

    def upsets(self) -> frozenset[Ground]:
        """It moves the guest and cuts the storage path."""
        return frozenset({Ground.STORAGE_PATH, Ground.PLACE, Ground.MEMORY})

    async def setup(self, stage: Stage) -> None:
        """See that the guest works, and its path."""
        await require_running(stage)
        await stage.work_on(0)
        await self._cut.setup(stage)
        self._node = stage.guest_node

    async def inject(self, stage: Stage) -> None:
        """Leave a write unsent, kill its hypervisor, start the guest again; then let it be sent."""
        await self._leave_unsent(stage)
        await stage.fail_over()
        await stage.work_on(self.duration_s)
        await stage.quiesce()
        await stage.read_all()
        before = (await stage.lab.storage.stats())["received"]
        # A server that sees its client gone may drop what it has read and not begun; this end is lost awhile.
        await stage.lab.network.hide_ends(self._node, Path_.STORAGE)
        await self._wait_received(stage, before)
        await self._cut.mend(stage)

    async def prove(self, stage: Stage) -> str:
        """The storage received a write of the dead hypervisor: the one guest there is was quiesced."""
        return self._late

    async def dwell(self, stage: Stage) -> None:
        """Read every block again."""
        await stage.read_all()

    async def heal(self, stage: Stage) -> None:
        """Mend the path, let the guest work on."""
        await self._cut.mend(stage)
        await let_run(stage)
        if self._quiesced:
            await stage.guest.run(stage.workload)

    async def prove_healed(self, stage: Stage) -> str:
        """Nothing of the node is in flight, its path is whole, the guest completes operations."""
        if self._late and await stage.lab.storage.in_flight(self._node):
            raise NotProven(f"the storage has writes of {self._node} in flight")
        return f"{await self._cut.require_whole(stage)}; {await require_working(stage)}"

    async def _leave_unsent(self, stage: Stage) -> None:
        """Kill the hypervisor with a write in its socket; a quiesced guest sends no more than that one.

        Several would come as well, but not every server survives answering several whose sender is gone.
        """
        hypervisor, network = stage.lab.hypervisor, stage.lab.network
        self._quiesced = True
        await stage.quiesce()
        await self._cut.inject(stage)
        await asyncio.sleep(SETTLE_S)  # the last answers are acknowledged
        before = (await network.dropped(self._node, Path_.STORAGE)).out
        await stage.guest.run({**stage.workload, **_ONE_WRITE})
        deadline = clock.monotonic() + _SENT_TIMEOUT_S
        # What was dropped may be no more than a sign of life, what is unacknowledged be on its way still.
        while (
            await network.dropped(self._node, Path_.STORAGE)
        ).out == before or await network.unacknowledged_bytes(self._node, Path_.STORAGE) < BLOCK_BYTES:
            if clock.monotonic() > deadline:
                raise NotProven(f"the guest on {self._node} sent nothing within {_SENT_TIMEOUT_S:g} s")
            await asyncio.sleep(_POLL_S)
        await hypervisor.kill(self._node)
        self._killed_ns = clock.monotonic_ns()
        await require_absent(stage, self._node)
        await self._cut.require_cut(stage, Direction.BOTH)

    async def _wait_received(self, stage: Stage, before: int) -> None:
        """Wait for what the kernel sends, and for its end at the storage."""
        deadline = clock.monotonic() + _ARRIVE_TIMEOUT_S
        while (await stage.lab.storage.stats())["received"] == before:
            if clock.monotonic() > deadline:
                raise NotProven(
                    f"nothing of {self._node} came within {_ARRIVE_TIMEOUT_S:g} s of its path's healing"
                )
            await asyncio.sleep(_POLL_S)
        after_s = (clock.monotonic_ns() - self._killed_ns) / 1e9
        await asyncio.sleep(SETTLE_S)
        count = (await stage.lab.storage.stats())["received"] - before
        self._late = (
            f"writes of {self._node} received {after_s:.1f} s after its hypervisor was killed: {count}"
        )
