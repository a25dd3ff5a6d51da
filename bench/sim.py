"""How fast the simulator is: operations a second on one core, and what one whole test takes.

    python bench/sim.py [ROUNDS]

`load` is a test of some 20,000 operations, with one short pause. `test` has about 2,000 operations, three
migrations and a reading of every block at the end; with its report it has to take less than 0.3 s. `cell` is
what a comparison of policies runs a hundred times: the founding case on a small disk.

All are recorded, logged, judged and checked as ever; the report is timed apart. Times are of the processor,
the least of ROUNDS (7): whatever else runs only adds to them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from check import machine

from jepsen_blk.controller import run_test
from jepsen_blk.lab.choose import run_in_time_of
from jepsen_blk.report.html import render_report
from jepsen_blk.spec import Spec, make_spec

_BAR_S = 0.3
_TESTS: dict[str, dict[str, Any]] = {
    "load": {"nemesis": [{"fault": "pause", "after_s": 2.0, "options": {"duration_s": 0.01}}]},
    "test": {
        "workload": {"queue_depth": 8},
        "storage": {"write_latency_ms": 10},
        "nemesis": [{"fault": "migrate", "repeat": 3, "after_s": 0.05}],
    },
    "cell": {
        "workload": {"blocks": 32, "hot_blocks": 4, "queue_depth": 4},
        "storage": {"conflict": "ignore-second", "write_latency_ms": 5},
        "nemesis": [{"fault": "lost-path-migration", "options": {"hold_max_s": 1}}],
    },
}


def measure(spec: Spec) -> tuple[float, float, int]:
    """Run it once; return the seconds without and with the report, and the operations."""
    with tempfile.TemporaryDirectory() as store:
        begun = time.process_time()
        outcome = run_in_time_of(spec, run_test(spec, Path(store), report=False))
        ran = time.process_time()
        render_report(outcome.run_dir)
        return ran - begun, time.process_time() - begun, int(outcome.results["ops"])


def main() -> int:
    """Print a line a test; return 1 if `test` misses its bar."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else 7
    print(f"{machine()}; least of {rounds}")
    print(f"{'':6} {'operations':>10} {'run':>9} {'with report':>12} {'operations/s':>13}")
    whole_s = {}
    for name, given in _TESTS.items():
        spec = make_spec({"lab": "sim", "seed": 1, **given})
        timed = [measure(spec) for _ in range(rounds)]
        bare_s, whole_s[name], operations = (min(column) for column in zip(*timed, strict=True))
        rate = operations / bare_s
        print(f"{name:6} {operations:10,} {bare_s:7.3f} s {whole_s[name]:10.3f} s {rate:13,.0f}")
    return 0 if whole_s["test"] < _BAR_S else 1


if __name__ == "__main__":
    sys.exit(main())
