"""Cues: waiting until an event of the storage, the hypervisor or a migration is seen, and saying what was.

The storage and the hypervisor tell of it as it happens; nothing here asks again and again. What waits here, a
fault before it begins or a step of a script, goes on a few milliseconds after the event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jepsen_blk.cue_spec import Cue, GuestCue, InFlightCue, MigrationCue, describe_cue
from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import GuestState, Lab, MigrationPhase
from nemesis.fault import NotProven, Stage
from nemesis.hold import hot_blocks

_GRACE_S = 1.0
"""How much longer the lab would wait: that the time is over is said here, in the same words for all."""
PHASES = {
    "stopped": MigrationPhase.STOPPED,
    "pre-switchover": MigrationPhase.SWITCHOVER,
    "postcopy": MigrationPhase.POSTCOPY,
    "completed": MigrationPhase.COMPLETED,
    "failed": MigrationPhase.FAILED,
    "cancelled": MigrationPhase.CANCELLED,
}
"""The phases of a migration that can be waited for."""


async def see_in_flight(lab: Lab, node: str, blocks: Sequence[int], count: int, timeout_s: float) -> str:
    """Wait until the node has had `count` writes in flight at once, to one of `blocks` if any are given.

    Raises TimeoutError, as all of these do, or LabError where the lab cannot tell.
    """
    async with asyncio.timeout(timeout_s):
        writes = await lab.storage.wait_in_flight(node, blocks, count, timeout_s + _GRACE_S)
    last = writes[-1]
    return f"{_writes(len(writes))} of {node} in flight, the last to block {last.block}"


async def see_reissues(lab: Lab, node: str, since: int, count: int, timeout_s: float) -> str:
    """Wait until the node has sent `count` writes again, beside the first `since`."""
    async with asyncio.timeout(timeout_s):
        await lab.storage.wait_reissues(node, since + count, timeout_s + _GRACE_S)
    return f"{node} has sent {_writes(count)} again"


async def see_guest(lab: Lab, node: str, state: GuestState, timeout_s: float) -> str:
    """Wait until the guest of the node is in that state."""
    async with asyncio.timeout(timeout_s):
        await lab.hypervisor.wait_state(node, state, timeout_s + _GRACE_S)
    return f"the guest on {node} is {state.value}"


async def see_migration(lab: Lab, source: str, phase: MigrationPhase, timeout_s: float) -> str:
    """Wait until the migration that has begun there is so far, as its source sees it."""
    async with asyncio.timeout(timeout_s):
        await lab.hypervisor.wait_migration(source, phase, timeout_s + _GRACE_S)
    return f"the migration is {phase.value}"


async def count_reissues(lab: Lab) -> dict[str, int]:
    """Return how many writes each node has sent again by now."""
    return {node: await lab.storage.reissues(node) for node in lab.guest_nodes}


@dataclass(frozen=True, slots=True)
class Awaited:
    """The cue of one fault, and what of it was counted before: implements nemesis.fault.Cue."""

    cue: Cue
    reissues: Mapping[str, int]
    """How many writes each node had sent again when the fault before it began, or the test."""

    def __str__(self) -> str:
        """Say what is waited for."""
        return describe_cue(self.cue)

    async def wait(self, stage: Stage) -> str:
        """Return what was seen; raises NotProven if it did not come."""
        try:
            return await self._see(stage)
        except TimeoutError as error:
            why = f"{self} was not seen within {self.cue.timeout_s:g} s"
            raise NotProven(f"its cue did not come: {why}") from error
        except LabError as error:
            raise NotProven(f"its cue did not come: {self}: {error}") from error

    async def _see(self, stage: Stage) -> str:
        lab, cue = stage.lab, self.cue
        if isinstance(cue, MigrationCue):
            return await see_migration(lab, stage.guest_node, PHASES[cue.phase], cue.timeout_s)
        node = stage.guest_node if cue.node == "guest" else stage.other_node
        if isinstance(cue, GuestCue):
            return await see_guest(lab, node, GuestState(cue.state), cue.timeout_s)
        if isinstance(cue, InFlightCue):
            return await see_in_flight(lab, node, _blocks(cue, stage), cue.count, cue.timeout_s)
        # A server that was restarted meanwhile has begun to count again.
        since = min(self.reissues[node], await lab.storage.reissues(node))
        return await see_reissues(lab, node, since, cue.count, cue.timeout_s)


def _blocks(cue: InFlightCue, stage: Stage) -> Sequence[int]:
    if cue.hot:
        return hot_blocks(stage)
    return () if cue.block is None else (cue.block,)


def _writes(count: int) -> str:
    return "1 write" if count == 1 else f"{count} writes"
