"""Slow storage: every request takes longer, as behind a rebuild, a busy array or a long line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from jepsen_blk.lab.seams import Misbehaved, Misbehaviour
from nemesis.fault import NotProven, Stage
from nemesis.overlap import Ground
from nemesis.storage_fault import StorageFault


@dataclass(slots=True)
class SlowStorage(StorageFault):
    """Add `delay_ms` to every request of every node for `duration_s`."""

    name: ClassVar[str] = "slow-storage"

    delay_ms: Annotated[float, Field(gt=0, le=5_000)] = 50.0

    def misbehaviour(self, stage: Stage) -> Misbehaviour:
        """A delay for whoever asks."""
        return Misbehaviour(stage.lab.guest_nodes, ("read", "write", "flush"), delay_ms=self.delay_ms)

    def rests_on(self) -> frozenset[Ground]:
        """The server that was told."""
        return frozenset({Ground.SERVER})

    async def seen(self, stage: Stage, met: Misbehaved) -> str:
        """The storage measured requests that took so long."""
        return took_longer(met, self.delay_ms, "requests")


def took_longer(met: Misbehaved, delay_ms: float, what: str) -> str:
    """Say how long the storage took; raise NotProven if that is less than the delay."""
    if met.shortest_ms < delay_ms:
        raise NotProven(f"the storage took {met.shortest_ms:.1f} ms, less than {delay_ms:g} ms")
    return (
        f"{what} that the storage answered {delay_ms:g} ms later: {met.requests}, "
        f"after {met.shortest_ms:.1f} to {met.longest_ms:.1f} ms"
    )
