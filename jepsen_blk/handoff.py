"""Recovery policies: the steps between "X is gone" and "Y may write".

Each policy is a few calls on the seams, in the order in which a cluster manager would make them. A
policy that shuts the source out admits the destination first: the guest may come back to a node that
an earlier handoff fenced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import Hypervisor, Storage
from jepsen_blk.spec import HandoffPolicy, HandoffSpec

_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Handoff:
    """What a policy acts on: the seams, who hands over, and to whom."""

    spec: HandoffSpec
    storage: Storage
    hypervisor: Hypervisor
    source: str
    destination: str


async def _requeue(handoff: Handoff) -> None:
    """Do nothing: the frontend re-issues what was in flight, the 2006 baseline."""


async def _drain(handoff: Handoff) -> None:
    """Wait until the storage has nothing of the source in flight."""
    timeout_s = handoff.spec.timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            while await handoff.storage.in_flight(handoff.source):
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise LabError(
            f"drain: {handoff.source} still has writes in flight after {timeout_s:g} s; "
            "raise handoff.timeout_s"
        ) from error


async def _cancel_initiator(handoff: Handoff) -> None:
    """Drop the source's connections from its own side; bytes on the wire go on."""
    await handoff.hypervisor.disconnect(handoff.source)


async def _preempt(handoff: Handoff) -> None:
    """Refuse new commands of the source; accepted ones go on."""
    await handoff.storage.unfence(handoff.destination)
    await handoff.storage.fence(handoff.source, abort=False)


async def _preempt_abort(handoff: Handoff) -> None:
    """Refuse new commands of the source and end the accepted ones, confirmed by the target."""
    await handoff.storage.unfence(handoff.destination)
    await handoff.storage.fence(handoff.source, abort=True)


async def _epoch(handoff: Handoff) -> None:
    """Raise a generation: writes of an older one are refused when they would be applied."""
    await handoff.storage.raise_epoch(handoff.destination)


async def _single_writer(handoff: Handoff) -> None:
    """Make the destination the active writer; its writes wait until the source's are flushed."""
    await handoff.storage.admit_single_writer(handoff.destination)


async def _quiesce(handoff: Handoff) -> None:
    """Wait a fixed time and hope."""
    await asyncio.sleep(handoff.spec.quiesce_s)


async def _stonith(handoff: Handoff) -> None:
    """Kill the source's hypervisor."""
    await handoff.hypervisor.kill(handoff.source)


_POLICIES: dict[HandoffPolicy, Callable[[Handoff], Awaitable[None]]] = {
    HandoffPolicy.REQUEUE: _requeue,
    HandoffPolicy.DRAIN: _drain,
    HandoffPolicy.CANCEL_INITIATOR: _cancel_initiator,
    HandoffPolicy.PREEMPT: _preempt,
    HandoffPolicy.PREEMPT_ABORT: _preempt_abort,
    HandoffPolicy.EPOCH: _epoch,
    HandoffPolicy.SINGLE_WRITER: _single_writer,
    HandoffPolicy.QUIESCE: _quiesce,
    HandoffPolicy.STONITH: _stonith,
}


async def run_handoff(handoff: Handoff) -> None:
    """Run the policy's steps; raises LabError when one cannot be done in time."""
    await _POLICIES[handoff.spec.policy](handoff)
