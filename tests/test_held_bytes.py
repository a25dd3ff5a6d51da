"""Bytes parked in the network outlive their connection: seen, healed, and what becomes of them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_stage import GOOD, LiveStage, live_stage

from jepsen_blk.controller import run_test
from jepsen_blk.errors import SpecError
from jepsen_blk.lab.network import CommandNetwork
from jepsen_blk.spec import StorageSpec, make_spec
from nemesis.catalogue import check_storage, make_fault


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStage]:
    spec = {"workload": {"queue_depth": 4}, "storage": {"kind": "nbdkit-memory"}}
    with live_stage(tmp_path_factory.mktemp("live"), spec) as live:
        yield live


@pytest.mark.lab
def test_a_write_is_delivered_after_its_connection_has_died(live: LiveStage) -> None:
    assert live.outcome("held-bytes", duration_s=0.1) == GOOD
    assert "is held in flight; connections killed: 1; the guest works on x" in live.proof()
    assert "has landed" in live.proof("healed")


@pytest.mark.lab
def test_a_connection_that_lives_is_no_proof(live: LiveStage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*args: Any) -> int:
        return 0

    monkeypatch.setattr(CommandNetwork, "reset", none)
    over = live.outcome("held-bytes")
    assert (over["proven"], over["healed"]) == (False, True)
    assert "x had no connection to the storage to kill" in over["why"]


@pytest.mark.lab
def test_a_write_that_is_not_held_is_no_proof(live: LiveStage, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = live.lab.storage.hold

    async def let_go(node: str, blocks: Any = ()) -> int:
        number = await hold(node, blocks)
        await live.lab.storage.wait_held(number, 10)
        await live.lab.storage.release(number)
        await live.lab.storage.wait_landed(number, 10)
        return number

    monkeypatch.setattr(live.lab.storage, "hold", let_go)
    over = live.outcome("held-bytes")
    assert (over["proven"], over["healed"]) == (False, True)
    assert "the storage holds no write" in over["why"]


@pytest.mark.lab
@pytest.mark.parametrize("kind", ["nbdkit-memory", "qemu-storage-daemon"])
def test_bytes_that_come_late_overwrite_an_acknowledged_write(kind: str, tmp_path: Path) -> None:
    spec = {"nemesis": [{"fault": "held-bytes"}], "storage": {"kind": kind}}
    outcome = asyncio.run(run_test(make_spec(spec), tmp_path))
    assert (outcome.verdict, outcome.results["reasons"]) == ("fail", []), outcome.results
    assert "stale-overwrite" in {anomaly["kind"] for anomaly in outcome.results["anomalies"]}
    assert outcome.results["deadlines"]["never"] == "fail"


def test_a_storage_without_a_proxy_is_refused_before_the_run() -> None:
    with pytest.raises(
        SpecError, match=r"^nemesis held-bytes: not offered by storage\.kind 'policy', which has"
    ):
        check_storage(make_fault("held-bytes", {}), StorageSpec())
