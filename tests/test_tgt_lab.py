"""Whole tests on stock tgtd: real guests, QEMU's iSCSI initiator, fenced by persistent reservations."""

import asyncio
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from server_hold import ServerHold, process_below

from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.errors import SpecError, UserError
from jepsen_blk.lab.local import tgt
from jepsen_blk.spec import StorageSpec, make_spec
from jepsen_blk.storage.control import StorageControl
from jepsen_blk.storage.holds import InFlight
from nemesis.catalogue import check_storage, make_fault

HELD = (
    {"do": "quiesce"},
    {"do": "hold", "node": "x", "block": 17, "name": "first"},
    {"do": "write", "block": 17, "name": "A"},
    {"do": "await-held", "hold": "first"},
)
RELOGIN = ({"do": "reset", "node": "x"}, {"do": "await-write", "of": "A"})
"""QEMU logs in again and sends A again on its new session; the first one goes on."""
OVERWRITTEN = (
    {"do": "write", "block": 17, "name": "A'"},
    {"do": "await-write", "of": "A'"},
    {"do": "read", "block": 17},
    {"do": "release", "hold": "first"},
    {"do": "read", "block": 17},
    {"do": "read", "block": 17},
)
MOVED = (*HELD, *RELOGIN, {"do": "migrate"}, *OVERWRITTEN)
FAILED_OVER = (*HELD, {"do": "kill", "node": "x"}, {"do": "fail-over"}, {"do": "quiesce"}, *OVERWRITTEN)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs go; there are none on a machine without the packages."""
    try:
        tgt.require_tgt()
    except UserError as error:
        pytest.skip(str(error))
    return tmp_path_factory.mktemp("store")


def run(store: Path, policy: str, *faults: dict[str, Any], **spec: Any) -> Outcome:
    made = make_spec(
        {
            "storage": {"kind": "tgt"},
            "handoff": {"policy": policy, "quiesce_s": 0.1},
            "nemesis": faults,
            **spec,
        }
    )
    return asyncio.run(run_test(made, store))


def play(steps: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    return {"fault": "choreography", "options": {"steps": steps}}


@pytest.mark.lab
@pytest.mark.parametrize("policy", ["drain", "preempt", "cancel-initiator", "stonith"])
def test_a_guest_moves_there_and_back_and_all_is_well(store: Path, policy: str) -> None:
    outcome = run(store, policy, {"fault": "migrate"}, {"fault": "migrate"}, allow_idle_migration=True)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results
    assert len(outcome.results["migrations"]) == 2


@pytest.mark.lab
@pytest.mark.parametrize(
    ("steps", "kind"),
    [(MOVED, "stale-overwrite"), (FAILED_OVER, "fenced-zombie")],
    ids=["moved", "failed-over"],
)
def test_a_late_write_lands_unless_the_target_is_told_to_preempt(
    store: Path, steps: tuple[dict[str, Any], ...], kind: str
) -> None:
    lost = run(store, "requeue", play(steps))
    assert (lost.verdict, lost.results["reasons"]) == ("fail", []), lost.results
    assert {anomaly["kind"] for anomaly in lost.results["anomalies"]} == {kind}
    kept = run(store, "preempt", play(steps))
    assert (kept.verdict, kept.results["reasons"]) == ("pass", []), kept.results
    log = (kept.run_dir / "target.jsonl").read_text()
    assert '"action":"park","outcome":"refused","why":"CHECK CONDITION: UNIT ATTENTION' in log


class HoldInServer:
    """Has tgtd itself keep the write that a hold is for, where the proxy would keep it in the network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._hold: ServerHold | None = None
        for name in ("hold", "wait_held", "release", "wait_landed"):
            method = getattr(self, name)
            monkeypatch.setattr(
                StorageControl, name, lambda _, *given, to=method, **named: to(*given, **named)
            )

    async def hold(self, node: str, blocks: Sequence[int] = ()) -> int:
        self._hold = await asyncio.to_thread(ServerHold, process_below("tgtd"))
        return 1

    async def wait_held(self, hold: int, timeout_s: float) -> InFlight:
        assert self._hold is not None
        await asyncio.to_thread(self._hold.wait_held, timeout_s)
        return InFlight(1, "x", 17, 1, time.monotonic_ns(), True)

    async def release(self, hold: int) -> None:
        assert self._hold is not None
        await asyncio.to_thread(self._hold.release)

    async def wait_landed(self, hold: int, timeout_s: float) -> None:
        """What a thread of tgtd writes next is on its way at once."""


