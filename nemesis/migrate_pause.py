"""A migration that waits before its switch-over, so that something else may go wrong at a phase of it.

A migration is over in a second, and the moments at which it can be hurt (the guest has just stopped, and what
it has in flight is waited for; all is copied, and the destination is about to take over) in milliseconds.
Here it stands at the last of them until what comes during it is over, and is then taken to its end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import GuestState, MigrationPhase
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import let_run, require_running, require_working
from nemesis.overlap import Ground

_BEGIN_TIMEOUT_S = 10.0
_COPY_TIMEOUT_S = 25.0


@dataclass(slots=True)
class MigratePause:
    """Migrate, and wait before the switch-over for `duration_s` and for all that comes during it."""

    name: ClassVar[str] = "migrate-pause"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    duration_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    may_fail: bool = False
    """Whether what comes during it may break the migration; the guest has to run on at the source then."""
    _source: str = field(default="", init=False, repr=False)
    _destination: str = field(default="", init=False, repr=False)
    _failed: str = field(default="", init=False, repr=False)

    def upsets(self) -> frozenset[Ground]:
        """It moves the guest."""
        return frozenset({Ground.PLACE})

    def rests_on(self) -> frozenset[Ground]:
        """A guest that nothing else moves."""
        return frozenset({Ground.PLACE})

    def phases(self) -> frozenset[str]:
        """It ends when what comes during it is over, so no more can be waited for."""
        return frozenset({"stopped", "pre-switchover"})

    async def setup(self, stage: Stage) -> None:
        """See that the guest runs."""
        await require_running(stage)

    async def inject(self, stage: Stage) -> None:
        """Begin it; what has begun is finished, also when this is cut off."""
        self._source, self._destination = stage.guest_node, stage.other_node
        try:
            await stage.begin_hand_over(pause=True)
        except LabError:
            self._source = ""  # refused: there is nothing to finish
            raise

    async def prove(self, stage: Stage) -> str:
        """It is under way, so what comes during it can wait for any phase to come; `dwell` sees it wait."""
        hypervisor = stage.lab.hypervisor
        await hypervisor.wait_migration(self._source, MigrationPhase.COPYING, _BEGIN_TIMEOUT_S)
        return f"a migration from {self._source} to {self._destination} is under way"

    async def dwell(self, stage: Stage) -> None:
        """Leave it before its switch-over, once it is there."""
        hypervisor = stage.lab.hypervisor
        try:
            await hypervisor.wait_migration(self._source, MigrationPhase.SWITCHOVER, _COPY_TIMEOUT_S)
        except LabError as error:
            if self.may_fail and await self._has_failed(stage):
                return
            raise NotProven(f"it never waited before its switch-over: {error}") from error
        await asyncio.sleep(self.duration_s)

    async def heal(self, stage: Stage) -> None:
        """Take it to its end under the test's handoff policy, or clear away what one that failed has left."""
        if not self._source:
            return
        try:
            await stage.lab.hypervisor.continue_migration(self._source)
            await stage.finish_hand_over()
        except LabError as error:
            if not await self._has_failed(stage):
                raise
            self._failed = str(error)
            await stage.lab.hypervisor.kill(self._destination)  # it never ran: it is no second guest
        await let_run(stage)

    async def prove_healed(self, stage: Stage) -> str:
        """The guest works on the destination; or on the source, where the migration was allowed to fail."""
        working = await require_working(stage)
        if not self._failed:
            return working
        if not self.may_fail:
            raise NotProven(f"{self._failed}; {working}")
        left = await stage.lab.hypervisor.state(self._destination)
        if left is not GuestState.ABSENT:
            raise NotProven(f"the destination {self._destination} is still {left.value}")
        return f"{self._failed}; {working}"

    async def _has_failed(self, stage: Stage) -> bool:
        return (await stage.lab.hypervisor.progress(self._source)).phase is MigrationPhase.FAILED
