"""Whether the guest works, and letting it: what most faults prove by, and heal by.

A guest that an error, a pause or a handoff has stopped is let run; one that runs has to complete operations
to be believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from jepsen_blk.lab.seams import GuestState
from nemesis.fault import NotProven, Stage

_DISK_TIMEOUT_S = 10.0
_POLL_S = 0.01
SETTLE_S = 0.2
"""Operations completed before a standstill may still be on their way to the controller."""


async def require_running(stage: Stage) -> str:
    """Raise NotProven unless the guest runs where it should; the proof shared by several healings."""
    state = await stage.lab.hypervisor.state(stage.guest_node)
    if state is not GuestState.RUNNING:
        raise NotProven(f"the guest on {stage.guest_node} is {state.value}, not running")
    return f"the guest runs on {stage.guest_node}"


async def require_absent(stage: Stage, node: str) -> str:
    """Raise NotProven if there is a guest on the node, running or not."""
    left = await stage.lab.hypervisor.state(node)
    if left is not GuestState.ABSENT:
        raise NotProven(f"the guest on {node} is {left.value}, not absent")
    return f"the guest on {node} is absent"


async def let_run(stage: Stage) -> None:
    """Let the guest run where it is, if an I/O error, a pause or an unfinished handoff has stopped it."""
    if await stage.lab.hypervisor.state(stage.guest_node) in (GuestState.IO_ERROR, GuestState.PAUSED):
        await stage.lab.hypervisor.resume(stage.guest_node)


async def keep_running(stage: Stage, work: Coroutine[Any, Any, None]) -> None:
    """Await what the guest has to do, and let it run as often as an I/O error stops it meanwhile.

    An error of a dead connection is due to every request that was on it, so it comes again after a mending.
    """
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await stage.require_alive()
            await let_run(stage)
            await asyncio.wait({task}, timeout=_POLL_S)
    finally:
        task.cancel()
    await task


async def let_work(stage: Stage) -> None:
    """Let the guest run until it completes operations: an I/O error may come after what it is due to.

    The bound is that of the healing.
    """
    before = stage.operations()
    while stage.operations() == before and not await stage.waits_to_move():
        await let_run(stage)
        await asyncio.sleep(_POLL_S)


async def let_reconnect(stage: Stage) -> None:
    """Have a hypervisor that waits for the guest reach its disk again, after its connection may have died.

    It would learn of that, and fail, with the first request of a guest that has moved there.
    """
    if await stage.lab.hypervisor.state(stage.other_node) is GuestState.INCOMING:
        await stage.lab.hypervisor.wait_disk(stage.other_node, _DISK_TIMEOUT_S)


async def require_standstill(stage: Stage) -> None:
    """Raise NotProven if operations complete while nothing should."""
    await asyncio.sleep(SETTLE_S)
    before = stage.operations()
    await asyncio.sleep(SETTLE_S)
    done = stage.operations() - before
    if done:
        raise NotProven(f"{done} operations completed while the guest should stand still")


async def require_working(stage: Stage) -> str:
    """Raise NotProven unless the guest runs and completes operations: a whole path may still stand still.

    One that a migration has stopped for its switch-over is as it should be.
    """
    if await stage.waits_to_move():
        return f"the guest on {stage.guest_node} is stopped for its switch-over"
    await require_running(stage)
    await stage.work_on(0)
    return f"the guest works on {stage.guest_node}"
