"""Faults of the hypervisor and of whole nodes on the real lab: proven, healed, and seen not to be.

One guest serves all tests of the module: each leaves it working, which is what a healed fault means.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk.history.events import Event, EventLog
from jepsen_blk.history.journal import JournalWriter
from jepsen_blk.lab.choose import prepare_lab
from jepsen_blk.lab.local.lab import LocalLab
from jepsen_blk.lab.seams import GuestState
from jepsen_blk.spec import HandoffSpec, make_spec
from nemesis.catalogue import make_fault
from nemesis.fault import Stage, run_fault
from workloads.guest import GuestLink

pytestmark = pytest.mark.lab


@dataclass
class Rig:
    """A lab with a working guest, and the loop it lives in."""

    runner: asyncio.Runner
    lab: LocalLab
    guest: GuestLink
    stage: Stage
    events: list[Event] = field(default_factory=list)

    def play(self, name: str, **options: Any) -> dict[str, Any]:
        """Take a fault through its life and return what its last event says."""
        self.events.clear()
        self.runner.run(run_fault(make_fault(name, options), self.stage))
        assert self.events[-1].phase == "over"
        return self.events[-1].data

    def proof(self, phase: str = "proven") -> str:
        """What the last fault's proof says."""
        (event,) = (event for event in self.events if (event.source, event.phase) == ("fault", phase))
        return str(event.data["proof"])

    def ask(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("run")
    (folder / "logs").mkdir()
    seen: list[Event] = []
    events = EventLog(folder / "events.jsonl", seen.append)
    journal = JournalWriter(folder / "history.blk")
    guest = GuestLink(journal)
    spec = make_spec({})
    with asyncio.Runner() as runner:
        lab = runner.run(up(spec, folder, guest))
        try:
            workload = spec.workload.model_dump(mode="json")
            runner.run(guest.run(workload))
            here, there = lab.guest_nodes
            stage = Stage(
                lab=lab,
                guest=guest,
                events=events,
                handoff=HandoffSpec(),
                workload=workload,
                operations=lambda: guest.operations,
                guest_node=here,
                other_node=there,
            )
            yield Rig(runner, lab, guest, stage, seen)
        finally:
            runner.run(lab.down())
            runner.run(guest.close())
            events.close()
            journal.close()


async def up(spec: Any, folder: Path, guest: GuestLink) -> Any:
    lab = await (await prepare_lab(spec)).up(folder, guest)
    await guest.hello(20)
    await guest.reset(boot=0, run=1, seed=1)
    return lab


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


GOOD = {"proven": True, "healed": True, "why": ""}


@pytest.mark.parametrize("node", ["guest", "storage"])
def test_a_frozen_node_stands_still_and_goes_on(rig: Rig, node: str) -> None:
    assert rig.play("freeze", node=node, duration_s=0.5) == GOOD
    assert "are stopped and the guest completes nothing" in rig.proof()
    assert "the guest works on" in rig.proof("healed")


@pytest.mark.parametrize("node", ["guest", "storage"])
def test_a_freeze_that_stops_nothing_is_not_proven(
    rig: Rig, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.lab, "freeze", instead())
    over = rig.play("freeze", node=node)
    assert (over["proven"], over["healed"]) == (False, True)
    assert "are not stopped" in over["why"]


def test_a_freeze_under_which_the_guest_works_is_not_proven(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.lab, "freeze", instead())
    monkeypatch.setattr(rig.lab, "frozen", instead(True))
    over = rig.play("freeze")
    assert not over["proven"]
    assert "operations completed while the guest should stand still" in over["why"]


def test_a_post_copy_guest_works_before_its_memory_is_there(rig: Rig) -> None:
    over = rig.play("migrate", mode="postcopy", settle_s=0)
    if "userfaultfd" in over["why"]:
        pytest.skip(over["why"])
    assert over == GOOD
    assert "for a page that was still there" in rig.proof()


def test_a_pre_copy_in_its_place_is_no_post_copy(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate = rig.lab.hypervisor.migrate
    monkeypatch.setattr(rig.lab.hypervisor, "migrate", lambda here, there, mode: migrate(here, there))
    over = rig.play("migrate", mode="postcopy")
    assert (over["proven"], over["healed"]) == (False, True)
    assert "its memory was there before it ran" in over["why"]


def test_post_copy_is_refused_where_the_handoff_would_kill_its_source(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.stage, "handoff", HandoffSpec(policy="stonith"))
    over = rig.play("migrate", mode="postcopy")
    assert not over["proven"]
    assert "'stonith' kills it" in over["why"]


def test_a_source_killed_after_the_switch_over_is_not_missed(rig: Rig) -> None:
    assert rig.play("migrate", kill_source=True, settle_s=0) == GOOD
    assert f"{rig.stage.other_node} is absent" in rig.proof()


def test_a_source_that_is_not_killed_is_no_killed_source(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.lab.hypervisor, "kill", instead())
    over = rig.play("migrate", kill_source=True)
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
def test_a_migration_that_is_broken_off_leaves_the_guest_at_the_source(rig: Rig, by: str, proof: str) -> None:
    here, there = rig.stage.guest_node, rig.stage.other_node
    assert rig.play("migrate-cancel", by=by, point=0.3) == GOOD
    copied = re.search(r"\d+% of the memory copied", rig.proof())
    assert copied
    assert rig.proof() == proof.format(copied[0], here, there)
    assert rig.stage.guest_node == here
    assert rig.ask(rig.lab.hypervisor.state(there)) is GuestState.ABSENT


def test_a_guest_can_move_after_a_migration_that_was_broken_off(rig: Rig) -> None:
    assert rig.play("migrate-cancel", by="cut", point=0) == GOOD
    assert rig.play("migrate", settle_s=0) == GOOD


@pytest.mark.parametrize(
    ("by", "seam", "method"),
    [
        ("cancel", "hypervisor", "cancel_migration"),
        ("cut", "network", "cut"),
        ("kill-destination", "hypervisor", "kill"),
    ],
)
def test_a_migration_that_is_not_broken_off_is_not_proven(
    rig: Rig, by: str, seam: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nemesis.migrate_cancel._END_TIMEOUT_S", 0.3)
    ignore_once(getattr(rig.lab, seam), method, monkeypatch)
    over = rig.play("migrate-cancel", by=by, point=0)
    assert (over["proven"], over["healed"]) == (False, True), over


def test_a_migration_that_never_began_is_not_proven_broken_off(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.lab.hypervisor, "begin_migration", instead())
    over = rig.play("migrate-cancel")
    assert (over["proven"], over["healed"]) == (False, True)
    assert "before it could be broken off" in over["why"]


def test_a_guest_that_runs_twice_is_seen_by_its_own_numbers(rig: Rig) -> None:
    assert rig.play("split-brain", duration_s=0) == GOOD
    assert rig.proof().endswith("a frame came in two versions")
    assert re.match(r"split brain: frame \d+ of boot 0 came a second time", rig.guest.split_brain[0])


def test_a_guest_left_stopped_at_the_source_is_no_split_brain(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, resume = rig.stage.guest_node, rig.lab.hypervisor.resume

    async def only_elsewhere(node: str) -> None:
        if node != source:
            await resume(node)

    monkeypatch.setattr(rig.lab.hypervisor, "resume", only_elsewhere)
    over = rig.play("split-brain")
    assert (over["proven"], over["healed"]) == (False, True)
    assert "is migrated, not running a second time" in over["why"]


def test_a_storage_that_shuts_the_source_out_stops_the_second_guest(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.stage, "handoff", HandoffSpec(policy="preempt"))
    source, kill, states = rig.stage.guest_node, rig.lab.hypervisor.kill, []

    async def look_and_kill(node: str) -> None:
        await rig.lab.hypervisor.wait_state(node, GuestState.IO_ERROR, 10)
        states.append(node)
        await kill(node)

    monkeypatch.setattr(rig.lab.hypervisor, "kill", look_and_kill)
    try:
        assert rig.play("split-brain", duration_s=0) == GOOD
        assert states == [source]
    finally:
        rig.ask(rig.lab.storage.unfence(source))  # the next test's handoff does not


def test_a_post_copy_whose_link_dies_is_taken_up_again(rig: Rig) -> None:
    over = rig.play("postcopy-loss", duration_s=0)
    if "userfaultfd" in over["why"]:
        pytest.skip(over["why"])
    assert over == GOOD
    assert "interrupted on both sides" in rig.proof()


def test_a_post_copy_whose_link_lives_is_not_proven(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.lab.network, "reset", instead(0))
    over = rig.play("postcopy-loss")
    assert (over["proven"], over["healed"]) == (False, True)
