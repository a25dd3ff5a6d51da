"""From a specification to the lab it asks for, with the slow parts made ready."""

from __future__ import annotations

from jepsen_blk.lab.local.lab import prepare_local_lab
from jepsen_blk.lab.seams import PreparedLab
from jepsen_blk.spec import Spec


async def prepare_lab(spec: Spec) -> PreparedLab:
    """Prepare the lab that `spec.lab` names; raises UserError for what this machine lacks."""
    return await prepare_local_lab(spec)
