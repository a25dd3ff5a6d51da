"""Faults during others on a real lab: all proven and healed; nothing comes during what is not proven."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.history.events import read_events
from jepsen_blk.lab.network import CommandNetwork
from jepsen_blk.spec import make_spec

pytestmark = pytest.mark.lab

LINK = {"fault": "slow-link", "options": {"path": "migration", "mbit_per_s": 150}}
SLOW = {"fault": "slow-storage", "options": {"delay_ms": 40}}
MIGRATE = {"fault": "migrate"}


def run(store: Path, fault: dict[str, Any], *items: dict[str, Any]) -> Outcome:
    schedule = {"kind": "during", "fault": fault, "items": list(items)}
    busy = {"write_latency_ms": 20}
    spec = make_spec({"schedule": schedule, "time_limit_s": 120, "storage": busy})
    return asyncio.run(run_test(spec, store))


def of_faults(outcome: Outcome) -> list[tuple[int, str]]:
    events = read_events(outcome.run_dir / "events.jsonl")
    return [(e.number, e.phase) for e in events if e.source == "fault" and e.phase in ("proven", "healed")]


def tree(outcome: Outcome) -> list[tuple[int, int, str]]:
    return [(fault["number"], fault["during"], fault["name"]) for fault in outcome.results["faults"]]


@pytest.mark.parametrize("outer", [SLOW, LINK], ids=["storage", "link"])
def test_a_guest_migrates_during_a_slowness_and_both_are_proven(
    outer: dict[str, Any], tmp_path: Path
) -> None:
    outcome = run(tmp_path, outer, MIGRATE, MIGRATE)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results
    assert tree(outcome) == [(1, 0, outer["fault"]), (2, 1, "migrate"), (3, 1, "migrate")]
    order = [(1, "proven"), (2, "proven"), (2, "healed"), (3, "proven"), (3, "healed"), (1, "healed")]
    assert of_faults(outcome) == order


def test_two_faults_of_one_name_and_a_cut_overlap_and_each_is_proven_for_itself(tmp_path: Path) -> None:
    slower = {"fault": "slow-storage", "options": {"delay_ms": 90}}
    cut = {"fault": "path-loss", "options": {"duration_s": 0.2}}
    outcome = run(tmp_path, SLOW, {"kind": "during", "fault": slower, "items": [cut]})
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results
    assert tree(outcome) == [(1, 0, "slow-storage"), (2, 1, "slow-storage"), (3, 2, "path-loss")]
    assert of_faults(outcome) == [(number, "proven") for number in (1, 2, 3)] + [
        (number, "healed") for number in (3, 2, 1)
    ]
    proofs = [
        event.data["proof"]
        for event in read_events(outcome.run_dir / "events.jsonl")
        if (event.source, event.name, event.phase) == ("fault", "slow-storage", "proven")
    ]
    assert ["40 ms later" in proofs[0], "90 ms later" in proofs[1]] == [True, True]


def test_a_held_write_stays_in_flight_while_its_path_is_lost_and_mended(tmp_path: Path) -> None:
    outcome = run(tmp_path, {"fault": "hold"}, {"fault": "path-loss", "options": {"duration_s": 0.2}})
    assert all(fault["proven"] and fault["healed"] for fault in outcome.results["faults"])
    assert of_faults(outcome) == [(1, "proven"), (2, "proven"), (2, "healed"), (1, "healed")]
    log = [json.loads(line) for line in (outcome.run_dir / "target.jsonl").read_text().splitlines()]
    (released,) = (line["time"] for line in log if line["f"] == "released")
    events = read_events(outcome.run_dir / "events.jsonl")
    mended = next(event.time_ns for event in events if (event.number, event.phase) == (2, "over"))
    assert mended < released


def test_no_migration_comes_during_a_slowness_that_was_not_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_args: Any) -> None:
        """In the place of what would have made the link slow."""

    monkeypatch.setattr(CommandNetwork, "impair", nothing)
    outcome = run(tmp_path, LINK, MIGRATE, MIGRATE)
    assert (outcome.verdict, outcome.results["migrations"]) == ("unknown", [])
    assert tree(outcome) == [(1, 0, "slow-link")]
    left, unproven = outcome.results["reasons"]
    assert left == "2 faults that were to come during slow-link did not: it was not proven"
    assert unproven.startswith("fault slow-link was not proven: migration of x carries")
