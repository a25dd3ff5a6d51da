"""Faults of every kind in a row leave the simulator whole: all are proven, and a safe policy is safe."""

from pathlib import Path

import pytest
from sim_run import simulate

FAULTS = [
    *({"fault": "migrate", "options": {"mode": mode}} for mode in ("precopy", "postcopy")),
    *({"fault": "failover", "options": {"by": by}} for by in ("kill", "stop", "cut")),
    *({"fault": "freeze", "options": {"node": node}} for node in ("guest", "storage")),
    *({"fault": fault, "options": {"duration_s": 0.3}} for fault in ("power-loss", "storage-restart")),
    *(
        {"fault": fault}
        for fault in ("postcopy-loss", "orphan", "path-loss", "one-way", "reset", "slow-flush")
    ),
    *({"fault": fault} for fault in ("loss", "slow-link", "latency", "migrate-cancel", "io-error")),
]


@pytest.mark.parametrize("seed", range(3))
def test_all_that_goes_wrong_is_proven_healed_and_harmless_under_a_safe_policy(
    tmp_path: Path, seed: int
) -> None:
    outcome = simulate(
        tmp_path,
        seed=seed,
        time_limit_s=240,
        allow_idle_migration=True,
        handoff={"policy": "preempt-abort"},
        storage={"write_latency_ms": 20, "cache": "volatile", "flush": True},
        workload={"queue_depth": 4},
        schedule={"kind": "mix", "repeat": 20, "stagger_s": 0.5, "items": FAULTS},
    )
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    assert [fault["proven"] and fault["healed"] for fault in outcome.results["faults"]] == [True] * 20
