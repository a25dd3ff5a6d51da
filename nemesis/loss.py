"""Loss: a path loses some of its packets, so that what TCP carries comes late, in bursts, or not at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from jepsen_blk.lab.paths import Loss, Path_
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import require_working
from nemesis.impaired import Impaired

_EXPECTED = 40
"""Lost echoes in a probe, or answered ones if these are fewer; a quarter of it or less comes once in 10^8."""


@dataclass(slots=True)
class PacketLoss(Impaired):
    """Lose `percent` of the packets in either direction."""

    name: ClassVar[str] = "loss"
    needs: ClassVar[str] = "nftables with numgen in the kernels of the lab's nodes"

    percent: Annotated[float, Field(ge=1, le=90)] = 20.0

    def impairment(self) -> Loss:
        """Say how much is lost."""
        return Loss(self.percent)

    async def setup(self, stage: Stage) -> None:
        """See that the paths are whole and lose nothing to speak of."""
        await Impaired.setup(self, stage)
        for path in self.paths():
            await self._require_no_loss(stage, path)

    async def prove(self, stage: Stage) -> str:
        """Echoes are lost, others are answered, and the receivers counted what they dropped."""
        seen = []
        for path in self.paths():
            echoes = await stage.lab.network.echo(self._node, path, self._count())
            dropped = await stage.lab.network.dropped(self._node, path)
            lost = echoes.sent - echoes.received
            said = f"{path.value} lost {lost} of {echoes.sent} echoes"
            if lost < self._few() or not dropped.out + dropped.in_:
                raise NotProven(f"{said}, and dropped {dropped.out} out, {dropped.in_} in")
            if not echoes.received:
                raise NotProven(f"{said}: it is cut")
            seen.append(f"{said} ({dropped.out} packets dropped out, {dropped.in_} in)")
        return f"{self._node}: {'; '.join(seen)}"

    async def prove_healed(self, stage: Stage) -> str:
        """The paths lose nothing to speak of, and the guest completes operations."""
        whole = await self.require_whole(stage)
        for path in self.paths() if self._node else ():
            await self._require_no_loss(stage, path)
        return f"{whole}; no loss; {await require_working(stage)}"

    async def _require_no_loss(self, stage: Stage, path: Path_) -> None:
        echoes = await stage.lab.network.echo(self._node, path, self._count())
        lost = echoes.sent - echoes.received
        if lost >= self._few():
            raise NotProven(f"without the fault {path.value} lost {lost} of {echoes.sent} echoes")

    def _answered(self) -> float:
        """The share of echoes that should be answered: both directions lose."""
        return (1 - self.percent / 100) ** 2

    def _count(self) -> int:
        return math.ceil(_EXPECTED / min(self._answered(), 1 - self._answered()))

    def _few(self) -> float:
        """A quarter of the echoes that should be lost."""
        return self._count() * (1 - self._answered()) / 4
