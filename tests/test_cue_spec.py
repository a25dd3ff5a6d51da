"""The cues of a specification: what is understood, planned, printed, stored, and refused."""

from __future__ import annotations

import io
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jepsen_blk.cue_spec import InFlightCue
from jepsen_blk.errors import SpecError
from jepsen_blk.options import parse_nemesis
from jepsen_blk.report.plan import plan_object, print_plan
from jepsen_blk.spec import Spec, dump_spec, make_spec
from nemesis.plan import Plan, read_plan, write_plan
from nemesis.schedule import check_faults, check_plan, make_plan

HOT = {"event": "in-flight", "hot": True, "count": 2}
SWITCHOVER = {"event": "migration", "phase": "pre-switchover"}
CUED = {"fault": "path-loss", "when": HOT}
PAUSED = {"fault": "migrate-pause"}
FAR = {"fault": "path-loss", "when": SWITCHOVER, "options": {"node": "other"}}


def during(fault: dict[str, Any], *items: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "during", "fault": fault, "items": list(items)}


def scheduled(*items: dict[str, Any], kind: str = "sequence", **keys: Any) -> Spec:
    return make_spec({"schedule": {"kind": kind, "items": list(items)}, **keys})


def cues(plan: Plan) -> list[Any]:
    return [dated.step.when for dated in plan.dated]


def test_a_cue_is_of_the_guest_s_node_and_waited_for_half_a_minute_where_nothing_is_said() -> None:
    (step,) = make_spec({"nemesis": [{"fault": "pause", "when": {"event": "in-flight"}}]}).nemesis
    assert step.when == InFlightCue(event="in-flight", node="guest", hot=False, count=1, timeout_s=30)


@pytest.mark.parametrize("table", ["list", "schedule"])
def test_every_repetition_of_a_fault_has_its_cue(table: str) -> None:
    faults = [{**CUED, "repeat": 2}, {"fault": "pause"}]
    spec = make_spec({"nemesis": faults}) if table == "list" else scheduled(*faults)
    hot = InFlightCue.model_validate(HOT)
    assert cues(make_plan(spec)) == [hot, hot, None]


def test_a_mix_draws_faults_with_their_cues_and_takes_no_time_for_them() -> None:
    plan = make_plan(scheduled(CUED, {"fault": "pause"}, kind="mix", time_limit_s=60))
    drawn = {dated.step.fault: dated.step.when for dated in plan.dated}
    assert drawn == {"path-loss": InFlightCue.model_validate(HOT), "pause": None}
    assert plan.dated[1].begin_s == pytest.approx(plan.dated[0].end_s + 0.3)


def test_what_stands_may_have_a_cue_and_what_comes_during_it_too() -> None:
    plan = make_plan(scheduled(during({**PAUSED, "when": HOT}, FAR)))
    assert [dated.step.when.event for dated in plan.dated if dated.step.when] == ["in-flight", "migration"]


def test_a_date_says_from_when_on_the_cue_is_waited_for() -> None:
    (dated,) = make_plan(scheduled({**CUED, "at_s": 5})).dated
    assert (dated.begin_s, dated.step.when) == (5, InFlightCue.model_validate(HOT))


def test_a_dumped_specification_and_a_stored_plan_keep_the_cues(tmp_path: Path) -> None:
    spec = scheduled(CUED, during(PAUSED, FAR))
    assert make_spec(tomllib.loads(dump_spec(spec))) == spec
    plan = make_plan(spec)
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan
    check_plan(read_plan(tmp_path), spec.storage)


def test_the_printed_plan_says_what_is_waited_for() -> None:
    spec = scheduled(CUED, {"fault": "pause"})
    plan = make_plan(spec)
    out = io.StringIO()
    print_plan(spec, plan, Console(file=out, width=160))
    head, first, second, *legend = out.getvalue().splitlines()[1:]
    assert head.split() == ["#", "from", "pause", "fault", "when", "options"]
    assert "path-loss  in-flight node=guest hot=true count=2  duration_s=1.0" in first
    assert "in-flight" not in second
    assert any(line.startswith("when: after the pause it waits until that is seen") for line in legend)
    told = json.loads(json.dumps(plan_object(spec, plan)))["steps"][0]["when"]
    assert told == {**HOT, "node": "guest", "block": None, "timeout_s": 30}


