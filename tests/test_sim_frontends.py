"""The founding case and the loss of a path, on each frontend that the simulator has."""

from pathlib import Path
from typing import Any

import pytest
from sim_run import kinds, simulate

from jepsen_blk.history.events import read_events
from nemesis.fault import Stage

FRONTENDS: dict[str, dict[str, Any]] = {
    "qemu": {},
    "qemu-reconnect": {"reconnect_delay_s": 4},
    "blkfront": {"frontend": "blkfront"},
}
OVERLAPPING = ("arrival-order", "ignore-second")
"""The storages that let a second write to a block pass the first."""


def founding(store: Path, frontend: str, conflict: str, policy: str, seed: int = 0, **options: Any) -> Any:
    return simulate(
        store,
        seed=seed,
        guest=FRONTENDS[frontend],
        storage={"conflict": conflict},
        handoff={"policy": policy},
        nemesis=[{"fault": "lost-path-migration", "options": options}],
    )


def proof(outcome: Any) -> str:
    events = read_events(outcome.run_dir / "events.jsonl")
    return str(next(event.data["proof"] for event in events if event.phase == "proven"))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("conflict", OVERLAPPING)
@pytest.mark.parametrize("policy", ["requeue", "cancel-initiator", "preempt", "stonith"])
def test_the_founding_case_overwrites_where_the_first_copy_goes_on(
    tmp_path: Path, policy: str, conflict: str, frontend: str, seed: int
) -> None:
    outcome = founding(tmp_path, frontend, conflict, policy, seed)
    assert (outcome.verdict, kinds(outcome)) == ("fail", {"stale-overwrite"})
    assert outcome.results["reasons"] == []
    assert outcome.results["migrations"][0]["reissued"] > 0


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("conflict", [*OVERLAPPING, "serialize", "reject-busy", "drop-on-disconnect"])
@pytest.mark.parametrize("policy", ["drain", "single-writer", "preempt-abort"])
def test_the_founding_case_is_harmless_where_the_first_copy_is_awaited_or_ended(
    tmp_path: Path, policy: str, conflict: str, frontend: str
) -> None:
    outcome = founding(tmp_path, frontend, conflict, policy)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_a_storage_that_serializes_needs_no_policy(tmp_path: Path, frontend: str) -> None:
    outcome = founding(tmp_path, frontend, "serialize", "requeue")
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_an_epoch_refuses_the_first_copy_for_which_a_storage_had_ignored_the_second(
    tmp_path: Path, frontend: str
) -> None:
    outcome = founding(tmp_path, frontend, "ignore-second", "epoch")
    assert (outcome.verdict, kinds(outcome)) == ("fail", {"lost-write"})


def test_each_frontend_proves_the_founding_case_by_what_it_does(tmp_path: Path) -> None:
    said = {
        frontend: proof(founding(tmp_path / frontend, frontend, "serialize", "requeue"))
        for frontend in FRONTENDS
    }
    assert "x cannot reach: storage" in said["qemu"]
    assert "its guest is in io-error" in said["qemu"]
    assert (
        "its hypervisor tries for 4 s to connect again; then its guest is in io-error"
        in (said["qemu-reconnect"])
    )
    assert "cannot reach" not in said["blkfront"]
    assert "its node does not wait for it to let the guest go" in said["blkfront"]


@pytest.mark.parametrize("policy", ["requeue", "drain"])
def test_a_path_that_comes_back_has_the_source_overtake_itself_which_no_handoff_prevents(
    tmp_path: Path, policy: str
) -> None:
    outcome = founding(tmp_path, "qemu-reconnect", "arrival-order", policy, heal_before_migration=True)
    assert (outcome.verdict, kinds(outcome)) == ("fail", {"stale-overwrite"})
    assert outcome.results["reasons"] == []


def test_a_guest_that_is_told_of_the_error_sends_nothing_again_so_the_case_is_not_proven(
    tmp_path: Path,
) -> None:
    told = {"nemesis": [{"fault": "lost-path-migration"}], "guest": {"disk_errors": "report"}}
    outcome = simulate(tmp_path, **told)
    assert outcome.verdict == "unknown"
    assert "the write in flight was not sent again" in str(outcome.results["reasons"])


@pytest.mark.parametrize("frontend", ["qemu-reconnect", "blkfront"])
@pytest.mark.parametrize("fault", ["path-loss", "reset"])
def test_a_lost_path_is_proven_by_what_the_frontend_makes_of_it(
    tmp_path: Path, fault: str, frontend: str
) -> None:
    storage, guest = {"write_latency_ms": 20}, FRONTENDS[frontend]
    outcome = simulate(tmp_path, storage=storage, guest=guest, nemesis=[{"fault": fault}])
    (result,) = outcome.results["faults"]
    assert (result["proven"], result["healed"], result["why"]) == (True, True, "")
    assert outcome.results["reasons"] == []
    shows = {
        ("path-loss", "qemu-reconnect"): "nothing of its guest completes",
        ("reset", "qemu-reconnect"): "connected again, the guest works on x",
    }
    assert shows.get((fault, frontend), "its guest is told") in proof(outcome)


def test_a_guest_that_a_late_refusal_stops_is_let_run_until_all_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiesce = Stage.quiesce

    async def stopped_first(stage: Stage) -> None:
        await stage.lab.hypervisor.pause(stage.guest_node)
        await quiesce(stage)

    monkeypatch.setattr(Stage, "quiesce", stopped_first)
    outcome = simulate(
        tmp_path, storage={"conflict": "reject-busy"}, nemesis=[{"fault": "lost-path-migration"}]
    )
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
