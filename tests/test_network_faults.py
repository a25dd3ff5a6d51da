"""The faults of the network on a real lab: proven, healed, and not proven where nothing was injected."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from live_stage import GOOD, LiveStage, live_stage

from jepsen_blk.errors import LabError
from jepsen_blk.lab.network import CommandNetwork
from jepsen_blk.lab.paths import Direction, Latency, Path_, RateLimit
from jepsen_blk.lab.seams import Migration
from nemesis.catalogue import make_fault
from nemesis.fault import Fault, NotProven, Stage

pytestmark = pytest.mark.lab

FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("path-loss", {}, "storage"),
    ("path-loss", {"path": "all", "reset": False}, "migration"),
    ("path-loss", {"node": "other"}, "y cannot reach: storage"),
    ("one-way", {"lost": "requests"}, "and 0 to it dropped"),
    ("one-way", {"lost": "answers", "path": "migration"}, "(0 from it and"),
    ("flapping", {"times": 3, "gap_s": 0}, "x cannot reach"),
    ("reset", {}, "killed: 1 on storage; x reaches: storage; its guest is in io-error"),
    ("reset", {"node": "other"}, "of y killed: 1 on storage"),
    ("reset", {"path": "all"}, "of x killed: 1 on storage, 0 on migration"),
    ("loss", {"percent": 20, "path": "all"}, "storage lost"),
    ("slow-link", {"mbit_per_s": 8}, "storage carries"),
    ("slow-link", {"mbit_per_s": 8, "path": "migration", "node": "other"}, "y: migration carries"),
]
ids = [f"{name}{'-' if options else ''}{'-'.join(map(str, options.values()))}" for name, options, _ in FAULTS]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStage]:
    with live_stage(tmp_path_factory.mktemp("live")) as live:
        yield live


@pytest.mark.parametrize(("name", "options", "said"), FAULTS, ids=ids)
def test_a_fault_is_proven_and_healed(name: str, options: dict[str, Any], said: str, live: LiveStage) -> None:
    events = live.play(make_fault(name, {"duration_s": 0.1, **options}))
    *_, over = events
    assert over.data == {"proven": True, "healed": True, "why": ""}, over.data
    (proven,) = (event for event in events if event.phase == "proven")
    assert said in proven.data["proof"]


async def nothing(*args: Any) -> int:
    """In the place of what would have injected a fault."""
    return 0


@pytest.mark.parametrize(("name", "options", "said"), FAULTS, ids=ids)
def test_a_fault_that_injects_nothing_is_not_proven_and_leaves_the_guest_working(
    name: str, options: dict[str, Any], said: str, live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("cut", "impair", "reset"):
        monkeypatch.setattr(CommandNetwork, method, nothing)
    if name == "path-loss":
        options = {**options, "reset": False}  # its reset is not what is tested here, and takes its time
    *_, over = live.play(make_fault(name, {"duration_s": 0.1, **options}))
    assert (over.data["proven"], over.data["healed"]) == (False, True)
    assert over.data["why"]


@pytest.mark.parametrize("lost", ["requests", "answers"])
def test_a_cut_in_the_wrong_direction_proves_nothing(
    lost: str, live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = CommandNetwork.cut
    wrong = {Direction.OUT: Direction.IN, Direction.IN: Direction.OUT}

    async def turned(network: CommandNetwork, node: str, path: Any, direction: Direction) -> None:
        await cut(network, node, path, wrong[direction])

    monkeypatch.setattr(CommandNetwork, "cut", turned)
    *_, over = live.play(make_fault("one-way", {"duration_s": 0.1, "lost": lost}))
    assert (over.data["proven"], over.data["healed"]) == (False, True)


def test_a_flap_that_does_not_come_unproves_the_fault(
    live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, cuts = CommandNetwork.cut, []

    async def once(network: CommandNetwork, *args: Any) -> None:
        cuts.append(args)
        if len(cuts) == 1:
            await cut(network, *args)

    monkeypatch.setattr(CommandNetwork, "cut", once)
    *_, over = live.play(make_fault("flapping", {"duration_s": 0.1}))
    assert (over.data["proven"], over.data["healed"]) == (False, True)
    assert len(cuts) == 2


def test_a_path_that_stays_bad_is_not_healed(live: LiveStage, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(CommandNetwork, "heal", nothing)
        *_, over = live.play(make_fault("loss", {"duration_s": 0.1, "path": "migration"}))
    assert (over.data["proven"], over.data["healed"]) == (True, False)
    assert over.data["why"].startswith("healing: ")
    live.do(live.lab.network.heal("x", Path_.MIGRATION))


def test_latency_is_proven_or_has_a_reason_why_this_lab_cannot(live: LiveStage) -> None:
    reason = live.do(live.prepared.why_not(Latency(20)))
    *_, over = live.play(make_fault("latency", {"duration_s": 0.1}))
    assert (over.data["proven"], over.data["healed"]) == (not reason, True)
    if reason:
        assert "netem" in reason
        assert "qdisc kind is unknown" in over.data["why"]


def test_a_reset_migration_fails_and_the_guest_works_on_where_it_is(live: LiveStage) -> None:
    stage, network = live.stage, live.lab.network
    fault = make_fault("reset", {"path": "migration", "duration_s": 0.01})

    async def test() -> None:
        await network.impair("x", Path_.MIGRATION, RateLimit(50))  # 20 s for the guest's memory
        moving = asyncio.create_task(stage.hand_over())
        await fault.setup(stage)
        await fault.inject(stage)
        while "1 on migration" not in await _proof(fault, stage):
            await fault.inject(stage)
        with pytest.raises(LabError, match="the migration failed on x"):
            await moving
        await fault.heal(stage)
        assert "the guest works on x" in await fault.prove_healed(stage)

    live.do(test())


async def _proof(fault: Fault, stage: Stage) -> str:
    """What proves the fault, or why it is not proven."""
    try:
        return await fault.prove(stage)
    except NotProven as error:
        return str(error)


def test_a_migration_over_a_slow_link_takes_the_time_that_the_link_needs(live: LiveStage) -> None:
    stage = live.stage
    fault = make_fault("slow-link", {"path": "migration", "mbit_per_s": 80})

    async def test() -> Migration:
        await fault.setup(stage)
        await fault.inject(stage)
        migration = await stage.hand_over()
        await fault.heal(stage)
        assert "x reaches: migration; migration carries" in await fault.prove_healed(stage)
        return migration

    migration = live.do(test())
    assert migration.total_ms > 0.9 * migration.transferred_bytes * 8 / 80_000


def test_a_guest_that_moves_to_where_the_path_was_lost_works_there_at_once(live: LiveStage) -> None:
    long_enough_to_be_noticed_s = 3.5
    assert live.outcome("path-loss", node="other", duration_s=long_enough_to_be_noticed_s) == GOOD
    assert live.outcome("migrate") == GOOD
