"""What a dead process of the simulator had sent comes late, and its end, which can be hidden, later."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sim_run import kinds, simulate

import jepsen_blk.scenarios
from jepsen_blk import virtual_time
from jepsen_blk.controller import run_test
from jepsen_blk.lab.choose import run_in_time_of
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.sim.connection import Connection
from jepsen_blk.lab.sim.wire import SimNetwork
from jepsen_blk.spec import load_spec

SEEDS = range(4)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("policy", "verdict"), [("requeue", "fail"), ("stonith", "fail"), ("preempt-abort", "pass")]
)
def test_only_a_storage_that_shuts_the_node_out_is_safe_from_an_orphan(
    tmp_path: Path, policy: str, verdict: str, seed: int
) -> None:
    outcome = simulate(tmp_path, seed=seed, nemesis=[{"fault": "orphan"}], handoff={"policy": policy})
    assert (outcome.verdict, outcome.results["reasons"]) == (verdict, [])
    assert outcome.results["deadlines"]["never"] == "pass"
    assert kinds(outcome) == ({"fenced-zombie"} if verdict == "fail" else set())


def test_an_orphan_lands_where_its_end_is_hidden_though_the_storage_drops_what_was_disconnected(
    tmp_path: Path,
) -> None:
    storage = {"conflict": "drop-on-disconnect", "write_latency_ms": 20}
    outcome = simulate(tmp_path, nemesis=[{"fault": "orphan"}], storage=storage)
    assert (outcome.verdict, kinds(outcome)) == ("fail", {"fenced-zombie"})


@pytest.mark.parametrize("name", ["dead-hypervisor", "held-in-network"])
def test_a_scenario_of_stock_servers_ends_alike_before_a_storage_that_can_be_simulated(
    tmp_path: Path, name: str
) -> None:
    path = Path(jepsen_blk.scenarios.__file__).parent / f"{name}.toml"
    spec = load_spec(path, {"lab": "sim", "storage": {"kind": "policy"}})
    outcome = run_in_time_of(spec, run_test(spec, tmp_path))
    assert spec.expect is not None
    assert (outcome.verdict, kinds(outcome)) == (spec.expect.verdict, set(spec.expect.anomalies))


def test_a_hidden_end_is_dropped_until_the_path_is_healed() -> None:
    ended: list[int] = []
    arrived: list[str] = []

    async def script() -> None:
        network = SimNetwork(ended.append)
        connection = network.connect("x", 7, lambda lost: None)
        await network.cut("x", Path_.STORAGE)
        connection.out.send(arrived.append, "write", size=4096)
        connection.close()
        assert await network.unacknowledged_bytes("x", Path_.STORAGE) == 4096
        await network.hide_ends("x", Path_.STORAGE)
        assert await network.reachable("x", Path_.STORAGE)
        await asyncio.sleep(1)
        assert (arrived, ended) == (["write"], [])
        assert (await network.dropped("x", Path_.STORAGE)).out == 1
        await network.heal("x", Path_.STORAGE)
        await asyncio.sleep(1)
        assert (ended, (await network.dropped("x", Path_.STORAGE)).out) == ([7], 0)

    virtual_time.run(script())


def test_the_ends_of_another_nodes_connections_are_not_hidden() -> None:
    ended: list[int] = []

    async def script() -> None:
        network = SimNetwork(ended.append)
        other: Connection = network.connect("y", 8, lambda lost: None)
        await network.hide_ends("x", Path_.STORAGE)
        other.close()
        await asyncio.sleep(1)
        assert ended == [8]

    virtual_time.run(script())


def test_one_seed_gives_one_history(tmp_path: Path) -> None:
    spec: dict[str, Any] = {"seed": 3, "nemesis": [{"fault": "orphan"}]}
    first, again = (simulate(tmp_path, **spec).run_dir / "history.blk" for _ in range(2))
    assert first.read_bytes() == again.read_bytes()
