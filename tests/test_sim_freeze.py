"""A frozen process of the simulator does nothing, its kernel goes on, and it takes up what that has kept."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sim_run import play, progress, simulate

from jepsen_blk.controller import Outcome
from jepsen_blk.errors import LabError
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import GuestState, MigrationPhase
from jepsen_blk.lab.sim.lab import SimLab
from workloads.guest import GuestLink


def test_a_frozen_guest_works_on_with_a_clock_that_went_on(tmp_path: Path) -> None:
    async def script(lab: SimLab, guest: GuestLink) -> None:
        before = await guest.ping()
        await lab.freeze("x")
        assert (await lab.hypervisor.state("x"), await lab.frozen("x")) == (GuestState.FROZEN, True)
        await asyncio.sleep(0.1)
        assert await progress(guest, 10) == 0
        assert await lab.storage.in_flight("x") == []  # the storage has done what it was sent
        await lab.thaw("x")
        assert await lab.hypervisor.state("x") is GuestState.RUNNING
        assert await progress(guest, 0.2) > 0
        after = await guest.ping()
        passed_ns = after["sent_ns"] - before["sent_ns"]
        assert after["time"] - before["time"] == pytest.approx(passed_ns, abs=1e6)

    play(tmp_path, script)


def test_a_paused_guest_that_was_frozen_stays_paused(tmp_path: Path) -> None:
    async def script(lab: SimLab, guest: GuestLink) -> None:
        await lab.hypervisor.pause("x")
        await lab.freeze("x")
        await lab.thaw("x")
        assert await lab.hypervisor.state("x") is GuestState.PAUSED
        assert await progress(guest, 1) == 0

    play(tmp_path, script)


def test_connections_outlive_a_freeze_and_a_reset_is_learned_of_at_its_end(tmp_path: Path) -> None:
    async def script(lab: SimLab, guest: GuestLink) -> None:
        await lab.freeze("x")
        await asyncio.sleep(60)
        await lab.thaw("x")
        assert await progress(guest, 1) > 0
        before = await guest.ping()
        await lab.freeze("x")
        assert await lab.network.reset("x", Path_.STORAGE) == 1
        await asyncio.sleep(60)
        assert await lab.hypervisor.state("x") is GuestState.FROZEN
        await lab.thaw("x")
        await lab.hypervisor.wait_state("x", GuestState.IO_ERROR, 5)
        await lab.hypervisor.resume("x")
        after = await guest.ping()
        assert after["time"] - before["time"] >= 60e9  # its clock went on until it learned of the reset

    play(tmp_path, script)


def test_a_frozen_monitor_answers_nothing_and_the_process_can_be_killed(tmp_path: Path) -> None:
    async def script(lab: SimLab, guest: GuestLink) -> None:
        await lab.freeze("x")
        with pytest.raises(LabError, match="monitor of x did not answer within 10 s"):
            await lab.hypervisor.pause("x")
        await lab.hypervisor.kill("x")
        await lab.thaw("x")
        assert (await lab.hypervisor.state("x"), await lab.frozen("x")) == (GuestState.ABSENT, False)

    play(tmp_path, script)


@pytest.mark.parametrize("node", ["x", "y"])
def test_a_migration_goes_on_when_the_frozen_side_does(tmp_path: Path, node: str) -> None:
    async def script(lab: SimLab, guest: GuestLink) -> None:
        await lab.hypervisor.begin_migration("x", "y")
        await asyncio.sleep(0.1)
        await lab.freeze(node)
        copied = (await lab.hypervisor.progress("x")).copied
        await asyncio.sleep(5)
        seen = await lab.hypervisor.progress("x")
        assert (seen.phase, seen.copied) == (MigrationPhase.COPYING, copied)
        await lab.thaw(node)
        await lab.hypervisor.finish_migration("x")
        await lab.hypervisor.resume("y")
        assert await progress(guest, 0.5) > 0

    play(tmp_path, script)


def test_a_source_learns_when_it_goes_on_that_its_destination_has_died(tmp_path: Path) -> None:
    async def script(lab: SimLab, guest: GuestLink) -> None:
        await lab.hypervisor.begin_migration("x", "y", pause=True)
        await lab.hypervisor.wait_migration("x", MigrationPhase.SWITCHOVER, 5)
        await lab.freeze("x")
        await lab.hypervisor.kill("y")
        await asyncio.sleep(1)
        assert await lab.hypervisor.state("x") is GuestState.FROZEN
        await lab.thaw("x")
        assert (await lab.hypervisor.progress("x")).phase is MigrationPhase.FAILED
        assert await progress(guest, 0.5) > 0

    play(tmp_path, script)


def history(outcome: Outcome) -> bytes:
    return (outcome.run_dir / "history.blk").read_bytes()


@pytest.mark.parametrize(
    "fault", [{"fault": "freeze"}, {"fault": "failover", "options": {"by": "stop"}}], ids=str
)
def test_one_seed_gives_one_history(tmp_path: Path, fault: dict[str, Any]) -> None:
    first, again = (
        simulate(tmp_path, seed=5, nemesis=[fault], storage={"write_latency_ms": 20}) for _ in range(2)
    )
    assert history(first) == history(again)
