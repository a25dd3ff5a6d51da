"""The scripted lab is a lab: the faults of the catalogue work on it, and none where it only claims."""

import asyncio
from typing import Any

import pytest

from jepsen_blk import virtual_time
from jepsen_blk.errors import LabError
from jepsen_blk.lab.paths import Direction, Path_
from jepsen_blk.lab.seams import GuestState
from nemesis.catalogue import FAULTS, make_fault
from nemesis.testing.lab import ScriptedLab
from nemesis.testing.life import live

CUT, RESET, IMPAIR, MEND = "network.cut", "network.reset", "network.impair", "network.heal"
MISBEHAVE, BEHAVE = "storage.misbehave", "storage.behave"
LIVES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("path-loss", {}, [CUT], [MEND]),
    ("path-loss", {"reset": False, "duration_s": 10}, [CUT], [MEND]),
    ("path-loss", {"node": "other", "path": "all"}, [CUT], [MEND]),
    ("one-way", {"lost": "requests"}, [CUT], [MEND]),
    ("one-way", {"lost": "answers"}, [CUT], [MEND]),
    ("flapping", {"times": 4}, [CUT], []),
    ("reset", {}, [RESET], ["hypervisor.resume"]),
    ("loss", {"percent": 20}, [IMPAIR], [MEND]),
    ("slow-link", {}, [IMPAIR], [MEND]),
    ("latency", {"reorder_percent": 10, "duplicate_percent": 10}, [IMPAIR], [MEND]),
    ("pause", {}, ["hypervisor.pause"], ["hypervisor.resume"]),
    ("freeze", {}, ["freeze"], ["thaw"]),
    ("freeze", {"node": "storage"}, ["freeze"], ["thaw"]),
    ("hold", {}, ["storage.hold"], ["storage.release"]),
    ("migrate", {}, ["hypervisor.resume"], []),
    ("migrate", {"kill_source": True}, ["hypervisor.kill"], []),
    ("migrate-cancel", {"by": "cancel"}, ["hypervisor.cancel_migration"], []),
    ("migrate-cancel", {"by": "cut"}, [CUT], ["hypervisor.kill"]),
    ("migrate-cancel", {"by": "kill-destination"}, ["hypervisor.kill"], []),
    ("failover", {"by": "kill"}, ["hypervisor.kill"], []),
    ("io-error", {}, [MISBEHAVE], [BEHAVE]),
    ("io-error", {"limit": 3}, [MISBEHAVE], []),
    ("disk-full", {}, [MISBEHAVE], [BEHAVE]),
    ("slow-storage", {}, [MISBEHAVE], [BEHAVE]),
    ("slow-flush", {}, [MISBEHAVE], [BEHAVE]),
    ("storage-restart", {}, ["storage_servers.stop"], ["storage_servers.start"]),
    ("power-loss", {}, ["storage_servers.stop"], ["storage_servers.start"]),
    ("power-loss", {}, ["storage_servers.lose_cache"], []),
    ("power-loss", {}, ["storage_servers.unflushed"], []),
    ("lost-path-migration", {}, [CUT], [MEND]),
    ("lost-path-migration", {}, ["storage.hold"], []),
]
NOT_HERE = {
    *("choreography", "clock-jump", "held-bytes", "migrate-pause", "orphan", "postcopy-loss", "split-brain"),
}
"""They need single operations, post-copy, a migration that waits, a kernel that sends what its process left,
or rows."""


def named(value: Any) -> str:
    return "-".join(map(str, value.values() if isinstance(value, dict) else [value]))


def test_every_fault_is_tried_or_said_to_need_a_real_lab() -> None:
    assert {name for name, *_ in LIVES} == FAULTS.keys() - NOT_HERE


@pytest.mark.parametrize(("name", "options", "injecting", "healing"), LIVES, ids=named)
def test_a_fault_is_proven_and_healed_and_not_where_that_is_only_claimed(
    name: str, options: dict[str, Any], injecting: list[str], healing: list[str]
) -> None:
    life = live(make_fault(name, options))
    assert (life.proven, life.healed, life.why) == (True, True, "")
    assert life.proof
    assert life.healing
    assert not live(make_fault(name, options), without=injecting).proven
    if healing:
        life = live(make_fault(name, options), without=healing)
        assert (life.proven, life.healed) == (True, False)


@pytest.mark.parametrize(
    ("name", "said"),
    [("network.cutt", r"did you mean 'network\.cut'\?$"), ("_now", r"one is named as in 'network\.cut'$")],
)
def test_a_call_that_no_lab_has_is_named_with_what_may_be_meant(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^no call '{name}' of a lab; {said}"):
        live(make_fault("pause", {}), without=[name])


def test_post_copy_and_single_operations_are_refused_with_the_remedy() -> None:
    life = live(make_fault("migrate", {"mode": "postcopy"}))
    assert (life.proven, life.healed) == (False, True)
    assert life.why == "the scripted lab has no post-copy; try it on a real one"
    with pytest.raises(LabError, match="issues no single operations; try it on a real one"):
        virtual_time.run(ScriptedLab().guest.issue(1, write=True))


def completed(lab: ScriptedLab, **wrong: Any) -> int:
    """What the guest completes in the second after something went wrong."""

    async def look() -> int:
        for name, arguments in wrong.items():
            seam, _, call = name.partition("_")
            await getattr(getattr(lab, seam), call)(*arguments)
        before = lab.guest.operations
        await asyncio.sleep(1)
        return lab.guest.operations - before

    return virtual_time.run(look())


def test_the_guest_completes_operations_for_as_long_as_it_can_work() -> None:
    assert completed(ScriptedLab()) == pytest.approx(100, abs=1)
    assert completed(ScriptedLab(), hypervisor_pause=["x"]) == 0
    assert completed(ScriptedLab(), network_cut=["x", Path_.STORAGE, Direction.IN]) == 0
    assert completed(ScriptedLab(), network_cut=["y", Path_.STORAGE]) > 0
    assert completed(ScriptedLab(), guest_quiesce=[1]) == 0


def test_a_silent_cut_is_an_error_to_the_guest_only_after_a_while() -> None:
    async def states(cut_s: float) -> tuple[GuestState, int]:
        lab = ScriptedLab()
        await lab.network.cut("x", Path_.STORAGE)
        await asyncio.sleep(cut_s)
        await lab.network.heal("x", Path_.STORAGE)
        await asyncio.sleep(10)
        return await lab.hypervisor.state("x"), lab.guest.operations

    assert virtual_time.run(states(2.9)) == (GuestState.RUNNING, pytest.approx(1000, abs=1))
    assert virtual_time.run(states(3.1)) == (GuestState.IO_ERROR, 0)
