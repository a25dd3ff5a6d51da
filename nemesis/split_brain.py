"""Split brain: the guest is let run at the source after it has moved, so it runs twice with one memory.

A hypervisor does as it is told; only a cluster manager that never says so twice, or a storage that shuts the
source out, prevents it. The tester sees it by the guest's own numbers: two versions of one frame of a boot.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from jepsen_blk import clock
from jepsen_blk.lab.abilities import Ability
from jepsen_blk.lab.seams import GuestState
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import let_run, require_absent, require_running, require_working
from nemesis.overlap import Ground

_SEEN_TIMEOUT_S = 10.0
_POLL_S = 0.01


@dataclass(slots=True)
class SplitBrain:
    """Move the guest, then let it run on both nodes for `duration_s`."""

    name: ClassVar[str] = "split-brain"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    duration_s: Annotated[float, Field(ge=0, le=3600)] = 0.5
    _source: str = field(default="", init=False, repr=False)
    _versions: int = field(default=0, init=False, repr=False)

    def abilities(self) -> frozenset[Ability]:
        """Say what not every lab can do."""
        return frozenset({Ability.SECOND_RUN})

    def upsets(self) -> frozenset[Ground]:
        """It moves the guest."""
        return frozenset({Ground.PLACE})

    async def setup(self, stage: Stage) -> None:
        """See that the guest runs, and how many second versions of its frames there are by now."""
        await require_running(stage)
        self._source = stage.guest_node
        self._versions = stage.guest.second_versions

    async def inject(self, stage: Stage) -> None:
        """Hand the guest over, then let the one that was left behind run too."""
        await stage.hand_over()
        await stage.lab.hypervisor.resume(self._source)

    async def prove(self, stage: Stage) -> str:
        """Two guests have numbered different operations alike, or the storage has shut the second one out."""
        deadline = clock.monotonic() + _SEEN_TIMEOUT_S
        while True:
            # First, since a frame of an earlier second guest may only now be seen to contradict.
            state = await stage.lab.hypervisor.state(self._source)
            if state is GuestState.IO_ERROR:
                return f"the guest ran on {self._source} too, until the storage refused it"
            if state is not GuestState.RUNNING:
                raise NotProven(f"the guest on {self._source} is {state.value}, not running a second time")
            if stage.guest.second_versions > self._versions:
                return f"{await require_running(stage)} and on {self._source}: a frame came in two versions"
            if clock.monotonic() > deadline:
                raise NotProven(f"nothing came of a second guest within {_SEEN_TIMEOUT_S:g} s")
            await asyncio.sleep(_POLL_S)

    async def dwell(self, stage: Stage) -> None:
        """Let both run."""
        await asyncio.sleep(self.duration_s)

    async def heal(self, stage: Stage) -> None:
        """Kill the one that was left behind, if the guest has moved; let the other run."""
        if self._source not in ("", stage.guest_node):
            await stage.lab.hypervisor.kill(self._source)
        await let_run(stage)

    async def prove_healed(self, stage: Stage) -> str:
        """One guest is left and completes operations."""
        if self._source not in ("", stage.guest_node):
            await require_absent(stage, self._source)
        return await require_working(stage)
