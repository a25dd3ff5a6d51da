"""The simulator's storage ends, hangs and loses its power, as the real one does."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sim_run import kinds, simulate

from jepsen_blk import virtual_time
from jepsen_blk.errors import LabError
from jepsen_blk.history.journal import read_journal
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import Misbehaviour
from jepsen_blk.lab.sim.servers import Media, SimServers
from jepsen_blk.lab.sim.steering import SimStorage
from jepsen_blk.lab.sim.target import SimTarget
from jepsen_blk.lab.sim.wire import SimNetwork
from jepsen_blk.spec import make_spec
from jepsen_blk.stamp import BLOCK_BYTES, Stamp, encode
from jepsen_blk.storage.conflict import ConflictModel
from jepsen_blk.storage.log import TargetLog

SEEDS = range(4)
VOLATILE = {"cache": "volatile", "flush": True}
A, B = (encode(Stamp(run=1, block=3, boot=0, process=0, sequence=n), BLOCK_BYTES) for n in (1, 2))
ZEROS = bytes(BLOCK_BYTES)


def loss(**options: Any) -> dict[str, Any]:
    return {"fault": "power-loss", "options": {"duration_s": 0.2, **options}}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_storage_that_flushes_keeps_what_it_promised_wherever_the_guest_is(
    tmp_path: Path, seed: int
) -> None:
    faults = [{**loss(), "repeat": 2}, {"fault": "migrate"}, loss()]
    outcome = simulate(tmp_path, seed=seed, storage=VOLATILE, nemesis=faults, allow_idle_migration=True)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    assert [fault["proven"] and fault["healed"] for fault in outcome.results["faults"]] == [True] * 4
    crashes = read_journal(outcome.run_dir / "history.blk").history.crashes
    assert len(crashes) == 3
    assert all(crash.time_ns < crash.until_ns < crash.time_ns + 10**9 for crash in crashes)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_storage_that_lies_about_flushes_has_lost_what_it_promised(tmp_path: Path, seed: int) -> None:
    outcome = simulate(tmp_path, seed=seed, storage={**VOLATILE, "ignore_flush": True}, nemesis=[loss()])
    assert (outcome.verdict, "durability-loss" in kinds(outcome)) == ("fail", True)
    assert [fault["proven"] and fault["healed"] for fault in outcome.results["faults"]] == [True]


def test_a_guest_that_is_told_of_the_errors_loses_no_more_than_it_was_told(tmp_path: Path) -> None:
    outcome = simulate(tmp_path, storage=VOLATILE, nemesis=[loss()], guest={"disk_errors": "report"})
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    assert outcome.results["workload"]["info"] > 0


@pytest.mark.parametrize("lies", [False, True])
def test_a_restart_takes_nothing_of_a_cache_that_was_not_lost(tmp_path: Path, lies: bool) -> None:
    storage = {**VOLATILE, "ignore_flush": lies, "write_latency_ms": 20}
    restart = {"fault": "storage-restart", "options": {"duration_s": 0.5}}
    outcome = simulate(tmp_path, storage=storage, nemesis=[restart])
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    assert not read_journal(outcome.run_dir / "history.blk").history.crashes
    lines = [json.loads(line) for line in (outcome.run_dir / "target.jsonl").read_text().splitlines()]
    first, second = [at for at, line in enumerate(lines) if line["f"] == "start"]
    assert (lines[first]["cached"], lines[second]["cached"] > 0) == (0, True)
    numbers = [
        [line["id"] for line in part if line["f"] == "write"] for part in (lines[:second], lines[second:])
    ]
    assert max(numbers[0]) < min(numbers[1])


def test_one_seed_loses_the_same_in_each_run(tmp_path: Path) -> None:
    first, again = (simulate(tmp_path, seed=7, storage=VOLATILE, nemesis=[loss()]) for _ in range(2))
    for name in ("history.blk", "events.jsonl", "target.jsonl", "results.json"):
        assert (first.run_dir / name).read_bytes() == (again.run_dir / name).read_bytes(), name


@pytest.mark.parametrize("storage", [{"flush": True}, VOLATILE], ids=str)
def test_a_slow_flush_is_met_by_flushes_and_by_writes_that_are_to_be_durable(
    tmp_path: Path, storage: dict[str, Any]
) -> None:
    outcome = simulate(tmp_path, storage=storage, nemesis=[{"fault": "slow-flush"}])
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    assert [(fault["proven"], fault["healed"]) for fault in outcome.results["faults"]] == [(True, True)]


class Rig:
    """The storage alone, its server and its control, in virtual time."""

    def __init__(self, folder: Path, **storage: Any) -> None:
        spec = make_spec({"lab": "sim", "storage": {**VOLATILE, **storage}})
        media = Media(spec)
        log = TargetLog(folder / "target.jsonl")
        self.target = SimTarget(ConflictModel.ARRIVAL_ORDER, 1.0, log, media.backing)
        self.network = SimNetwork(self.target.disconnect)
        self.log = log
        self.servers = SimServers(self.target, media, self.network)
        self.control = SimStorage(self.target)
        self.connection = self.target.connect("x")

    async def write(self, data: bytes, block: int = 3) -> int:
        return (await self._ask(self.target.write, "x", self.connection, block, data))[0]

    async def read(self, block: int = 3) -> bytes:
        return (await self._ask(self.target.read, "x", block))[1]

    async def flush(self) -> int:
        return (await self._ask(self.target.flush, "x"))[0]

    async def lose_power(self) -> int:
        await self.servers.stop()
        lost = await self.servers.lose_cache()
        await self.servers.start()
        return lost

    async def _ask(self, what: Any, *request: Any) -> tuple[int, bytes]:
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        what(*request, lambda code, data: answer.set_result((code, data)))
        async with asyncio.timeout(5):
            return await answer


def play(folder: Path, script: Callable[[Rig], Awaitable[None]], **storage: Any) -> None:
    async def whole() -> None:
        rig = Rig(folder, **storage)
        try:
            await script(rig)
        finally:
            rig.log.close()

    virtual_time.run(whole())


def test_a_power_loss_takes_what_was_completed_and_not_flushed(tmp_path: Path) -> None:
    async def script(rig: Rig) -> None:
        assert (await rig.write(A), await rig.flush(), await rig.write(B), await rig.write(B, 4)) == (0,) * 4
        assert await rig.read() == B
        assert (await rig.control.stats())["cached"] == await rig.servers.unflushed() == 2
        assert await rig.lose_power() == 2
        assert (await rig.read(), await rig.read(4)) == (A, ZEROS)

    play(tmp_path, script)


def test_a_flush_that_is_ignored_leaves_all_to_the_power_loss(tmp_path: Path) -> None:
    async def script(rig: Rig) -> None:
        assert (await rig.write(A), await rig.flush()) == (0, 0)
        assert (await rig.lose_power(), await rig.read()) == (1, ZEROS)

    play(tmp_path, script, ignore_flush=True)


def test_a_server_that_dies_alone_leaves_its_cache_to_the_next(tmp_path: Path) -> None:
    async def script(rig: Rig) -> None:
        await rig.write(A)
        await rig.servers.stop()
        await rig.servers.start()
        assert (await rig.read(), (await rig.control.stats())["cached_at_start"]) == (A, 1)
        assert (await rig.lose_power(), await rig.read()) == (1, ZEROS)

    play(tmp_path, script)


def test_what_is_in_flight_and_what_was_known_dies_with_the_server(tmp_path: Path) -> None:
    async def script(rig: Rig) -> None:
        hold = await rig.control.hold("x", [3])
        writing = asyncio.create_task(rig.write(A))
        await rig.control.wait_held(hold, 1)
        await rig.control.fence("y", abort=False)
        landing = asyncio.create_task(rig.control.wait_landed(hold, 5))
        await asyncio.sleep(0)
        await rig.servers.stop()
        with pytest.raises(LabError, match="does not answer: its server does not run"):
            await landing
        with pytest.raises(LabError, match="its server does not run"):
            await rig.control.stats()
        await rig.servers.start()
        with pytest.raises(LabError, match="there is no hold 1"):
            await rig.control.release(hold)
        assert rig.target.arbiter.admits("y")
        assert (await rig.read(), await rig.control.in_flight("x")) == (ZEROS, [])
        with pytest.raises(TimeoutError):
            await writing

    play(tmp_path, script)


def test_a_flush_that_its_server_has_not_begun_dies_with_it(tmp_path: Path) -> None:
    async def script(rig: Rig) -> None:
        await rig.write(A)
        await rig.control.misbehave(Misbehaviour(("x",), ("flush",), delay_ms=200.0))
        flushing = asyncio.create_task(rig.flush())
        await asyncio.sleep(0.1)
        await rig.servers.stop()
        await rig.servers.start()
        with pytest.raises(TimeoutError):
            await flushing
        assert await rig.servers.unflushed() == 1

    play(tmp_path, script)


def test_a_cache_is_not_lost_while_its_server_runs(tmp_path: Path) -> None:
    async def script(rig: Rig) -> None:
        with pytest.raises(LabError, match="still runs"):
            await rig.servers.lose_cache()

    play(tmp_path, script)


def test_a_frozen_server_answers_nothing_and_then_all_in_order(tmp_path: Path) -> None:
    async def script(rig: Rig) -> None:
        begun = asyncio.create_task(rig.write(A))
        await asyncio.sleep(0)
        rig.target.process.freeze()
        await asyncio.sleep(1)
        reading, asked = asyncio.create_task(rig.read()), asyncio.create_task(rig.control.in_flight("x"))
        await asyncio.sleep(1)
        assert not any(task.done() for task in (begun, reading, asked))
        rig.target.thaw()
        assert (await begun, await reading, await asked) == (0, A, [])

    play(tmp_path, script)


def test_a_path_to_a_storage_without_a_server_is_refused_not_dropped(tmp_path: Path) -> None:
    async def script(rig: Rig) -> None:
        assert await rig.network.reachable("x", Path_.STORAGE)
        await rig.servers.stop()
        assert not await rig.network.reachable("x", Path_.STORAGE)
        assert (await rig.network.dropped("x", Path_.STORAGE)).out == 0
        assert (await rig.network.echo("x", Path_.STORAGE, 3)).received == 3
        await rig.servers.start()
        assert await rig.network.reachable("x", Path_.STORAGE)

    play(tmp_path, script)
