"""Power loss: the storage's servers die at once and its volatile cache with them; then they start again.

What was acknowledged and not flushed may be gone, what was flushed may not. The history has the power loss,
so that the checker judges what survived it. The guest does not learn of it: its hypervisor sends again what
had no answer, also a flush, which then covers nothing of what was lost.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import ClassVar

from jepsen_blk.errors import SpecError
from jepsen_blk.spec import StorageSpec
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import keep_running
from nemesis.storage_restart import StorageRestart

_UNFLUSHED_TIMEOUT_S = 10.0
_POLL_S = 0.01
_CLOCKS_APART = 1.1
"""More than the guest's clock and the controller's ever go apart."""


@dataclass(slots=True)
class PowerLoss(StorageRestart):
    """Leave the storage without power for `duration_s`: what its cache held is lost."""

    name: ClassVar[str] = "power-loss"
    needs: ClassVar[str] = "storage.cache = 'volatile'"

    _unflushed: int = field(default=0, init=False, repr=False)
    _unsure_s: float = field(default=0.0, init=False, repr=False)
    _lost: int = field(default=0, init=False, repr=False)

    def check_storage(self, storage: StorageSpec) -> None:
        """Without a volatile cache a power loss takes nothing that a restart does not."""
        if storage.cache != "volatile":
            raise SpecError(
                f"nemesis {self.name}: the storage has no volatile cache to lose; set storage.cache = "
                "'volatile' and storage.flush = true, or use the fault storage-restart"
            )

    async def setup(self, stage: Stage) -> None:
        """See that the guest works and reaches the storage: it writes what is to be lost."""
        await StorageRestart.setup(self, stage)
        await stage.work_on(0)

    async def inject(self, stage: Stage) -> None:
        """End the servers while their cache holds what was not flushed, and lose it.

        The history has the power loss before anything is lost: whatever comes between, no loss goes unmarked.
        """
        clock = asyncio.get_running_loop().time
        begin_s = clock()
        async with stage.guest.power_loss():
            self._unflushed = await _stop_unflushed(stage)
            await stage.lab.storage_servers.stop()
        self._unsure_s = _CLOCKS_APART * (clock() - begin_s)
        self._lost = await stage.lab.storage_servers.lose_cache()

    async def prove(self, stage: Stage) -> str:
        """Blocks that were not flushed are lost, a new connection is refused, the guest has no disk."""
        if not self._lost:
            raise NotProven(f"of {self._unflushed} blocks that were not flushed none was lost")
        down = await StorageRestart.prove(self, stage)
        return f"{self._lost} blocks that were not flushed were lost; {down}"

    async def heal(self, stage: Stage) -> None:
        """Start the servers again, which are still stopped where they were not ended.

        What the guest reads is evidence once its clock, which stood still, shows a time that is surely after
        the power loss: it works until then.
        """
        await stage.lab.thaw(stage.lab.storage_node)
        await StorageRestart.heal(self, stage)
        await keep_running(stage, stage.work_on(self._unsure_s))


async def _stop_unflushed(stage: Stage) -> int:
    """Stop the storage's processes at a moment at which its cache holds something; return how many blocks."""
    lab = stage.lab
    try:
        async with asyncio.timeout(_UNFLUSHED_TIMEOUT_S):
            while True:
                await lab.freeze(lab.storage_node)
                unflushed = await lab.storage_servers.unflushed()
                if unflushed:
                    return unflushed
                await lab.thaw(lab.storage_node)
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise NotProven(f"nothing was unflushed within {_UNFLUSHED_TIMEOUT_S:g} s") from error
