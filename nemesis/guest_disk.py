"""What a guest comes to whose disk fails, which depends on what its hypervisor does with the error."""

from __future__ import annotations

import math

from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import GuestState
from nemesis.fault import Stage
from nemesis.guest_work import require_standstill

_STOP_TIMEOUT_S = 10.0


async def stopped_by(stage: Stage, error: str) -> str:
    """Return once the error has stopped the guest, if its hypervisor is to stop it; say which."""
    if not stage.lab.hypervisor.stops_at(error):
        return "its guest is told"
    return await _stopped(stage, _STOP_TIMEOUT_S)


async def cut_off(stage: Stage) -> str:
    """Return once it is seen that the guest has lost the connections of its disk; say how that shows.

    Raises NotProven where operations complete although its hypervisor still tries to connect again.
    """
    tries_s = stage.lab.hypervisor.reconnects_s()
    if not tries_s:
        return await stopped_by(stage, "EIO")
    await require_standstill(stage)
    time = "for ever" if math.isinf(tries_s) else f"for {tries_s:g} s"
    return f"nothing of its guest completes, and its hypervisor tries {time} to connect again"


async def given_up(stage: Stage) -> str:
    """Return once the guest is stopped for good by a path that stays lost; it is stopped by an error then."""
    return await _stopped(stage, stage.lab.hypervisor.reconnects_s() + _STOP_TIMEOUT_S)


async def _stopped(stage: Stage, timeout_s: float) -> str:
    try:
        if not await stage.waits_to_move():
            await stage.lab.hypervisor.wait_state(stage.guest_node, GuestState.IO_ERROR, timeout_s)
            return "its guest is in io-error"
    except LabError:
        if not await stage.waits_to_move():
            raise
    return "its guest is stopped for its switch-over"
