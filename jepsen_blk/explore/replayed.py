"""A counter-example played again by the whole of jepsen-blk: controller, agent, faults and checker."""

from __future__ import annotations

import tempfile
from pathlib import Path

from jepsen_blk.controller import run_test
from jepsen_blk.errors import InternalError
from jepsen_blk.expect import misses
from jepsen_blk.lab.choose import run_in_time_of
from jepsen_blk.spec import Spec, change_spec


def replay_simulated(spec: Spec) -> list[str]:
    """Run the specification in the simulator; return what did not end as it expects, nothing if all did."""
    if spec.expect is None:
        raise InternalError("a counter-example says how it ends")
    simulated = change_spec(spec, {"lab": "sim"})
    with tempfile.TemporaryDirectory() as store:
        results = run_in_time_of(simulated, run_test(simulated, Path(store))).results
    missed = misses(spec.expect, results)
    return missed + list(results["reasons"]) if missed else []
