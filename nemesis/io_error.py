"""I/O error: the storage fails requests of a node, as a broken medium or a controller that resets does.

A failed write is the first half of a re-issue: the frontend stops the guest and sends the write again
when it is let run, while the storage may have applied it (`applied`) or not.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from jepsen_blk.lab.seams import Misbehaved, Misbehaviour
from nemesis.fault import Stage
from nemesis.guest_disk import stopped_by
from nemesis.guest_work import let_run
from nemesis.storage_fault import StorageFault

_POLL_S = 0.02


@dataclass(slots=True)
class IoError(StorageFault):
    """Fail the node's `requests` for `duration_s`; with `limit`, only the next so many."""

    name: ClassVar[str] = "io-error"

    requests: tuple[Literal["read", "write"], ...] = ("write",)
    applied: bool = False
    limit: Annotated[int, Field(ge=0, le=10_000)] = 0

    def misbehaviour(self, stage: Stage) -> Misbehaviour:
        """An I/O error for the guest's node."""
        return Misbehaviour(
            (stage.guest_node,), self.requests, error="EIO", applied=self.applied, limit=self.limit
        )

    async def seen(self, stage: Stage, met: Misbehaved) -> str:
        """The storage answered with the error, and that stopped the guest, if it is to."""
        stopped = await stopped_by(stage, "EIO")
        return f"requests of {stage.guest_node} that the storage failed: {met.requests}; {stopped}"

    async def dwell(self, stage: Stage) -> None:
        """Leave it so; with a limit, let the guest send its requests again until so many have failed."""
        if not self.limit:
            await asyncio.sleep(self.duration_s)
            return
        failing = asyncio.create_task(self.met(stage, self.limit, self.duration_s))
        try:
            while not failing.done():
                await let_run(stage)
                await asyncio.wait({failing}, timeout=_POLL_S)
        finally:
            failing.cancel()
            await asyncio.wait({failing})
        failing.result()
