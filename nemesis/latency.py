"""Latency: what a node sends comes late, and if asked for out of order or twice."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from jepsen_blk.lab.paths import Latency, Path_
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import require_working
from nemesis.impaired import Impaired

_EXPECTED = 20
_FEWEST_ECHOES = 50
_SEEN_SHARE = 0.5
"""Of the delay that must be seen on top of what was there before: jitter and reordering take some away."""

Percent = Annotated[float, Field(ge=0, le=50)]


@dataclass(slots=True)
class LatePackets(Impaired):
    """Delay what the node sends by `delay_ms`; some is sent ahead of its turn, some twice."""

    name: ClassVar[str] = "latency"
    needs: ClassVar[str] = "netem in the kernels of the lab's nodes"

    delay_ms: Annotated[float, Field(ge=5, le=300)] = 20.0
    jitter_ms: Annotated[float, Field(ge=0, le=100)] = 0.0
    reorder_percent: Percent = 0.0
    duplicate_percent: Percent = 0.0
    _before_ms: dict[Path_, float] = field(default_factory=dict, init=False, repr=False)

    def impairment(self) -> Latency:
        """Say what happens to the packets."""
        return Latency(self.delay_ms, self.jitter_ms, self.reorder_percent, self.duplicate_percent)

    async def setup(self, stage: Stage) -> None:
        """See that the paths are whole, and how long an echo takes."""
        await Impaired.setup(self, stage)
        for path in self.paths():
            self._before_ms[path] = (await stage.lab.network.echo(self._node, path, _FEWEST_ECHOES)).rtt_ms

    async def prove(self, stage: Stage) -> str:
        """Echoes take longer by the delay, and some come out of order or twice if that was asked for."""
        seen = []
        for path, before_ms in self._before_ms.items():
            echoes = await stage.lab.network.echo(self._node, path, self._count())
            said = (
                f"{path.value} {before_ms:.1f} -> {echoes.rtt_ms:.1f} ms, of {echoes.received} echoes"
                f" {echoes.out_of_order} out of order, {echoes.duplicates} twice"
            )
            missing = (
                echoes.rtt_ms < before_ms + self.delay_ms * _SEEN_SHARE
                or (self.reorder_percent and not echoes.out_of_order)
                or (self.duplicate_percent and not echoes.duplicates)
            )
            if missing:
                raise NotProven(said)
            seen.append(said)
        return f"{self._node}: {'; '.join(seen)}"

    async def prove_healed(self, stage: Stage) -> str:
        """Echoes take no longer than before, and the guest completes operations."""
        whole = await self.require_whole(stage)
        for path, before_ms in self._before_ms.items():
            rtt_ms = (await stage.lab.network.echo(self._node, path, _FEWEST_ECHOES)).rtt_ms
            if rtt_ms >= before_ms + self.delay_ms * _SEEN_SHARE:
                raise NotProven(
                    f"{path.value}: {before_ms:.1f} ms before the fault, {rtt_ms:.1f} ms after it"
                )
        return f"{whole}; {await require_working(stage)}"

    def _count(self) -> int:
        """Echoes of which at least `_EXPECTED` should come out of order, or twice."""
        asked = [percent for percent in (self.reorder_percent, self.duplicate_percent) if percent]
        return max([_FEWEST_ECHOES, *(math.ceil(_EXPECTED * 100 / percent) for percent in asked)])
