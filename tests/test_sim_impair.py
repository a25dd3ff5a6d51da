"""The simulator's paths are made slow, late and lossy, which probes see and what goes along them feels."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sim_run import kinds, simulate

from jepsen_blk import virtual_time
from jepsen_blk.lab.paths import Latency, Loss, Path_, RateLimit
from jepsen_blk.lab.sim.wire import SimNetwork

SEEDS = range(2)
STORAGE, MIGRATION = Path_.STORAGE, Path_.MIGRATION


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("loss", {}),
        ("loss", {"percent": 1}),
        ("loss", {"percent": 90, "path": "all"}),
        ("slow-link", {}),
        ("slow-link", {"mbit_per_s": 0.5}),
        ("slow-link", {"mbit_per_s": 1000, "path": "all"}),
        ("latency", {"delay_ms": 5}),
        ("latency", {"jitter_ms": 20, "reorder_percent": 20, "duplicate_percent": 10}),
        ("latency", {"path": "migration", "delay_ms": 300}),
        ("latency", {"node": "other"}),
    ],
    ids=str,
)
def test_a_path_that_is_made_worse_is_proven_healed_and_harmless(
    tmp_path: Path, fault: str, options: dict[str, Any], seed: int
) -> None:
    few = {"workload": {"queue_depth": 8}, "storage": {"write_latency_ms": 20}}
    outcome = simulate(tmp_path, seed=seed, nemesis=[{"fault": fault, "options": options}], **few)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    assert [(result["proven"], result["healed"]) for result in outcome.results["faults"]] == [(True, True)]


@pytest.mark.parametrize("fault", ["loss", "slow-link", "latency"])
def test_one_seed_loses_and_delays_the_same_packets(tmp_path: Path, fault: str) -> None:
    first, again, other = (
        simulate(tmp_path, seed=seed, nemesis=[{"fault": fault}]).run_dir for seed in (7, 7, 8)
    )
    for name in ("history.blk", "events.jsonl", "target.jsonl"):
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
    assert (first / "target.jsonl").read_bytes() != (other / "target.jsonl").read_bytes()


def test_a_guest_moves_over_a_slow_link_in_the_time_that_its_memory_takes(tmp_path: Path) -> None:
    slow = {"fault": "slow-link", "options": {"path": "migration", "mbit_per_s": 400}}
    during = {"kind": "during", "fault": slow, "items": [{"fault": "migrate"}]}
    outcome = simulate(tmp_path, schedule=during, storage={"write_latency_ms": 20})
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    (move,) = outcome.results["migrations"]
    assert move["total_ms"] == pytest.approx((160 << 20) * 8 / 400e3, rel=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_founding_case_is_found_on_a_lossy_path_too(tmp_path: Path, seed: int) -> None:
    loss = {"fault": "loss", "options": {"path": "migration", "percent": 5}}
    during = {"kind": "during", "fault": loss, "items": [{"fault": "lost-path-migration"}]}
    outcome = simulate(tmp_path, seed=seed, schedule=during, storage={"conflict": "ignore-second"})
    assert (outcome.verdict, kinds(outcome)) == ("fail", {"stale-overwrite"})


def play(script: Callable[[SimNetwork], Awaitable[None]], seed: int = 0) -> None:
    async def whole() -> None:
        await script(SimNetwork(lambda number: None, seed))

    virtual_time.run(whole())


async def arrivals(network: SimNetwork, count: int, size: int) -> list[tuple[int, float]]:
    """Send so many messages of a node at once, and return which arrived when."""
    loop = asyncio.get_running_loop()
    connection = network.connect("x", 1, lambda lost: None)
    begin_s, came = loop.time(), []

    def deliver(number: int) -> None:
        came.append((number, loop.time() - begin_s))

    for number in range(count):
        connection.out.send(deliver, number, size=size)
    await asyncio.sleep(30)
    return came


def test_what_is_lost_comes_later_and_in_order() -> None:
    async def script(network: SimNetwork) -> None:
        await network.impair("x", STORAGE, Loss(30))
        came = await arrivals(network, 200, 4096)
        assert [number for number, _ in came] == list(range(200))
        assert came[-1][1] > 0.03
        assert (await network.dropped("x", STORAGE)).out > 100
        await network.heal("x", STORAGE)
        assert (await network.dropped("x", STORAGE)).out == 0
        assert (await arrivals(network, 200, 4096))[-1][1] < 0.001

    play(script)


def test_a_slow_link_carries_no_more_than_its_rate() -> None:
    async def script(network: SimNetwork) -> None:
        await network.impair("x", STORAGE, RateLimit(1.0))
        came = await arrivals(network, 100, 4096)
        rate = 99 * (4096 + 80) * 8 / (came[-1][1] - came[0][1])
        assert rate == pytest.approx(1e6, rel=0.01)
        # The answers, which the storage sends, are not limited.
        echoes = await network.echo("y", STORAGE, 64, 1400)
        assert echoes.mbit_per_s > 1000

    play(script)


def test_a_late_packet_comes_late_each_way_out_only() -> None:
    async def script(network: SimNetwork) -> None:
        before = await network.echo("x", MIGRATION, 50)
        await network.impair("x", MIGRATION, Latency(40.0))
        after = await network.echo("x", MIGRATION, 50)
        assert after.rtt_ms - before.rtt_ms == pytest.approx(40, abs=0.01)
        assert (await network.echo("x", STORAGE, 50)).rtt_ms == pytest.approx(before.rtt_ms, abs=0.01)

    play(script)


def test_a_connection_that_nothing_comes_through_is_given_up_unless_it_is_healed_before() -> None:
    async def script(network: SimNetwork) -> None:
        lost: list[int] = []
        for healed in (False, True):
            connection = network.connect("x", 1 + healed, lambda dead: lost.append(dead.number))
            await network.impair("x", STORAGE, Loss(100))
            connection.out.send(lambda: None, size=4096)
            await asyncio.sleep(1)
            if healed:
                await network.heal("x", STORAGE)
            await asyncio.sleep(10)
        assert lost == [1]

    play(script)
