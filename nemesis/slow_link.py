"""Slow link: a node sends at a low rate; a migration then copies memory slower than the guest dirties it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from jepsen_blk.lab.paths import Path_, RateLimit
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import require_working
from nemesis.impaired import Impaired

_PAYLOAD_BYTES = 1400
_FEWEST, _MOST = 64, 4000
_PROBE_S = 0.4
_TOLERANCE = 1.4
_CLEARLY = 2.0


@dataclass(slots=True)
class SlowLink(Impaired):
    """Limit what the node sends along its paths to `mbit_per_s`."""

    name: ClassVar[str] = "slow-link"
    needs: ClassVar[str] = "tbf in the kernels of the lab's nodes"

    mbit_per_s: Annotated[float, Field(ge=0.5, le=1000)] = 10.0

    def impairment(self) -> RateLimit:
        """Say how fast the paths still are."""
        return RateLimit(self.mbit_per_s)

    async def setup(self, stage: Stage) -> None:
        """See that the paths are whole, and clearly faster than they will be."""
        await Impaired.setup(self, stage)
        for path in self.paths():
            await self._require_faster(stage, path, _CLEARLY)

    async def prove(self, stage: Stage) -> str:
        """Large echoes come back no faster than the limit, whatever else is on the link."""
        seen = []
        for path in self.paths():
            rate = await self._measured(stage, path)
            if not 0 < rate <= self.mbit_per_s * _TOLERANCE:
                raise NotProven(f"{path.value} of {self._node} carries {rate:.1f} Mbit/s")
            seen.append(f"{path.value} carries {rate:.1f} Mbit/s")
        return f"{self._node}: {', '.join(seen)}"

    async def prove_healed(self, stage: Stage) -> str:
        """The paths are faster than the limit again, and the guest completes operations."""
        whole = await self.require_whole(stage)
        for path in self.paths() if self._node else ():
            rate = await self._require_faster(stage, path, _TOLERANCE)
            whole += f"; {path.value} carries {rate:.0f} Mbit/s"
        return f"{whole}; {await require_working(stage)}"

    async def _require_faster(self, stage: Stage, path: Path_, times: float) -> float:
        rate = await self._measured(stage, path)
        if rate <= self.mbit_per_s * times:
            raise NotProven(f"without the fault {path.value} of {self._node} carries {rate:.1f} Mbit/s")
        return rate

    async def _measured(self, stage: Stage, path: Path_) -> float:
        wanted = round(self.mbit_per_s * 125_000 * _PROBE_S / _PAYLOAD_BYTES)
        count = min(max(wanted, _FEWEST), _MOST)
        return (await stage.lab.network.echo(self._node, path, count, _PAYLOAD_BYTES)).mbit_per_s
