"""Post-copy in the simulator: the guest works before its memory is there, and stands still without it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sim_run import play, progress, simulate

from jepsen_blk.errors import LabError
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import GuestState, MigrationPhase
from jepsen_blk.lab.sim.lab import SimLab
from workloads.guest import GuestLink

SEEDS = range(2)
SLOW = {"workload": {"queue_depth": 4}, "storage": {"write_latency_ms": 20}}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("migrate", {"mode": "postcopy"}),
        ("migrate", {"mode": "postcopy", "kill_source": True}),
        ("postcopy-loss", {}),
    ],
    ids=str,
)
def test_post_copy_is_proven_healed_and_harmless(
    tmp_path: Path, fault: str, options: dict[str, Any], seed: int
) -> None:
    outcome = simulate(tmp_path, seed=seed, nemesis=[{"fault": fault, "options": options}], **SLOW)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    assert [(result["proven"], result["healed"]) for result in outcome.results["faults"]] == [(True, True)]
    assert outcome.results["migrations"][0]["mode"] == "postcopy"


def test_one_seed_gives_one_history(tmp_path: Path) -> None:
    first, again = (
        simulate(tmp_path, seed=4, nemesis=[{"fault": "postcopy-loss"}], **SLOW) for _ in range(2)
    )
    assert (first.run_dir / "history.blk").read_bytes() == (again.run_dir / "history.blk").read_bytes()


async def moved(lab: SimLab) -> None:
    await lab.hypervisor.begin_migration("x", "y", "postcopy")
    await lab.hypervisor.finish_migration("x")
    await lab.hypervisor.resume("y")


def test_the_guest_asks_for_pages_while_it_works_and_then_has_them_all(tmp_path: Path) -> None:
    async def script(lab: SimLab, guest: GuestLink) -> None:
        await moved(lab)
        assert await progress(guest, 1) > 0
        seen = await lab.hypervisor.progress("x")
        assert (seen.phase, 0 < seen.copied < 0.5) == (MigrationPhase.POSTCOPY, True)
        assert seen.page_requests > 0
        assert await lab.hypervisor.state("x") is GuestState.SWITCHING
        with pytest.raises(LabError, match="no way back"):
            await lab.hypervisor.cancel_migration("x")
        await lab.hypervisor.wait_migration("y", MigrationPhase.COMPLETED, 10)
        assert await lab.hypervisor.state("x") is GuestState.MIGRATED

    play(tmp_path, script)


@pytest.mark.parametrize("by", ["reset", "cut"])
def test_a_guest_without_its_memory_stands_still_until_the_migration_is_taken_up_again(
    tmp_path: Path, by: str
) -> None:
    async def script(lab: SimLab, guest: GuestLink) -> None:
        await moved(lab)
        if by == "reset":
            assert await lab.network.reset("x", Path_.MIGRATION) == 1
        else:
            await lab.network.cut("x", Path_.MIGRATION)
        await lab.hypervisor.wait_migration("y", MigrationPhase.INTERRUPTED, 5)
        await asyncio.sleep(0.2)
        assert await progress(guest, 5) == 0
        await lab.hypervisor.pause("y")
        await lab.hypervisor.resume("y")
        await lab.freeze("y")
        await lab.thaw("y")
        assert await progress(guest, 5) == 0
        if by == "cut":
            with pytest.raises(LabError, match="its path is cut"):
                await lab.hypervisor.recover_migration("x")
            await lab.network.heal("x", Path_.MIGRATION)
        await lab.hypervisor.recover_migration("x")
        assert await progress(guest, 1) > 0
        await lab.hypervisor.wait_migration("y", MigrationPhase.COMPLETED, 10)
        with pytest.raises(LabError, match="completed, not interrupted"):
            await lab.hypervisor.recover_migration("x")

    play(tmp_path, script)


def test_a_source_that_dies_takes_the_rest_of_the_memory_along(tmp_path: Path) -> None:
    async def script(lab: SimLab, guest: GuestLink) -> None:
        await moved(lab)
        await lab.hypervisor.kill("x")
        await asyncio.sleep(0.2)
        assert await progress(guest, 10) == 0
        assert (await lab.hypervisor.progress("x")).phase is MigrationPhase.FAILED

    play(tmp_path, script)
