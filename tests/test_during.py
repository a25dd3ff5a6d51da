"""Faults that come while another one stands: how they are planned, printed, stored, and refused."""

import io
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jepsen_blk.errors import SpecError, UserError
from jepsen_blk.report.plan import plan_object, print_plan
from jepsen_blk.spec import dump_spec, make_spec
from nemesis.catalogue import FAULTS
from nemesis.plan import Plan, Step, read_plan, write_plan
from nemesis.schedule import check_faults, check_plan, make_plan

SLOW = {"fault": "slow-storage", "after_s": 1, "options": {"duration_s": 2}}
PAUSE = {"fault": "pause", "after_s": 1, "options": {"duration_s": 3}}
MIGRATE = {"fault": "migrate", "after_s": 2}


def during(fault: dict[str, Any], *items: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"kind": "during", "fault": fault, "items": list(items), **keys}


def plan_of(schedule: dict[str, Any], **keys: Any) -> Plan:
    return make_plan(make_spec({"schedule": schedule, **keys}))


def dated(plan: Plan) -> list[tuple[int, str, float, float]]:
    return [(item.depth, item.step.fault, item.begin_s, item.end_s) for item in plan.dated]


def test_what_comes_during_a_fault_begins_when_that_is_proven_and_what_follows_when_it_is_over():
    plan = plan_of({"kind": "sequence", "items": [during(SLOW, MIGRATE, PAUSE), MIGRATE]})
    assert dated(plan) == [
        (0, "slow-storage", 1, 7),
        (1, "migrate", 3, 3),
        (1, "pause", 4, 7),
        (0, "migrate", 9, 9),
    ]
    assert (plan.count, plan.least_s) == (4, 9)


def test_a_fault_stands_for_its_own_time_at_least():
    slow = {**SLOW, "options": {"duration_s": 30}}
    assert dated(plan_of(during(slow, PAUSE)))[0] == (0, "slow-storage", 1, 31)


def test_faults_stand_within_each_other_to_any_depth():
    link = {"fault": "slow-link", "after_s": 1, "options": {"path": "migration"}}
    plan = plan_of(during(SLOW, during(link, during(SLOW, MIGRATE)), PAUSE))
    assert [(depth, name) for depth, name, *_ in dated(plan)] == [
        *((0, "slow-storage"), (1, "slow-link"), (2, "slow-storage"), (3, "migrate")),
        (1, "pause"),
    ]


def test_what_has_no_end_goes_on_during_a_fault_until_the_time_limit_and_the_fault_with_it():
    plan = plan_of(during(SLOW, {"kind": "cycle", "items": [PAUSE]}), time_limit_s=12)
    assert dated(plan) == [(0, "slow-storage", 1, 9), (1, "pause", 2, 5), (1, "pause", 6, 9)]
    assert {item.step.until_s for item in plan.dated} == {12}
    assert plan.lasts_s == 12


def test_a_part_that_stands_ends_at_its_own_time():
    items = [during(SLOW, {"kind": "cycle", "items": [PAUSE]}, until_s=6), MIGRATE]
    assert dated(plan_of({"kind": "sequence", "items": items})) == [
        (0, "slow-storage", 1, 5),
        (1, "pause", 2, 5),
        (0, "migrate", 7, 7),
    ]


def test_a_fault_during_which_nothing_would_fit_is_not_planned():
    plan = plan_of({"kind": "cycle", "items": [during(SLOW, MIGRATE, PAUSE)]}, time_limit_s=11)
    assert [name for _, name, *_ in dated(plan)] == [
        "slow-storage",
        "migrate",
        "pause",
        "slow-storage",
        "migrate",
    ]
    with pytest.raises(SpecError, match="no fault fits in the part that ends at 4 s"):
        plan_of(during(SLOW, PAUSE, until_s=4))


def test_what_follows_a_part_is_counted_from_the_last_fault_that_fits():
    part = {
        "kind": "cycle",
        "items": [during({**SLOW, "options": {"duration_s": 1}}, PAUSE)],
        "until_s": 12.5,
    }
    plan = plan_of({"kind": "sequence", "items": [part, MIGRATE]}, time_limit_s=12.5)
    assert dated(plan)[-2:] == [(1, "pause", 7, 10), (0, "migrate", 12, 12)]


def test_a_fault_that_stands_beyond_the_time_limit_is_refused():
    slow = {**SLOW, "options": {"duration_s": 30}}
    with pytest.raises(SpecError, match=r"fault 2, slow-storage, ends at 33 s .* time_limit_s is 20; raise"):
        plan_of({"kind": "sequence", "items": [MIGRATE, during(slow, PAUSE)]}, time_limit_s=20)


def test_a_phase_may_be_a_fault_with_what_comes_during_it():
    phases = [{**during(SLOW, {"kind": "cycle", "items": [PAUSE]}), "for_s": 10}, {**MIGRATE, "for_s": 5}]
    plan = plan_of({"kind": "phases", "items": phases})
    assert dated(plan)[-1] == (0, "migrate", 12, 12)
    assert {item.step.until_s for item in plan.dated if item.depth} == {10}


