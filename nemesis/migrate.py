"""Healthy live migration: the guest moves to the other node under full load.

A healthy hypervisor drains what is in flight before the switch-over, so this alone must never show an
anomaly: it is the negative control of every other fault. That holds for post-copy, whose guest works on
the destination before its memory is there, and for a source that dies once it has nothing left to give.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from jepsen_blk.errors import LabError
from jepsen_blk.lab.abilities import Ability
from jepsen_blk.lab.seams import GuestState, MigrationPhase
from jepsen_blk.spec import HandoffPolicy
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import let_run, require_running
from nemesis.overlap import Ground

_COPY_TIMEOUT_S = 25.0


@dataclass(slots=True)
class Migrate:
    """Move the guest once; `repeat` in the schedule makes it a ping-pong."""

    name: ClassVar[str] = "migrate"
    needs: ClassVar[str] = "for mode postcopy: userfaultfd, and a handoff policy other than stonith"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    mode: Literal["precopy", "postcopy"] = "precopy"
    kill_source: bool = False
    """Kill the source's hypervisor once the destination has the whole guest."""
    settle_s: Annotated[float, Field(ge=0, le=600)] = 0.3
    """How long the guest then works on the destination."""
    _from: str = field(default="", init=False, repr=False)
    _requests: int = field(default=0, init=False, repr=False)

    def abilities(self) -> frozenset[Ability]:
        """Say what not every lab can do."""
        return frozenset({Ability.POSTCOPY} if self.mode == "postcopy" else ())

    def upsets(self) -> frozenset[Ground]:
        """It moves the guest."""
        return frozenset({Ground.PLACE})

    async def setup(self, stage: Stage) -> None:
        """See that the guest runs, and that the handoff leaves post-copy its source."""
        await require_running(stage)
        if self.mode == "postcopy":
            require_source_kept(stage)
        self._from = stage.guest_node

    async def inject(self, stage: Stage) -> None:
        """Migrate and hand over."""
        await stage.hand_over(self.mode)
        if self.mode == "postcopy":
            await wait_copied(stage)
            self._requests = (await stage.lab.hypervisor.progress(self._from)).page_requests
        if self.kill_source:
            await stage.lab.hypervisor.kill(self._from)

    async def prove(self, stage: Stage) -> str:
        """The destination runs the guest, and did so before all its memory was there; the source does not."""
        await require_running(stage)
        left = await stage.lab.hypervisor.state(self._from)
        if left is not GuestState.ABSENT and (self.kill_source or left is not GuestState.MIGRATED):
            raise NotProven(f"the source {self._from} is {left.value} after the migration")
        seen = f"the guest runs on {stage.guest_node}, {self._from} is {left.value}"
        if self.mode == "precopy":
            return seen
        if not self._requests:
            raise NotProven("the guest never waited for a page: its memory was there before it ran")
        return f"{seen}; it asked {self._requests} times for a page that was still there"

    async def dwell(self, stage: Stage) -> None:
        """Wait until the guest has worked on the destination: operations came from it."""
        await stage.work_on(self.settle_s)

    async def heal(self, stage: Stage) -> None:
        """Let the guest run where a handoff that failed has left it stopped."""
        await let_run(stage)

    async def prove_healed(self, stage: Stage) -> str:
        """The guest runs, and with all its memory."""
        if self.mode == "postcopy" and self._from not in ("", stage.guest_node):
            await wait_copied(stage)
        return await require_running(stage)


def require_source_kept(stage: Stage) -> None:
    """Raise LabError if the handoff policy would kill a source that still has the guest's memory."""
    if stage.handoff.policy is HandoffPolicy.STONITH:
        raise LabError("post-copy needs its source after the switch-over: handoff.policy 'stonith' kills it")


async def wait_copied(stage: Stage) -> None:
    """Return once the guest that was handed over in post-copy has all its memory."""
    for node in (stage.other_node, stage.guest_node):
        await stage.lab.hypervisor.wait_migration(node, MigrationPhase.COMPLETED, _COPY_TIMEOUT_S)
