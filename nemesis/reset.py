"""Reset: established connections die while the path stays whole, as when a firewall forgets its state.

The frontend reconnects at once, so a write that it issues again can overtake the first copy, which the
storage accepted on the connection that died.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import ClassVar

from jepsen_blk.errors import LabError
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import GuestState
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import SETTLE_S, require_working
from nemesis.on_paths import OnPaths

_ERROR_TIMEOUT_S = 2.0


@dataclass(slots=True)
class Reset(OnPaths):
    """Kill a node's connections; the guest stays as it then is for `duration_s`."""

    name: ClassVar[str] = "reset"

    _killed: dict[Path_, int] = field(default_factory=dict, init=False, repr=False)

    async def inject(self, stage: Stage) -> None:
        """Kill them."""
        for path in self.paths():
            self._killed[path] = await stage.lab.network.reset(self._node, path)
            stage.events.emit("network", path.value, "reset", node=self._node, killed=self._killed[path])

    async def prove(self, stage: Stage) -> str:
        """There were connections to kill, and the paths still carry new ones."""
        if not any(self._killed.values()):
            raise NotProven(f"{self._node} had no connection to kill on: {', '.join(self._killed)}")
        counts = ", ".join(f"{killed} on {path.value}" for path, killed in self._killed.items())
        whole = await self.require_whole(stage)
        return f"connections of {self._node} killed: {counts}; {whole}{await self._guest_after(stage)}"

    async def _guest_after(self, stage: Stage) -> str:
        """Wait for the I/O error of what was in flight, so that the healing does not come before it.

        A hypervisor that connects again by itself shows that by a guest that works on.
        """
        if self._node != stage.guest_node or Path_.STORAGE not in self._killed:
            return ""
        if stage.lab.hypervisor.reconnects_s():
            await asyncio.sleep(SETTLE_S)
            return f"; connected again, {await require_working(stage)}"
        if not stage.lab.hypervisor.stops_at("EIO"):
            return "; its guest is told"
        with contextlib.suppress(LabError):
            if not await stage.waits_to_move():
                await stage.lab.hypervisor.wait_state(self._node, GuestState.IO_ERROR, _ERROR_TIMEOUT_S)
                return "; its guest is in io-error"
        if await stage.waits_to_move():
            return "; its guest is stopped for its switch-over"
        return "; its guest took no notice"  # nothing was in flight
