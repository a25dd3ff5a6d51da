"""A migration that is broken off: the guest must run on at the source as if nothing had been.

It is cancelled in good order, or with the migration link cut, so that the destination never hears of it and
waits for ever, or the destination dies. What a cluster manager has to do is the healing: clear the
destination away before anybody takes its waiting hypervisor for a guest.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from jepsen_blk import clock
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import GuestState, MigrationPhase
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import require_running, require_working
from nemesis.overlap import Ground

_COPY_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 10.0
_POLL_S = 0.01
_HEARD_WITHIN_S = 1.0
"""A destination that is not cut off hears of the end, and ends, well within it."""
_LATEST_POINT = 0.8
"""Later the memory may have gone over before the cancellation comes."""


@dataclass(slots=True)
class MigrateCancel:
    """Begin a migration and break it off at a random point of the copying, or at `point`."""

    name: ClassVar[str] = "migrate-cancel"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    by: Literal["cancel", "cut", "kill-destination"] = "cancel"
    """Cancel it; cancel it with the migration link cut; or kill the destination's hypervisor."""
    seed: int = 0
    """Draws the point."""
    point: Annotated[float, Field(ge=0, le=_LATEST_POINT)] | None = None
    """The part of the memory that is copied by then."""
    _source: str = field(default="", init=False, repr=False)
    _destination: str = field(default="", init=False, repr=False)
    _copied: float = field(default=0.0, init=False, repr=False)

    def upsets(self) -> frozenset[Ground]:
        """It moves the guest as far as it comes, and may cut the migration link."""
        return frozenset({Ground.PLACE} | ({Ground.MIGRATION_PATH} if self.by == "cut" else set()))

    async def setup(self, stage: Stage) -> None:
        """See that the guest works and draw the point."""
        await require_running(stage)
        await stage.work_on(0)
        if self.point is None:
            self.point = random.Random(self.seed).uniform(0, _LATEST_POINT)
        self._source, self._destination = stage.guest_node, stage.other_node

    async def inject(self, stage: Stage) -> None:
        """Migrate up to the point, then break it off."""
        await stage.lab.hypervisor.begin_migration(self._source, self._destination, "unending")
        await self._reach(stage, self.point or 0.0)
        if self.by == "kill-destination":
            await stage.lab.hypervisor.kill(self._destination)
            return
        if self.by == "cut":
            await stage.lab.network.cut(self._source, Path_.MIGRATION)
            stage.events.emit("network", Path_.MIGRATION.value, "cut", node=self._source)
        await stage.lab.hypervisor.cancel_migration(self._source)

    async def prove(self, stage: Stage) -> str:
        """The source says how it ended and runs the guest; a destination that was cut off still waits."""
        ended = MigrationPhase.FAILED if self.by == "kill-destination" else MigrationPhase.CANCELLED
        await stage.lab.hypervisor.wait_migration(self._source, ended, _END_TIMEOUT_S)
        if self.by == "cut":
            await asyncio.sleep(_HEARD_WITHIN_S)
        else:
            await self._wait_gone(stage)
        left = await stage.lab.hypervisor.state(self._destination)
        if self.by == "cut" and left is not GuestState.INCOMING:
            raise NotProven(f"the destination {self._destination} is {left.value}: it has heard of the end")
        return (
            f"the migration {ended.value} with {self._copied:.0%} of the memory copied; "
            f"{await require_running(stage)}, {self._destination} is {left.value}"
        )

    async def dwell(self, stage: Stage) -> None:
        """The guest works on, whatever the destination does."""
        await stage.work_on(0)

    async def heal(self, stage: Stage) -> None:
        """End the migration, clear the destination away, mend the link, let the guest run."""
        if not self._source:
            return
        if self.by == "cut":
            await stage.lab.network.heal(self._source, Path_.MIGRATION)
            stage.events.emit("network", Path_.MIGRATION.value, "healed", node=self._source)
        await stage.lab.hypervisor.kill(self._destination)  # it never ran: no second guest can come of it
        while (await stage.lab.hypervisor.progress(self._source)).phase is MigrationPhase.COPYING:
            await asyncio.sleep(_POLL_S)
        if await stage.lab.hypervisor.state(self._source) is not GuestState.RUNNING:
            await stage.lab.hypervisor.resume(self._source)

    async def prove_healed(self, stage: Stage) -> str:
        """The destination is gone and the guest completes operations at the source."""
        if self._source:
            left = await stage.lab.hypervisor.state(self._destination)
            if left is not GuestState.ABSENT:
                raise NotProven(f"the destination {self._destination} is still {left.value}")
        return await require_working(stage)

    async def _reach(self, stage: Stage, point: float) -> None:
        """Return once that part of the memory is copied."""
        deadline = clock.monotonic() + _COPY_TIMEOUT_S
        while True:
            progress = await stage.lab.hypervisor.progress(self._source)
            self._copied = max(self._copied, progress.copied)
            if progress.phase is not MigrationPhase.COPYING:
                raise NotProven(f"the migration was {progress.phase.value} before it could be broken off")
            if self._copied >= point:
                return
            if clock.monotonic() > deadline:
                raise NotProven(f"only {self._copied:.0%} of the memory was copied in {_COPY_TIMEOUT_S:g} s")
            await asyncio.sleep(_POLL_S)

    async def _wait_gone(self, stage: Stage) -> None:
        """Return once the destination's hypervisor has ended, as it does when it hears of the end."""
        deadline = clock.monotonic() + _END_TIMEOUT_S
        while (left := await stage.lab.hypervisor.state(self._destination)) is not GuestState.ABSENT:
            if clock.monotonic() > deadline:
                raise NotProven(f"the destination {self._destination} is still {left.value}")
            await asyncio.sleep(_POLL_S)
