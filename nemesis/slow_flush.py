"""Slow flush: making data durable takes longer, as on a worn flash drive or a cache without a battery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from jepsen_blk.errors import SpecError
from jepsen_blk.lab.seams import Misbehaved, Misbehaviour
from jepsen_blk.spec import StorageSpec
from nemesis.fault import Stage
from nemesis.overlap import Ground
from nemesis.slow_storage import took_longer
from nemesis.storage_fault import StorageFault


@dataclass(slots=True)
class SlowFlush(StorageFault):
    """Add `delay_ms` to every flush, and to every write that is to be durable when it is acknowledged."""

    name: ClassVar[str] = "slow-flush"
    needs: ClassVar[str] = "storage.kind 'policy' with storage.flush = true"

    delay_ms: Annotated[float, Field(gt=0, le=5_000)] = 50.0

    def check_storage(self, storage: StorageSpec) -> None:
        """What is never flushed is never slow to flush."""
        StorageFault.check_storage(self, storage)
        if not storage.flush:
            raise SpecError(f"nemesis {self.name}: the storage offers no flush; set storage.flush = true")

    def misbehaviour(self, stage: Stage) -> Misbehaviour:
        """A delay for whoever flushes."""
        return Misbehaviour(stage.lab.guest_nodes, ("flush",), delay_ms=self.delay_ms)

    def rests_on(self) -> frozenset[Ground]:
        """The server that was told."""
        return frozenset({Ground.SERVER})

    async def seen(self, stage: Stage, met: Misbehaved) -> str:
        """The storage measured flushes that took so long."""
        return took_longer(met, self.delay_ms, "flushes and durable writes")
