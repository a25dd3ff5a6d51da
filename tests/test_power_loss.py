"""The storage loses power: what was flushed survives, what was lost is found, and no loss is no proof."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_stage import GOOD, LiveStage, live_stage

from jepsen_blk.checker.verdict import check
from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.errors import SpecError
from jepsen_blk.history.events import read_events
from jepsen_blk.history.formats import read_history
from jepsen_blk.history.interchange import read_jsonl, write_jsonl
from jepsen_blk.history.journal import read_journal
from jepsen_blk.lab.local.storage_node import LocalStorage
from jepsen_blk.options import read_spec
from jepsen_blk.report.run_data import load_run
from jepsen_blk.report.story import tell
from jepsen_blk.spec import StorageSpec, make_spec
from nemesis import power_loss
from nemesis.catalogue import check_storage, make_fault

VOLATILE = {"cache": "volatile", "flush": True}


def run(store: Path, *faults: dict[str, Any], **spec: Any) -> Outcome:
    storage = VOLATILE | spec.pop("storage", {})
    return asyncio.run(run_test(make_spec({"nemesis": list(faults), "storage": storage, **spec}), store))


def loss(**options: Any) -> dict[str, Any]:
    return {"fault": "power-loss", "options": {"duration_s": 0.2, **options}}


@pytest.mark.lab
def test_a_storage_that_flushes_keeps_what_it_promised_wherever_the_guest_is(tmp_path: Path) -> None:
    faults = ({**loss(), "repeat": 2}, {"fault": "migrate"}, loss())
    # The migration is to find the storage whole, not to test the hand-over under load.
    outcome = run(tmp_path, *faults, allow_idle_migration=True)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results
    assert [fault["proven"] and fault["healed"] for fault in outcome.results["faults"]] == [True] * 4
    events = list(read_events(outcome.run_dir / "events.jsonl"))
    proofs = [e.data["proof"] for e in events if (e.name, e.phase) == ("power-loss", "proven")]
    for proof, node in zip(proofs, "xxy", strict=True):
        assert not proof.startswith("0 blocks")
        assert f"were lost; the storage takes no connection of {node}; its guest is in io-error" in proof
    (ended,) = (event for event in events if event.source == "checker")
    assert (ended.name, ended.phase) == ("power-loss", "ended")
    assert "the storage lost power after" in ended.data["why"]


@pytest.mark.lab
def test_a_storage_that_lies_about_flushes_has_lost_what_it_promised(tmp_path: Path) -> None:
    outcome = run(tmp_path, loss(), storage={"ignore_flush": True}, stop_on_fail=True)
    assert outcome.verdict == "fail"
    assert "durability-loss" in {anomaly["kind"] for anomaly in outcome.results["anomalies"]}
    assert [fault["proven"] and fault["healed"] for fault in outcome.results["faults"]] == [True]
    seen = load_run(outcome.run_dir)
    story = tell(seen, next(a for a in seen.anomalies if a.kind == "durability-loss"))
    texts = [step.text for step in story.steps] if story else []
    told = ("on stable media", "The storage loses power: ", "is gone")
    assert [part for text in texts for part in told if part in text] == list(told)
    # The same is found in the history alone, in the form that others read.
    history = read_history(outcome.run_dir / "history.blk").history
    write_jsonl(history, tmp_path / "history.jsonl")
    again = check(read_jsonl(tmp_path / "history.jsonl"))
    assert [a.to_json() for a in again.anomalies] == [a.to_json() for a in check(history).anomalies]


@pytest.mark.lab
def test_a_guest_that_is_told_of_the_errors_loses_no_more_than_it_was_told(tmp_path: Path) -> None:
    outcome = run(tmp_path, loss(duration_s=0.1), guest={"disk_errors": "report"})
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results
    assert outcome.results["workload"]["info"] > 0


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStage]:
    workload = {"queue_depth": 4, "flush_fraction": 0.1}
    with live_stage(tmp_path_factory.mktemp("live"), {"workload": workload, "storage": VOLATILE}) as live:
        yield live


def crashes(live: LiveStage) -> int:
    return len(read_journal(live.folder / "history.blk").history.crashes)


@pytest.mark.lab
def test_a_power_loss_lies_between_what_came_before_it_and_what_came_after(live: LiveStage) -> None:
    assert live.outcome("power-loss", duration_s=0.1) == GOOD
    history = read_journal(live.folder / "history.blk").history
    crash = history.crashes[-1]
    assert crash.time_ns < crash.until_ns
    assert (history.finish < crash.time_ns).any()
    assert (history.start > crash.until_ns).any()


@pytest.mark.lab
def test_a_cache_that_is_left_as_it_was_is_no_proof(live: LiveStage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def spare(servers: LocalStorage) -> int:
        return 0

    monkeypatch.setattr(LocalStorage, "lose_cache", spare)
    over = live.outcome("power-loss", duration_s=0.1)
    assert (over["proven"], over["healed"]) == (False, True)
    assert "blocks that were not flushed none was lost" in over["why"]


@pytest.mark.lab
def test_servers_that_were_never_ended_lose_nothing(live: LiveStage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def spare(servers: LocalStorage) -> None: ...

    monkeypatch.setattr(LocalStorage, "stop", spare)
    over = live.outcome("power-loss", duration_s=0.1)
    assert (over["proven"], over["healed"]) == (False, True)
    assert "the storage's servers still run" in over["why"]


@pytest.mark.lab
def test_a_power_loss_that_would_take_nothing_does_not_come(
    live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(servers: LocalStorage) -> int:
        return 0

    before = crashes(live)
    monkeypatch.setattr(LocalStorage, "unflushed", nothing)
    monkeypatch.setattr(power_loss, "_UNFLUSHED_TIMEOUT_S", 0.05)
    over = live.outcome("power-loss", duration_s=0.1)
    assert (over["proven"], over["healed"]) == (False, True)
    assert over["why"] == "nothing was unflushed within 0.05 s"
    assert crashes(live) == before


@pytest.mark.parametrize(
    "storage",
    [
        {},
        {"flush": True, "backing": "disk.img"},
        {"kind": "nbdkit-memory"},
        {"kind": "qemu-storage-daemon"},
    ],
)
def test_a_storage_without_a_volatile_cache_is_refused_with_the_remedy(storage: dict[str, Any]) -> None:
    said = r"^nemesis power-loss: .* set storage\.cache = 'volatile' .* or use the fault storage-restart$"
    with pytest.raises(SpecError, match=said):
        check_storage(make_fault("power-loss", {}), StorageSpec(**storage))


def test_the_refusal_comes_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"^nemesis power-loss: "):
        run(tmp_path, loss(), storage={"cache": "none"})
    with pytest.raises(SpecError, match=r"^nemesis power-loss: "):
        read_spec(None, {}, ["power-loss"])
    assert list(tmp_path.iterdir()) == []
