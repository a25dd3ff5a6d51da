"""The storage's faults: proven by what it counted, healed, and never proven when nothing was injected."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.errors import SpecError
from jepsen_blk.history.events import read_events
from jepsen_blk.lab.local.storage_node import LocalStorage
from jepsen_blk.lab.seams import Misbehaviour
from jepsen_blk.options import read_spec
from jepsen_blk.spec import StorageSpec, make_spec
from jepsen_blk.storage.control import StorageControl
from nemesis.catalogue import check_storage, make_fault

FAULTS: list[dict[str, Any]] = [
    {"fault": "io-error", "options": {"duration_s": 0.2}},
    {"fault": "io-error", "options": {"duration_s": 0.2, "applied": True}},
    {"fault": "io-error", "options": {"duration_s": 10, "limit": 40}},
    {"fault": "io-error", "options": {"duration_s": 0.2, "requests": ["read"]}},
    {"fault": "disk-full", "options": {"duration_s": 0.2}},
    {"fault": "slow-storage", "options": {"duration_s": 0.2, "delay_ms": 60}},
    {"fault": "slow-flush", "options": {"duration_s": 0.2, "delay_ms": 60}},
]
MISBEHAVING = ("io-error", "disk-full", "slow-storage", "slow-flush")


def run(store: Path, faults: Sequence[dict[str, Any]], disk_errors: str = "stop", **storage: Any) -> Outcome:
    spec = {"nemesis": list(faults), "storage": storage, "guest": {"disk_errors": disk_errors}}
    # A migration here is to find the storage whole, not to test the hand-over under load.
    return asyncio.run(run_test(make_spec({**spec, "allow_idle_migration": True}), store))


def proofs(outcome: Outcome) -> list[str]:
    events = read_events(outcome.run_dir / "events.jsonl")
    return [event.data["proof"] for event in events if (event.source, event.phase) == ("fault", "proven")]


@pytest.mark.lab
def test_every_fault_of_the_storage_is_proven_and_healed_without_an_anomaly(tmp_path: Path) -> None:
    outcome = run(tmp_path, FAULTS, flush=True)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    assert [fault["name"] for fault in outcome.results["faults"]] == [fault["fault"] for fault in FAULTS]
    assert all(fault["proven"] and fault["healed"] for fault in outcome.results["faults"])
    for proof, what in zip(
        proofs(outcome), ["the storage failed"] * 4 + ["no room"] + ["60 ms later"] * 2, strict=True
    ):
        assert what in proof


@pytest.mark.lab
@pytest.mark.parametrize(
    ("disk_errors", "full"), [("enospc", "its guest is in io-error"), ("report", "its guest is told")]
)
def test_an_error_that_the_guest_is_told_of_leaves_an_indeterminate_operation(
    disk_errors: str, full: str, tmp_path: Path
) -> None:
    faults = [
        {"fault": "io-error", "options": {"duration_s": 9, "requests": ["read", "write"], "limit": 30}},
        {"fault": "io-error", "options": {"duration_s": 9, "applied": True, "limit": 30}},
        {"fault": "disk-full", "options": {"duration_s": 0.1}},
    ]
    outcome = run(tmp_path, faults, disk_errors)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    assert outcome.results["workload"]["info"] >= 30
    first, second, third = proofs(outcome)
    assert first.endswith("its guest is told")
    assert second.endswith("its guest is told")
    assert third.endswith(full)


@pytest.mark.lab
def test_a_fault_that_the_storage_never_got_is_not_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = StorageControl.misbehave

    async def spare_all(control: StorageControl, what: Misbehaviour) -> int:
        return await honest(control, Misbehaviour((), what.requests))

    monkeypatch.setattr(StorageControl, "misbehave", spare_all)
    monkeypatch.setattr("nemesis.storage_fault._MEET_TIMEOUT_S", 0.3)
    outcome = run(tmp_path, [{"fault": name} for name in MISBEHAVING], flush=True)
    assert outcome.verdict == "unknown"
    assert [fault["proven"] for fault in outcome.results["faults"]] == [False] * len(MISBEHAVING)
    assert [fault["healed"] for fault in outcome.results["faults"]] == [True] * len(MISBEHAVING)


@pytest.mark.lab
def test_a_storage_that_goes_on_misbehaving_is_not_healed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go_on(control: StorageControl, misbehaviour: int) -> None: ...

    monkeypatch.setattr(StorageControl, "behave", go_on)
    outcome = run(tmp_path, [{"fault": "slow-storage", "options": {"duration_s": 0.1, "delay_ms": 1}}])
    assert outcome.verdict == "unknown"
    (fault,) = outcome.results["faults"]
    assert (fault["proven"], fault["healed"]) == (True, False)
    assert fault["why"] == "healing: the storage still misbehaves"


@pytest.mark.lab
@pytest.mark.parametrize("kind", ["policy", "qemu-storage-daemon"])
def test_a_storage_that_is_restarted_under_load_keeps_what_it_acknowledged(kind: str, tmp_path: Path) -> None:
    storage = {"kind": kind} if kind != "policy" else {"backing": str(tmp_path / "disk")}
    restart = {"fault": "storage-restart", "options": {"duration_s": 0.2}}
    outcome = run(tmp_path, [{**restart, "repeat": 2}, {"fault": "migrate"}, restart], **storage)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    assert [fault["proven"] and fault["healed"] for fault in outcome.results["faults"]] == [True] * 4
    assert "takes no connection of x; its guest is in io-error" in proofs(outcome)[0]
    assert "takes no connection of y; its guest is in io-error" in proofs(outcome)[3]


@pytest.mark.lab
def test_a_storage_that_was_never_stopped_is_no_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spare(servers: LocalStorage) -> None: ...

    monkeypatch.setattr(LocalStorage, "stop", spare)
    monkeypatch.setattr("nemesis.guest_disk._STOP_TIMEOUT_S", 0.3)
    outcome = run(tmp_path, [{"fault": "storage-restart"}], backing=str(tmp_path / "disk"))
    assert outcome.verdict == "unknown"
    (fault,) = outcome.results["faults"]
    assert (fault["proven"], fault["healed"]) == (False, True)


@pytest.mark.parametrize("kind", ["policy", "nbdkit-memory"])
def test_a_storage_in_memory_cannot_be_restarted(kind: str) -> None:
    with pytest.raises(SpecError, match=rf"^nemesis storage-restart: storage\.kind '{kind}' in memory loses"):
        check_storage(make_fault("storage-restart", {}), StorageSpec(kind=kind))


@pytest.mark.parametrize("name", MISBEHAVING)
@pytest.mark.parametrize("kind", ["nbdkit-memory", "qemu-storage-daemon"])
def test_a_stock_server_is_refused_before_the_run(name: str, kind: str) -> None:
    with pytest.raises(
        SpecError, match=rf"^nemesis {name}: not offered by storage\.kind '{kind}', which cannot be told"
    ):
        check_storage(make_fault(name, {}), StorageSpec(kind=kind))


def test_the_refusal_comes_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"^nemesis io-error: not offered"):
        run(tmp_path, [{"fault": "io-error"}], kind="nbdkit-memory")
    with pytest.raises(SpecError, match=r"^nemesis io-error: not offered"):
        read_spec(None, {"storage.kind": "nbdkit-memory"}, ["io-error"])
    assert list(tmp_path.iterdir()) == []


def test_a_storage_without_flush_is_never_slow_to_flush() -> None:
    with pytest.raises(SpecError, match=r"^nemesis slow-flush: .* set storage\.flush = true$"):
        check_storage(make_fault("slow-flush", {}), StorageSpec())
