"""From a specification to the lab it asks for, made ready, and the time that it runs in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from jepsen_blk import virtual_time
from jepsen_blk.lab.seams import PreparedLab
from jepsen_blk.spec import Spec

T = TypeVar("T")


async def prepare_lab(spec: Spec) -> PreparedLab:
    """Prepare the lab that `spec.lab` names; raises UserError for what this machine or the lab lacks.

    Each lab is imported by who asks for it: the simulator has to run where the local one cannot be.
    """
    if spec.lab == "sim":
        from jepsen_blk.lab.sim.lab import prepare_sim_lab

        return await prepare_sim_lab(spec)
    from jepsen_blk.lab.local.lab import prepare_local_lab

    return await prepare_local_lab(spec)


def run_in_time_of(spec: Spec, test: Coroutine[Any, Any, T]) -> T:
    """Run a test of `spec` to its end: in real time, or in virtual time where its lab is simulated."""
    return virtual_time.run(test) if spec.lab == "sim" else asyncio.run(test)
