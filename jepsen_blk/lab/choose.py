"""From a specification to the lab it asks for, made ready, and the time that it runs in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from jepsen_blk import virtual_time
from jepsen_blk.lab.local.lab import prepare_local_lab
from jepsen_blk.lab.seams import PreparedLab
from jepsen_blk.lab.sim.lab import prepare_sim_lab
from jepsen_blk.spec import Spec

T = TypeVar("T")


async def prepare_lab(spec: Spec) -> PreparedLab:
    """Prepare the lab that `spec.lab` names; raises UserError for what this machine or the lab lacks."""
    return await (prepare_sim_lab(spec) if spec.lab == "sim" else prepare_local_lab(spec))


def run_in_time_of(spec: Spec, test: Coroutine[Any, Any, T]) -> T:
    """Run a test of `spec` to its end: in real time, or in virtual time where its lab is simulated."""
    return virtual_time.run(test) if spec.lab == "sim" else asyncio.run(test)
