"""Healthy live migration: the guest moves to the other node under full load.

A healthy hypervisor drains what is in flight before the switch-over, so this alone must never show an
anomaly: it is the negative control of every other fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from jepsen_blk.lab.seams import GuestState
from nemesis.fault import NotProven, Stage, let_run, require_running


@dataclass(slots=True)
class Migrate:
    """Move the guest once; `repeat` in the schedule makes it a ping-pong."""

    name: ClassVar[str] = "migrate"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    mode: Literal["precopy"] = "precopy"
    settle_s: Annotated[float, Field(ge=0, le=600)] = 0.3
    """How long the guest then works on the destination."""

    async def setup(self, stage: Stage) -> None:
        """See that the guest runs."""
        await require_running(stage)

    async def inject(self, stage: Stage) -> None:
        """Migrate and hand over."""
        await stage.hand_over(self.mode)

    async def prove(self, stage: Stage) -> str:
        """The destination runs the guest and the source does not."""
        await require_running(stage)
        left = await stage.lab.hypervisor.state(stage.other_node)
        if left not in (GuestState.MIGRATED, GuestState.ABSENT):
            raise NotProven(f"the source {stage.other_node} is {left.value} after the migration")
        return f"the guest runs on {stage.guest_node}, {stage.other_node} is {left.value}"

    async def dwell(self, stage: Stage) -> None:
        """Wait until the guest has worked on the destination: operations came from it."""
        await stage.work_on(self.settle_s)

    async def heal(self, stage: Stage) -> None:
        """Let the guest run where a handoff that failed has left it stopped."""
        await let_run(stage)

    async def prove_healed(self, stage: Stage) -> str:
        """The guest runs."""
        return await require_running(stage)
