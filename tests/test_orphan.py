"""A write that outlives its hypervisor in the kernel: seen to come late, and what the policies make of it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_stage import GOOD, LiveStage, live_stage

from jepsen_blk.controller import run_test
from jepsen_blk.lab.seams import GuestState
from jepsen_blk.spec import make_spec

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStage]:
    with live_stage(tmp_path_factory.mktemp("live")) as live:
        yield live


async def nothing(*args: Any, **options: Any) -> None:
    """A seam's method that does nothing."""


def test_a_write_comes_after_its_hypervisor_was_killed(live: LiveStage) -> None:
    here, there = live.stage.guest_node, live.stage.other_node
    assert live.outcome("orphan", duration_s=0) == GOOD
    assert live.proof().startswith(f"writes of {here} received ")
    assert live.proof().endswith("s after its hypervisor was killed: 1")
    assert live.stage.guest_node == there
    assert live.do(live.lab.hypervisor.state(here)) is GuestState.ABSENT


def test_a_path_that_was_not_cut_leaves_nothing_unsent(
    live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.lab.network, "cut", nothing)
    monkeypatch.setattr("nemesis.orphan._SENT_TIMEOUT_S", 0.3)
    here = live.stage.guest_node
    over = live.outcome("orphan")
    assert (over["proven"], over["healed"]) == (False, True)
    assert f"the guest on {here} sent nothing" in over["why"]
    assert live.stage.guest_node == here


def test_a_hypervisor_that_lives_is_no_orphans_parent(
    live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.lab.hypervisor, "kill", nothing)
    here = live.stage.guest_node
    over = live.outcome("orphan")
    assert (over["proven"], over["healed"]) == (False, True)
    assert f"the guest on {here} is running, not absent" in over["why"]


def test_a_write_that_never_comes_proves_nothing(live: LiveStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead node stays cut off until the fault is healed."""
    monkeypatch.setattr("nemesis.orphan._ARRIVE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(live.lab.network, "hide_ends", nothing)
    over = live.outcome("orphan")
    assert (over["proven"], over["healed"]) == (False, True)
    assert "nothing of" in over["why"]


@pytest.mark.parametrize(
    ("policy", "verdict"), [("requeue", "fail"), ("stonith", "fail"), ("preempt-abort", "pass")]
)
def test_only_a_storage_that_shuts_the_node_out_is_safe_from_it(
    policy: str, verdict: str, tmp_path: Path
) -> None:
    spec = {"nemesis": [{"fault": "orphan"}], "handoff": {"policy": policy}}
    outcome = asyncio.run(run_test(make_spec(spec), tmp_path))
    results = outcome.results
    assert (outcome.verdict, results["reasons"]) == (verdict, []), results
    assert results["deadlines"]["never"] == "pass"
    kinds = {anomaly["kind"] for anomaly in results["anomalies"]}
    assert kinds == ({"fenced-zombie"} if verdict == "fail" else set())
