"""How long `jepsen-blk explore` takes: `python bench/explore.py`, processor time of one core.

The scope of 2006 (two writes to one block, one migration, one loss of X's path) behind each frontend, on the
storage that ignores the second write, under the baseline and under a policy that is safe; then a failover.
"""

from __future__ import annotations

from check import machine

from jepsen_blk.explore.case import Case, Frontend, Scope
from jepsen_blk.explore.finding import explore
from jepsen_blk.spec import HandoffPolicy


def measure(case: Case) -> None:
    found = explore(case, lambda line: None)
    seconds = found.seconds + (found.prompt.seconds if found.prompt else 0)
    end = f"safe in {found.interleavings:,}" if found.safe else f"fails after {len(found.path)} events"
    name = f"{case.frontend.value}, {case.scope.value}, {case.policy.value}"
    print(f"{name}: {end}, {found.states} states, {seconds:.1f} s")


def main() -> None:
    print(machine())
    for scope, frontend in (*((Scope.PATH_LOSS, each) for each in Frontend), (Scope.FAILOVER, Frontend.QEMU)):
        for policy in (HandoffPolicy.REQUEUE, HandoffPolicy.PREEMPT_ABORT):
            measure(Case(frontend=frontend, scope=scope, policy=policy))


if __name__ == "__main__":
    main()
