"""Faults of the hypervisor and of whole nodes on the real lab: proven, healed, and seen not to be."""

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from live_stage import GOOD, LiveStage, live_stage

from jepsen_blk.lab.seams import GuestState
from jepsen_blk.spec import HandoffSpec

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStage]:
    with live_stage(tmp_path_factory.mktemp("run"), {}) as live:
        yield live


def instead(answer: Any = None) -> Callable[..., Awaitable[Any]]:
    """A seam's method that does nothing."""

    async def method(*args: Any, **options: Any) -> Any:
        return answer

    return method


def ignore_once(seam: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the seam's method do nothing the first time: when the fault is injected, not when it is healed."""
    method = getattr(seam, name)

    async def first(*args: Any) -> None:
        monkeypatch.setattr(seam, name, method)

    monkeypatch.setattr(seam, name, first)


@pytest.mark.parametrize("node", ["guest", "storage"])
def test_a_frozen_node_stands_still_and_goes_on(rig: LiveStage, node: str) -> None:
    assert rig.outcome("freeze", node=node, duration_s=0.5) == GOOD
    assert "are stopped and the guest completes nothing" in rig.proof()
    assert "the guest works on" in rig.proof("healed")


@pytest.mark.parametrize("node", ["guest", "storage"])
def test_a_freeze_that_stops_nothing_is_not_proven(
    rig: LiveStage, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.lab, "freeze", instead())
    over = rig.outcome("freeze", node=node)
    assert (over["proven"], over["healed"]) == (False, True)
    assert "are not stopped" in over["why"]


def test_a_freeze_under_which_the_guest_works_is_not_proven(
    rig: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.lab, "freeze", instead())
    monkeypatch.setattr(rig.lab, "frozen", instead(True))
    over = rig.outcome("freeze")
    assert not over["proven"]
    assert "operations completed while the guest should stand still" in over["why"]


def test_a_post_copy_guest_works_before_its_memory_is_there(rig: LiveStage) -> None:
    over = rig.outcome("migrate", mode="postcopy", settle_s=0)
    if "userfaultfd" in over["why"]:
        pytest.skip(over["why"])
    assert over == GOOD
    assert "for a page that was still there" in rig.proof()


def test_a_pre_copy_in_its_place_is_no_post_copy(rig: LiveStage, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = rig.lab.hypervisor.begin_migration
    monkeypatch.setattr(
        rig.lab.hypervisor, "begin_migration", lambda here, there, mode, **how: begin(here, there, **how)
    )
    over = rig.outcome("migrate", mode="postcopy")
    assert (over["proven"], over["healed"]) == (False, True)
    assert "its memory was there before it ran" in over["why"]


def test_post_copy_is_refused_where_the_handoff_would_kill_its_source(
    rig: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.stage, "handoff", HandoffSpec(policy="stonith"))
    over = rig.outcome("migrate", mode="postcopy")
    assert not over["proven"]
    assert "'stonith' kills it" in over["why"]


def test_a_source_killed_after_the_switch_over_is_not_missed(rig: LiveStage) -> None:
    assert rig.outcome("migrate", kill_source=True, settle_s=0) == GOOD
    assert f"{rig.stage.other_node} is absent" in rig.proof()


def test_a_source_that_is_not_killed_is_no_killed_source(
    rig: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.lab.hypervisor, "kill", instead())
    over = rig.outcome("migrate", kill_source=True)
    assert (over["proven"], over["healed"]) == (False, True)
    assert "is migrated after the migration" in over["why"]


@pytest.mark.parametrize(
    ("by", "proof"),
    [
        ("cancel", "the migration cancelled with {}; the guest runs on {}, {} is absent"),
        ("cut", "the migration cancelled with {}; the guest runs on {}, {} is incoming"),
        ("kill-destination", "the migration failed with {}; the guest runs on {}, {} is absent"),
    ],
)
def test_a_migration_that_is_broken_off_leaves_the_guest_at_the_source(
    rig: LiveStage, by: str, proof: str
) -> None:
    here, there = rig.stage.guest_node, rig.stage.other_node
    assert rig.outcome("migrate-cancel", by=by, point=0.3) == GOOD
    copied = re.search(r"\d+% of the memory copied", rig.proof())
    assert copied
    assert rig.proof() == proof.format(copied[0], here, there)
    assert rig.stage.guest_node == here
    assert rig.do(rig.lab.hypervisor.state(there)) is GuestState.ABSENT


def test_a_guest_can_move_after_a_migration_that_was_broken_off(rig: LiveStage) -> None:
    assert rig.outcome("migrate-cancel", by="cut", point=0) == GOOD
    assert rig.outcome("migrate", settle_s=0) == GOOD


@pytest.mark.parametrize(
    ("by", "seam", "method"),
    [
        ("cancel", "hypervisor", "cancel_migration"),
        ("cut", "network", "cut"),
        ("kill-destination", "hypervisor", "kill"),
    ],
)
def test_a_migration_that_is_not_broken_off_is_not_proven(
    rig: LiveStage, by: str, seam: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nemesis.migrate_cancel._END_TIMEOUT_S", 0.3)
    ignore_once(getattr(rig.lab, seam), method, monkeypatch)
    over = rig.outcome("migrate-cancel", by=by, point=0)
    assert (over["proven"], over["healed"]) == (False, True), over


def test_a_migration_that_never_began_is_not_proven_broken_off(
    rig: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.lab.hypervisor, "begin_migration", instead())
    over = rig.outcome("migrate-cancel")
    assert (over["proven"], over["healed"]) == (False, True)
    assert "before it could be broken off" in over["why"]


def test_a_guest_that_runs_twice_is_seen_by_its_own_numbers(rig: LiveStage) -> None:
    assert rig.outcome("split-brain", duration_s=0) == GOOD
    assert rig.proof().endswith("a frame came in two versions")
    assert re.match(r"split brain: frame \d+ of boot 0 came a second time", rig.stage.guest.split_brain[0])


def test_a_guest_left_stopped_at_the_source_is_no_split_brain(
    rig: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, resume = rig.stage.guest_node, rig.lab.hypervisor.resume

    async def only_elsewhere(node: str) -> None:
        if node != source:
            await resume(node)

    monkeypatch.setattr(rig.lab.hypervisor, "resume", only_elsewhere)
    over = rig.outcome("split-brain")
    assert (over["proven"], over["healed"]) == (False, True)
    assert "is migrated, not running a second time" in over["why"]


def test_a_storage_that_shuts_the_source_out_stops_the_second_guest(
    rig: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.stage, "handoff", HandoffSpec(policy="preempt"))
    source, kill, states = rig.stage.guest_node, rig.lab.hypervisor.kill, []

    async def look_and_kill(node: str) -> None:
        await rig.lab.hypervisor.wait_state(node, GuestState.IO_ERROR, 10)
        states.append(node)
        await kill(node)

    monkeypatch.setattr(rig.lab.hypervisor, "kill", look_and_kill)
    try:
        assert rig.outcome("split-brain", duration_s=0) == GOOD
        assert states == [source]
    finally:
        rig.do(rig.lab.storage.unfence(source))  # the next test's handoff does not


def test_a_post_copy_whose_link_dies_is_taken_up_again(rig: LiveStage) -> None:
    over = rig.outcome("postcopy-loss", duration_s=0)
    if "userfaultfd" in over["why"]:
        pytest.skip(over["why"])
    assert over == GOOD
    assert "interrupted on both sides" in rig.proof()


def test_a_post_copy_whose_link_lives_is_not_proven(rig: LiveStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.lab.network, "reset", instead(0))
    over = rig.outcome("postcopy-loss")
    assert (over["proven"], over["healed"]) == (False, True)
