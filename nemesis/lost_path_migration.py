"""The founding case: a write in flight, its node's path lost, the guest moved, the write re-issued.

    X: write A to a hot block, held in flight by the storage (or parked in the network)
    X: storage path lost, connections dead; the guest stops with an I/O error
    X -> Y: the guest migrates under the test's handoff policy; Y re-issues A
    Y: A completes, the guest overwrites it with A', which completes
    quiesce, read every block; the first copy of A is let go; read every block again

A frontend that moves with its requests in flight sends A again at Y whether or not a path is lost, and an
error would end A for it: then no path is cut. One that connects again by itself sends A again at X where the
path is mended before the migration, and has given up before it otherwise.

Reading before the release and after it, with nothing written between, makes the verdict independent of
luck: a block that is overwritten once more before anybody reads it would hide the damage. The release
and the second reading are the healing, so they come even when the test stops at what the first one saw.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from jepsen_blk.errors import LabError, SpecError
from jepsen_blk.spec import StorageSpec
from nemesis.fault import NotProven, Stage
from nemesis.guest_disk import given_up
from nemesis.guest_work import keep_running, let_run
from nemesis.hold import Hold, hot_blocks
from nemesis.overlap import Ground
from nemesis.path_loss import PathLoss

_POLL_S = 0.02
_DISK_TIMEOUT_S = 10.0
_REISSUE_TIMEOUT_S = 20.0
"""A hypervisor that could not connect waits ever longer before it tries again."""


@dataclass(slots=True)
class LostPathMigration:
    """Hold, cut, migrate, overwrite, release."""

    name: ClassVar[str] = "lost-path-migration"
    needs: ClassVar[str] = "heal_before_migration = true for storage.kind 'tgt'"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    hold_max_s: Annotated[float, Field(gt=0, le=3600)] = 3.0
    """The held write is let go after this long at the latest: no storage holds a write for ever."""
    heal_before_migration: bool = False
    """Storage that must be flushed has to be reachable for X's hypervisor to let the guest go."""
    _hold: Hold = field(default_factory=Hold, init=False, repr=False)
    _loss: PathLoss = field(default_factory=PathLoss, init=False, repr=False)
    _quiesced: bool = field(default=False, init=False, repr=False)

    def check_storage(self, storage: StorageSpec) -> None:
        """A hypervisor that never gives up a lost path moves its guest only once that is healed."""
        if storage.kind == "tgt" and not self.heal_before_migration:
            raise SpecError(
                f"nemesis {self.name}: not offered by storage.kind 'tgt' with a path that stays lost: "
                "QEMU's initiator tries for ever, and the guest cannot move; set heal_before_migration = true"
            )

    def upsets(self) -> frozenset[Ground]:
        """It cuts the storage path and moves the guest."""
        return frozenset({Ground.STORAGE_PATH, Ground.PLACE})

    async def setup(self, stage: Stage) -> None:
        """Choose the hot blocks as those to hold."""
        self._hold = Hold(blocks=hot_blocks(stage))
        self._loss = PathLoss(reset=True)
        if not stage.lab.hypervisor.requeues():
            await self._loss.setup(stage)

    async def inject(self, stage: Stage) -> None:
        """Hold a write, then take its node's path away, unless the write moves without that."""
        await self._hold.inject(stage)
        if not stage.lab.hypervisor.requeues():
            await self._loss.inject(stage)

    async def prove(self, stage: Stage) -> str:
        """The path is gone and the guest without its disk; the write is still in flight at the storage."""
        hypervisor = stage.lab.hypervisor
        if hypervisor.requeues():
            return f"{await self._hold.prove(stage)}, and its node does not wait for it to let the guest go"
        loss = await self._loss.prove(stage)
        if hypervisor.reconnects_s() and not self.heal_before_migration:
            loss += f"; then {await given_up(stage)}"
        return f"{loss}; {await self._hold.prove(stage)}"

    async def dwell(self, stage: Stage) -> None:
        """Migrate, let A be re-issued and overwritten, and read every block."""
        limit = asyncio.create_task(self._release_in_time(stage))
        try:
            await self._move(stage)
            await keep_running(stage, self._overwrite_and_read(stage))
        finally:
            limit.cancel()
            await asyncio.wait({limit})
        if not limit.cancelled():
            limit.result()

    async def heal(self, stage: Stage) -> None:
        """Release the write, mend the path, let the guest run; a quiesced one reads before it works on."""
        await self._hold.heal(stage)
        await self._loss.mend(stage)
        await let_run(stage)
        if self._quiesced:
            await self._hold.prove_healed(stage)
            await stage.read_all()
            await stage.guest.run(stage.workload)

    async def prove_healed(self, stage: Stage) -> str:
        """Nothing is held, the path works, the guest runs."""
        return f"{await self._hold.prove_healed(stage)}; {await self._loss.prove_healed(stage)}"

    async def _move(self, stage: Stage) -> None:
        """Migrate; raise NotProven unless a node sends again what it had no answer to."""
        storage, hypervisor = stage.lab.storage, stage.lab.hypervisor
        before = {node: await storage.reissues(node) for node in (stage.guest_node, stage.other_node)}
        if self.heal_before_migration and not hypervisor.requeues():
            await self._loss.mend(stage)
            await hypervisor.wait_disk(stage.guest_node, _DISK_TIMEOUT_S)
            if hypervisor.reconnects_s():
                await self._see_reissue(stage, before)
                await stage.hand_over()
                return
        await stage.hand_over()
        await self._see_reissue(stage, before)

    async def _see_reissue(self, stage: Stage, before: dict[str, int]) -> None:
        node = stage.guest_node
        try:
            await stage.lab.storage.wait_reissues(node, before[node] + 1, _REISSUE_TIMEOUT_S)
        except LabError as error:
            raise NotProven(f"the write in flight was not sent again: {error}") from error

    async def _overwrite_and_read(self, stage: Stage) -> None:
        """Let A be overwritten and read every block; a refused write may stop the guest at any time of it."""
        await self._overwrite(stage)
        self._quiesced = True
        await stage.quiesce()
        await stage.read_all()

    async def _overwrite(self, stage: Stage) -> None:
        """Return once Y has had the re-issued A and one more write to its block completed.

        A target that makes Y wait, or refuses it, is the point of some policies: then the end of the
        hold ends this too.
        """
        waiting = asyncio.create_task(
            self._hold.wait_overwritten(stage, stage.guest_node, 2, self.hold_max_s)
        )
        try:
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=_POLL_S)
                if not waiting.done() and not await self._hold.still_held(stage):
                    break
        finally:
            waiting.cancel()
            with contextlib.suppress(LabError, asyncio.CancelledError):
                await waiting

    async def _release_in_time(self, stage: Stage) -> None:
        await asyncio.sleep(self.hold_max_s)
        stage.events.emit("fault", self.name, "released", why=f"held for hold_max_s = {self.hold_max_s:g} s")
        await self._hold.heal(stage)