def test_what_stands_and_what_comes_are_drawn_from_the_seed():
    drawn = during(
        {"fault": "slow-storage", "options": {"delay_ms": {"min": 1, "max": 900}}},
        {"kind": "mix", "repeat": 6, "items": [PAUSE, MIGRATE]},
        stagger_s=2,
    )
    plans = [plan_of(drawn, seed=seed) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert {item.step.fault for item in plans[0].dated} == {"slow-storage", "pause", "migrate"}


def test_a_dumped_schedule_and_a_stored_plan_are_the_same_again(tmp_path: Path):
    spec = make_spec(
        {"schedule": {"kind": "mix", "repeat": 3, "items": [during(SLOW, during(SLOW, MIGRATE))]}}
    )
    assert make_spec(tomllib.loads(dump_spec(spec))) == spec
    plan = make_plan(spec)
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan
    told = json.loads((tmp_path / "plan.json").read_text())
    assert told["steps"][0]["during"][0]["during"][0]["fault"] == "migrate"


def test_a_plan_from_before_faults_could_overlap_is_read(tmp_path: Path):
    (tmp_path / "plan.json").write_text('{"steps": [{"fault": "pause", "after_s": 1}], "lasts_s": 3}')
    assert read_plan(tmp_path) == Plan((Step("pause", after_s=1),), 3)


def test_a_mistake_in_a_plan_is_named_with_its_place(tmp_path: Path):
    (tmp_path / "plan.json").write_text('{"steps": [{"fault": "pause", "during": [{"fault": 1}]}]}')
    with pytest.raises(UserError, match=r"steps\.0\.during\.0\.fault: "):
        read_plan(tmp_path)


def test_a_plan_is_printed_with_what_comes_during_a_fault_beneath_it():
    spec = make_spec({"schedule": during(SLOW, during(SLOW, MIGRATE), PAUSE)})
    console = Console(width=120, record=True, file=io.StringIO())
    print_plan(spec, make_plan(spec), console)
    lines = console.export_text().splitlines()
    assert lines[0].startswith("plan of test register: 4 faults ")
    at = [
        line.index(name) for line, name in zip(lines[2:6], ("slow", "slow", "migrate", "pause"), strict=True)
    ]
    assert [place - at[0] for place in at] == [0, 2, 4, 2]
    assert any(line.startswith("indented: ") for line in lines)
    told = plan_object(spec, make_plan(spec))
    assert told["steps"][0]["during"][1]["earliest_s"] == pytest.approx(dated(make_plan(spec))[3][2])


ITEM = st.recursive(
    st.sampled_from([MIGRATE, PAUSE]),
    lambda inner: st.builds(
        lambda kind, items: {
            "kind": kind,
            "items": items,
            **({"fault": SLOW} if kind == "during" else {"repeat": 2} if kind != "sequence" else {}),
        },
        st.sampled_from(["during", "cycle", "mix", "sequence"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


@given(ITEM, st.floats(40, 100))
def test_every_planned_fault_ends_in_time_and_within_the_one_that_it_is_during(
    item: dict[str, Any], limit_s: float
):
    plan = plan_of({"kind": "cycle", "items": [item]}, time_limit_s=limit_s)
    around: list[Any] = []
    for each in plan.dated:
        del around[each.depth :]
        assert each.step.fits(each.begin_s)
        assert each.end_s <= limit_s
        assert all(outer.begin_s <= each.begin_s and each.end_s <= outer.end_s for outer in around)
        around.append(each)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({"kind": "during", "items": [PAUSE]}, "schedule.fault: Field required"),
        (during(SLOW), "schedule.items: Tuple should have at least 1 item"),
        (
            during({**SLOW, "repeat": 2}, PAUSE),
            "fault.repeat has no meaning for what stands; put this into a",
        ),
        (during({**SLOW, "weight": 2}, PAUSE), "fault.weight has no meaning for what stands"),
        (during(SLOW, {**PAUSE, "for_s": 2}), "items.0.for_s has a meaning in phases only"),
        (during(SLOW, {"kind": "cycle", "items": [PAUSE]}, PAUSE), "items.0 has no end"),
        (
            {"kind": "mix", "items": [during(SLOW, {"kind": "mix", "items": [PAUSE]})]},
            "items.0 has no end, so no other round would come",
        ),
        (
            {"kind": "cycle", "items": [during({"fault": "slow-storage", "at_s": 3}, PAUSE)]},
            "items.0 has at_s or until_s, which come once only",
        ),
    ],
)
def test_what_makes_no_sense_is_named_with_its_place(schedule: dict[str, Any], said: str):
    with pytest.raises(SpecError) as caught:
        make_spec({"schedule": schedule})
    assert said in str(caught.value)


def on(fault: str, **options: Any) -> dict[str, Any]:
    return {"fault": fault, "options": options}


LINK = on("slow-link", path="migration")
TOGETHER = [
    (on("slow-storage"), on("migrate")),
    (on("slow-storage"), on("slow-storage")),
    (on("slow-storage"), on("lost-path-migration")),
    (on("slow-flush"), on("disk-full")),
    (on("clock-jump"), on("migrate")),
    (on("clock-jump"), on("power-loss")),
    (LINK, on("clock-jump")),
    (on("slow-storage"), on("failover")),
    (on("slow-storage"), on("orphan")),
    (LINK, on("migrate", mode="postcopy")),
    (LINK, on("path-loss")),
    (LINK, on("migrate-cancel")),
    (on("loss", path="storage"), on("migrate")),
    (on("latency", path="all"), on("split-brain")),
    (on("path-loss", path="migration"), on("storage-restart")),
    (on("path-loss", path="migration"), on("power-loss")),
    (on("one-way", node="other"), on("freeze", node="storage")),
    (on("hold"), on("path-loss")),
    (on("hold"), on("hold")),
]
APART = [
    (LINK, on("loss", path="all"), "both need the migration path to themselves"),
    (LINK, on("migrate-cancel", by="cut"), "both need the migration path"),
    (on("loss", node="other"), on("path-loss"), "cannot come during loss: both need the storage path to"),
    (on("loss"), on("lost-path-migration"), "both need the storage path"),
    (on("loss"), on("storage-restart"), "both need the storage path"),
    (on("slow-flush"), on("power-loss"), "it ends the storage's server, which would forget slow-flush"),
    (on("loss"), on("failover"), "both need the storage path"),
    (on("loss"), on("orphan"), "both need the storage path"),
    (on("clock-jump"), on("failover"), "it starts the guest again, which would know nothing of clock-jump"),
    (on("clock-jump"), on("orphan"), "it starts the guest again"),
    (on("path-loss", path="migration"), on("failover"), "it moves the guest"),
    (
        on("slow-storage"),
        on("storage-restart"),
        "it ends the storage's server, which would forget slow-storage",
    ),
    (on("hold"), on("migrate"), "it moves the guest, which cannot be while hold stands"),
    (on("path-loss", path="migration"), on("migrate"), "it moves the guest"),
    (on("path-loss", node="other"), on("postcopy-loss"), "it moves the guest"),
    (
        on("path-loss"),
        on("pause"),
        "nothing can come during it, since no guest works without its storage path",
    ),
    (on("one-way", path="all"), on("hold"), "no guest works without its storage path"),
    *(
        (on(name), on("hold"), f"{name}: nothing can come during it")
        for name in ("pause", "freeze", "migrate")
    ),
    *(
        (on(name), on("hold"), f"{name}: nothing can come during it")
        for name in ("flapping", "reset", "io-error")
    ),
]
CACHED = {"flush": True, "cache": "volatile"}


@pytest.mark.parametrize(("outer", "inner"), TOGETHER)
def test_faults_that_leave_each_other_alone_may_overlap(outer: dict[str, Any], inner: dict[str, Any]):
    check_faults(make_spec({"schedule": during(outer, inner), "storage": CACHED}))


@pytest.mark.parametrize(("outer", "inner", "said"), APART)
def test_faults_that_would_undo_or_prove_each_other_are_refused(
    outer: dict[str, Any], inner: dict[str, Any], said: str
):
    with pytest.raises(SpecError, match=said):
        check_faults(make_spec({"schedule": during(outer, inner), "storage": CACHED}))


def test_a_fault_is_held_against_every_one_that_stands_around_it():
    schedule = during(LINK, during(SLOW, {"kind": "cycle", "repeat": 2, "items": [on("loss", path="all")]}))
    with pytest.raises(
        SpecError, match="loss: it cannot come during slow-link: both need the migration path"
    ):
        check_faults(make_spec({"schedule": schedule}))


def test_what_is_drawn_so_that_it_cannot_be_is_refused_whatever_the_seed():
    inner = {"fault": "loss", "options": {"path": {"one_of": ["storage", "migration"]}}}
    with pytest.raises(SpecError, match="both need the migration path"):
        check_faults(make_spec({"schedule": during(LINK, inner)}))


def test_a_stored_plan_is_checked_too():
    steps = (Step("slow-storage", during=(Step("storage-restart"),)),)
    with pytest.raises(SpecError, match="it ends the storage's server"):
        check_plan(Plan(steps), make_spec({"storage": CACHED}).storage)


class Silent:
    """A fault of somebody who has not thought of overlaps."""

    name = "silent"


def test_a_fault_that_does_not_say_what_it_upsets_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(FAULTS, "silent", dataclass(Silent))
    with pytest.raises(SpecError, match="silent: it does not say what it upsets"):
        check_faults(make_spec({"schedule": during(SLOW, on("silent"))}))
    with pytest.raises(SpecError, match="silent: nothing can come during it"):
        check_faults(make_spec({"schedule": during(on("silent"), PAUSE)}))
