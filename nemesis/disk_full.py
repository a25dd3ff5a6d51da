"""Disk full: the storage has no room for writes, as a thin pool that is exhausted; reads go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jepsen_blk.lab.seams import Misbehaved, Misbehaviour
from nemesis.fault import Stage
from nemesis.guest_disk import stopped_by
from nemesis.storage_fault import StorageFault


@dataclass(slots=True)
class DiskFull(StorageFault):
    """Refuse every write of every node with ENOSPC, unapplied, for `duration_s`."""

    name: ClassVar[str] = "disk-full"

    def misbehaviour(self, stage: Stage) -> Misbehaviour:
        """No room for whoever writes."""
        return Misbehaviour(stage.lab.guest_nodes, ("write",), error="ENOSPC")

    async def seen(self, stage: Stage, met: Misbehaved) -> str:
        """The storage refused writes, and that stopped the guest, if it is to."""
        stopped = await stopped_by(stage, "ENOSPC")
        return f"writes that the storage had no room for: {met.requests}; {stopped}"
