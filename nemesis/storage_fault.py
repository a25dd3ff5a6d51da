"""What the faults of the storage have in common: it misbehaves for a while, and counts whom that met."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Protocol, runtime_checkable

from pydantic import ConfigDict, Field

from jepsen_blk.errors import SpecError
from jepsen_blk.lab.seams import Misbehaved, Misbehaviour
from jepsen_blk.spec import StorageSpec
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import let_work, require_running, require_working
from nemesis.overlap import Ground

_MEET_TIMEOUT_S = 10.0


@runtime_checkable
class NeedsStorage(Protocol):
    """A fault that not every storage offers."""

    def check_storage(self, storage: StorageSpec) -> None:
        """Raise SpecError, before a lab is built, if the storage does not offer the fault."""


@dataclass(slots=True)
class StorageFault(ABC):
    """Have the storage misbehave until the fault is healed; a fault says how, and what proves it."""

    name: ClassVar[str]
    needs: ClassVar[str] = "storage.kind 'policy'"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    duration_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    _number: int | None = field(default=None, init=False, repr=False)

    @abstractmethod
    def misbehaviour(self, stage: Stage) -> Misbehaviour:
        """What the storage is to do."""

    @abstractmethod
    async def seen(self, stage: Stage, met: Misbehaved) -> str:
        """Say what proves the fault, now that requests have met it; raise NotProven."""

    def check_storage(self, storage: StorageSpec) -> None:
        """Only the policy target misbehaves when it is told to."""
        if storage.kind != "policy":
            raise SpecError(
                f"nemesis {self.name}: not offered by storage.kind {storage.kind!r}, which cannot be told to "
                "misbehave; use kind 'policy'"
            )

    def upsets(self) -> frozenset[Ground]:
        """Nothing: each misbehaviour ends for itself."""
        return frozenset()

    async def setup(self, stage: Stage) -> None:
        """See that the guest runs: one that is stopped sends nothing that could meet the fault."""
        await require_running(stage)

    async def inject(self, stage: Stage) -> None:
        """Let it misbehave."""
        self._number = await stage.lab.storage.misbehave(self.misbehaviour(stage))

    async def prove(self, stage: Stage) -> str:
        """The storage has answered a request of the guest so."""
        return await self.seen(stage, await self.met(stage, 1, _MEET_TIMEOUT_S))

    async def dwell(self, stage: Stage) -> None:
        """Leave it so."""
        await asyncio.sleep(self.duration_s)

    async def heal(self, stage: Stage) -> None:
        """Let it behave, and the guest run on."""
        if self._number is not None:
            await stage.lab.storage.behave(self._number)
            await let_work(stage)

    async def prove_healed(self, stage: Stage) -> str:
        """The storage behaves, and the guest completes operations again."""
        if self._number is None:
            return await require_working(stage)
        met = await self.met(stage, 0, 0)
        if not met.over:
            raise NotProven("the storage still misbehaves")
        return f"the storage behaves after {met.requests} requests; {await require_working(stage)}"

    async def met(self, stage: Stage, count: int, timeout_s: float) -> Misbehaved:
        """Return once `count` requests have met the fault."""
        if self._number is None:
            raise NotProven("the storage was not told to misbehave")
        return await stage.lab.storage.wait_misbehaved(self._number, count, timeout_s)