@pytest.mark.lab
def test_a_write_that_the_target_has_accepted_lands_late_for_all_that_it_has_preempted(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    HoldInServer(monkeypatch)
    outcome = run(store, "preempt", play(FAILED_OVER))
    assert (outcome.verdict, outcome.results["reasons"]) == ("fail", []), outcome.results
    assert {anomaly["kind"] for anomaly in outcome.results["anomalies"]} == {"fenced-zombie"}


@pytest.mark.lab
def test_a_target_that_has_no_preempt_and_abort_makes_the_run_unknown_and_says_so(store: Path) -> None:
    outcome = run(store, "preempt-abort", {"fault": "migrate"}, allow_idle_migration=True)
    assert outcome.verdict == "unknown"
    (reason,) = outcome.results["reasons"]
    assert "answers PREEMPT AND ABORT with CHECK CONDITION: ILLEGAL REQUEST, invalid field in CDB" in reason


@pytest.mark.lab
@pytest.mark.parametrize(("policy", "verdict"), [("requeue", "fail"), ("preempt", "pass")])
def test_the_founding_case_needs_a_path_that_is_healed(store: Path, policy: str, verdict: str) -> None:
    outcome = run(store, policy, {"fault": "lost-path-migration", "options": {"heal_before_migration": True}})
    assert (outcome.verdict, outcome.results["reasons"]) == (verdict, []), outcome.results
    # What was parked behind the held write comes late with it, to blocks that nobody has read meanwhile, too.
    kinds = {anomaly["kind"] for anomaly in outcome.results["anomalies"]}
    assert ("stale-overwrite" in kinds) == (verdict == "fail")


@pytest.mark.lab
def test_a_lost_path_and_a_server_that_ends_are_proven_by_a_standstill(store: Path) -> None:
    faults = [{"fault": name, "options": {"duration_s": 0.5}} for name in ("path-loss", "storage-restart")]
    outcome = run(store, "requeue", *faults)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results


@pytest.mark.lab
def test_bytes_that_come_late_overwrite_an_acknowledged_write_without_any_migration(store: Path) -> None:
    outcome = run(store, "requeue", {"fault": "held-bytes"})
    assert (outcome.verdict, outcome.results["reasons"]) == ("fail", []), outcome.results
    assert "stale-overwrite" in {anomaly["kind"] for anomaly in outcome.results["anomalies"]}


@pytest.mark.parametrize("policy", ["epoch", "single-writer"])
def test_a_policy_that_no_reservation_can_do_is_refused(policy: str) -> None:
    with pytest.raises(SpecError, match=r"tgt can be used with .*preempt, preempt-abort, quiesce, stonith"):
        make_spec({"storage": {"kind": "tgt"}, "handoff": {"policy": policy}})


def test_an_initiator_that_reconnects_for_ever_cannot_be_told_how_long() -> None:
    with pytest.raises(SpecError, match=r"guest\.reconnect_delay_s .* logs in again for ever; leave it out"):
        make_spec({"storage": {"kind": "tgt"}, "guest": {"reconnect_delay_s": 3}})


def test_a_guest_that_can_never_move_is_refused() -> None:
    with pytest.raises(
        SpecError, match=r"^nemesis lost-path-migration: .*; set heal_before_migration = true$"
    ):
        check_storage(make_fault("lost-path-migration", {}), StorageSpec(kind="tgt"))


def test_what_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: None)
    monkeypatch.setattr(tgt, "_ASKING", ("no-such-qemu",))
    with pytest.raises(
        UserError, match="needs tgt and qemu-block-extra; run `apt-get install tgt qemu-block-"
    ):
        tgt.require_tgt()