def test_a_plan_without_cues_is_printed_without_a_column_for_them() -> None:
    spec = scheduled({"fault": "pause"})
    out = io.StringIO()
    print_plan(spec, make_plan(spec), Console(file=out, width=160))
    assert "when" not in out.getvalue().replace("from: when", "")


def test_a_cue_can_be_given_on_the_command_line() -> None:
    text = 'path-loss:when={event="in-flight",hot=true,count=2},after_s=1,duration_s=2'
    assert parse_nemesis(text) == {**CUED, "after_s": 1, "options": {"duration_s": 2}}


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"event": "inflight"}, "when: no event 'inflight'; there are .*; did you mean 'in-flight'"),
        ({"hot": True}, "when: event is missing"),
        ({"event": "reissue", "hot": True}, "when.reissue.hot: Extra inputs are not permitted"),
        ({"event": "in-flight", "phase": "stopped"}, "when.in-flight.phase: Extra inputs"),
        ({"event": "in-flight", "count": 0}, "when.in-flight.count: .* greater than or equal to 1"),
        ({**HOT, "block": 3}, "when.in-flight: hot and block exclude each other"),
        ({"event": "in-flight", "block": 256}, "never come: when.block is 256, and the disk has 256 blocks"),
        ({"event": "guest"}, "when.guest.state: Field required"),
        ({"event": "guest", "state": "asleep"}, "when.guest.state: Input should be 'running', "),
        (
            {"event": "migration", "phase": "completed"},
            "phase: Input should be 'stopped' or 'pre-switchover'",
        ),
        ({"event": "in-flight", "timeout_s": 0}, "timeout_s: Input should be greater than 0"),
    ],
)
@pytest.mark.parametrize("table", ["list", "schedule"])
def test_a_cue_that_makes_no_sense_is_named_with_its_place(
    table: str, when: dict[str, Any], said: str
) -> None:
    fault = {"fault": "pause", "when": when}
    with pytest.raises(SpecError, match=said):
        make_spec({"nemesis": [fault]}) if table == "list" else scheduled(fault)


def test_a_guest_that_no_error_stops_is_no_cue() -> None:
    fault = {"fault": "pause", "when": {"event": "guest", "state": "io-error"}}
    with pytest.raises(SpecError, match=r"fault pause: its cue can never come: guest.disk_errors = 'report'"):
        make_spec({"nemesis": [fault], "guest": {"disk_errors": "report"}})


@pytest.mark.parametrize(
    "schedule",
    [FAR, during({"fault": "slow-storage"}, FAR), {"kind": "mix", "repeat": 1, "items": [CUED, FAR]}],
)
def test_a_phase_is_no_cue_where_no_migration_is_under_way(schedule: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"path-loss: its cue can never come: no migration .* migrate-pause"):
        check_faults(scheduled(schedule))
    with pytest.raises(SpecError, match="no migration that it comes during is ever pre-switchover"):
        check_faults(make_spec({"nemesis": [FAR]}))


def test_a_phase_is_a_cue_of_all_that_comes_during_the_migration() -> None:
    check_faults(
        scheduled(during(PAUSED, during({"fault": "latency", "options": {"path": "migration"}}, FAR)))
    )


@pytest.mark.parametrize(
    "item",
    [
        {"fault": "path-loss"},
        {"fault": "pause"},
        {"fault": "hold"},
        {"fault": "slow-storage"},
        {"fault": "path-loss", "options": {"path": "all"}},
    ],
)
def test_what_needs_a_guest_at_work_cannot_come_while_a_migration_stops_it(item: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="cannot come during migrate-pause: it needs a guest at work"):
        check_faults(scheduled(during(PAUSED, item)))


@pytest.mark.parametrize(
    "item",
    [
        {"fault": "path-loss", "options": {"reset": False}},
        {"fault": "path-loss", "options": {"path": "migration"}},
        {"fault": "reset", "options": {"path": "migration"}},
        {"fault": "reset"},
        {"fault": "storage-restart"},
    ],
)
def test_what_probes_and_counters_prove_can(item: dict[str, Any]) -> None:
    check_faults(scheduled(during(PAUSED, item), storage={"kind": "qemu-storage-daemon"}))
