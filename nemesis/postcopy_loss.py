"""Post-copy loss: the migration link dies while the guest works on the destination without its memory.

There is no way back: the destination has written, and the source alone has the missing pages. Both sides
stop where they are until the migration is taken up again, which is the healing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from jepsen_blk.lab.abilities import Ability
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import MigrationPhase
from nemesis.fault import Stage
from nemesis.guest_work import let_run, require_running, require_working
from nemesis.migrate import require_source_kept, wait_copied
from nemesis.overlap import Ground

_NOTICE_TIMEOUT_S = 10.0


@dataclass(slots=True)
class PostcopyLoss:
    """Move the guest by post-copy, kill the migration's connections, recover after `duration_s`."""

    name: ClassVar[str] = "postcopy-loss"
    needs: ClassVar[str] = "userfaultfd, and a handoff policy other than stonith"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    duration_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    _source: str = field(default="", init=False, repr=False)

    def abilities(self) -> frozenset[Ability]:
        """Say what not every lab can do."""
        return frozenset({Ability.POSTCOPY})

    def upsets(self) -> frozenset[Ground]:
        """It moves the guest."""
        return frozenset({Ground.PLACE})

    async def setup(self, stage: Stage) -> None:
        """See that the guest runs, and that the handoff leaves post-copy its source."""
        await require_running(stage)
        require_source_kept(stage)
        self._source = stage.guest_node

    async def inject(self, stage: Stage) -> None:
        """Hand over, and lose the link before all pages have come."""
        await stage.hand_over("postcopy")
        killed = await stage.lab.network.reset(self._source, Path_.MIGRATION)
        stage.events.emit("network", Path_.MIGRATION.value, "reset", node=self._source, connections=killed)

    async def prove(self, stage: Stage) -> str:
        """Both sides say that the migration is interrupted."""
        for node in (self._source, stage.guest_node):
            await stage.lab.hypervisor.wait_migration(node, MigrationPhase.INTERRUPTED, _NOTICE_TIMEOUT_S)
        copied = (await stage.lab.hypervisor.progress(self._source)).copied
        return f"the post-copy is interrupted on both sides, with {copied:.0%} of the memory copied"

    async def dwell(self, stage: Stage) -> None:
        """Leave the guest without the rest of its memory."""
        await asyncio.sleep(self.duration_s)

    async def heal(self, stage: Stage) -> None:
        """Take the migration up again; before that the destination may not even answer."""
        if (await stage.lab.hypervisor.progress(self._source)).phase is MigrationPhase.INTERRUPTED:
            await stage.lab.hypervisor.recover_migration(self._source)
        await let_run(stage)

    async def prove_healed(self, stage: Stage) -> str:
        """All the memory has come, and the guest completes operations."""
        if self._source not in ("", stage.guest_node):
            await wait_copied(stage)
        return await require_working(stage)
