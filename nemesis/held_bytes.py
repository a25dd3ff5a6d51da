"""Held bytes: the network keeps the bytes of a write, its connection dies, and they are delivered later.

    write A on its way, parked; the connection is killed; the frontend sends A again on a new one
    A completes, the guest overwrites it with A', which completes; every block is read
    the parked bytes reach the server; every block is read again

Nothing has to move for it: a frontend that sends again what it has no answer to is enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from jepsen_blk.errors import SpecError
from jepsen_blk.lab.paths import Path_
from jepsen_blk.spec import StorageSpec
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import let_work, require_running, require_working
from nemesis.hold import Hold, hot_blocks
from nemesis.overlap import Ground

_OVERWRITE_TIMEOUT_S = 10.0


@dataclass(slots=True)
class HeldBytes:
    """Park the bytes of a write in the network and deliver them after their connection has died."""

    name: ClassVar[str] = "held-bytes"
    needs: ClassVar[str] = "storage.kind 'nbdkit-memory', 'qemu-storage-daemon' or 'tgt'"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    duration_s: Annotated[float, Field(ge=0, le=3600)] = 0.5
    """How long they are parked while the guest works, and at least until it has overwritten their block."""
    _hold: Hold = field(default_factory=Hold, init=False, repr=False)
    _killed: int = field(default=0, init=False, repr=False)
    _quiesced: bool = field(default=False, init=False, repr=False)

    def check_storage(self, storage: StorageSpec) -> None:
        """Bytes are parked by the proxy that stands before a stock server."""
        if storage.kind == "policy":
            raise SpecError(
                f"nemesis {self.name}: not offered by storage.kind 'policy', which has no proxy before it; "
                "use kind 'nbdkit-memory', 'qemu-storage-daemon' or 'tgt', or the fault hold"
            )

    def upsets(self) -> frozenset[Ground]:
        """It kills the connections on the storage path."""
        return frozenset({Ground.STORAGE_PATH})

    async def setup(self, stage: Stage) -> None:
        """See that the guest runs, and choose the hot blocks, which it overwrites soon."""
        await require_running(stage)
        self._hold = Hold(blocks=hot_blocks(stage))

    async def inject(self, stage: Stage) -> None:
        """Park a write, kill its connection, let the guest run on another one."""
        await self._hold.inject(stage)
        node = stage.guest_node
        self._killed = await stage.lab.network.reset(node, Path_.STORAGE)
        stage.events.emit("network", Path_.STORAGE.value, "reset", node=node, killed=self._killed)
        if not self._killed:
            raise NotProven(f"{node} had no connection to the storage to kill")
        await let_work(stage)

    async def prove(self, stage: Stage) -> str:
        """The write is still on its way, its connection is dead, and the guest works on."""
        working = await require_working(stage)
        return f"{await self._hold.prove(stage)}; connections killed: {self._killed}; {working}"

    async def dwell(self, stage: Stage) -> None:
        """Let the guest work, and overwrite the block; then read every block."""
        await stage.work_on(self.duration_s)
        await self._hold.wait_overwritten(stage, stage.guest_node, 2, _OVERWRITE_TIMEOUT_S)
        self._quiesced = True
        await stage.quiesce()
        await stage.read_all()

    async def heal(self, stage: Stage) -> None:
        """Deliver the bytes; a quiesced guest reads every block before it works on."""
        await self._hold.heal(stage)
        if self._quiesced:
            await self._hold.prove_healed(stage)
            await stage.read_all()
            await stage.guest.run(stage.workload)
        await let_work(stage)

    async def prove_healed(self, stage: Stage) -> str:
        """The write has landed, and the guest completes operations."""
        return f"{await self._hold.prove_healed(stage)}; {await require_working(stage)}"
