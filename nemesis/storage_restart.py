"""Storage restart: its server dies under load and comes back with its content, as after its crash.

What it had in flight dies with it, unless it was applied in time, and so does what it knew of fences,
epochs and holds. The target has no volatile cache of its own: what it had acknowledged is in its file when
it comes back, so this is no power loss, and an acknowledged write that is gone is an anomaly.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from jepsen_blk.errors import SpecError
from jepsen_blk.lab.abilities import Ability
from jepsen_blk.lab.paths import Path_
from jepsen_blk.spec import StorageSpec
from nemesis.fault import NotProven, Stage
from nemesis.guest_disk import cut_off
from nemesis.guest_work import let_reconnect, let_work, require_working
from nemesis.overlap import Ground

_DISK_TIMEOUT_S = 10.0


@dataclass(slots=True)
class StorageRestart:
    """Leave the storage without a server for `duration_s`."""

    name: ClassVar[str] = "storage-restart"
    needs: ClassVar[str] = "storage.kind 'policy' with storage.backing, 'qemu-storage-daemon' or 'tgt'"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    duration_s: Annotated[float, Field(gt=0, le=3600)] = 1.0

    def check_storage(self, storage: StorageSpec) -> None:
        """Content in the memory of a server is lost with it, which no storage may do to its users."""
        if not storage.outlives_server:
            raise SpecError(
                f"nemesis {self.name}: storage.kind {storage.kind!r} in memory loses its content with its "
                "server; use kind 'policy' with storage.backing, 'qemu-storage-daemon' or 'tgt'"
            )

    def abilities(self) -> frozenset[Ability]:
        """Say what not every lab can do."""
        return frozenset({Ability.SERVERS})

    def upsets(self) -> frozenset[Ground]:
        """The server, and the path to it, which is probed."""
        return frozenset({Ground.SERVER, Ground.STORAGE_PATH})

    def needs_guest(self) -> bool:
        """Tell whether a guest at work is needed to prove it: one that is stopped proves it too."""
        return False

    async def setup(self, stage: Stage) -> None:
        """See that the storage can be reached: a dead one would prove the fault."""
        if not await stage.lab.network.reachable(stage.guest_node, Path_.STORAGE):
            raise NotProven(f"{stage.guest_node} could not reach the storage before it was stopped")

    async def inject(self, stage: Stage) -> None:
        """Kill the server."""
        await stage.lab.storage_servers.stop()

    async def prove(self, stage: Stage) -> str:
        """A new connection is refused, and the guest is without its disk."""
        stopped = await cut_off(stage)
        if await stage.lab.network.reachable(stage.guest_node, Path_.STORAGE):
            raise NotProven("the storage still takes connections")
        return f"the storage takes no connection of {stage.guest_node}; {stopped}"

    async def dwell(self, stage: Stage) -> None:
        """Leave it down."""
        await asyncio.sleep(self.duration_s)

    async def heal(self, stage: Stage) -> None:
        """Start the server again, let the guest run on, and the other node connect again."""
        await stage.lab.storage_servers.start()
        if not stage.lab.hypervisor.stops_at("EIO"):
            # A guest that is told of its errors completes operations without a disk too.
            await stage.lab.hypervisor.wait_disk(stage.guest_node, _DISK_TIMEOUT_S)
        await let_work(stage)
        await let_reconnect(stage)

    async def prove_healed(self, stage: Stage) -> str:
        """A new connection succeeds, and the guest completes operations."""
        if not await stage.lab.network.reachable(stage.guest_node, Path_.STORAGE):
            raise NotProven(f"{stage.guest_node} does not reach the storage after its restart")
        return f"the storage takes connections; {await require_working(stage)}"
