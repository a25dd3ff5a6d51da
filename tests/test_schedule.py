"""From a schedule and a seed to a plan: every combinator, the same draws every time, and what is refused."""

import io
import os
import subprocess
import sys
import tomllib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jepsen_blk.errors import SpecError
from jepsen_blk.report.plan import print_plan
from jepsen_blk.spec import Spec, dump_spec, make_spec
from nemesis.catalogue import FAULTS
from nemesis.plan import Plan
from nemesis.schedule import check_faults, make_plan

MIGRATE = {"fault": "migrate", "after_s": 2}
PAUSE = {"fault": "pause", "after_s": 1, "options": {"duration_s": 3}}
HOLD = {"fault": "hold", "after_s": 0, "options": {"duration_s": 1}}
DRAWN = {
    "kind": "mix",
    "stagger_s": 1,
    "repeat": 6,
    "items": [
        {"fault": "migrate", "weight": 2},
        {
            "fault": "path-loss",
            "options": {"duration_s": {"min": 0.5, "max": 2.0}, "reset": {"one_of": [True, False]}},
        },
        {"fault": "hold", "options": {"duration_s": {"min": 1, "max": 4}}},
    ],
}


def spec_of(schedule: dict[str, Any], **keys: Any) -> Spec:
    return make_spec({"schedule": schedule, **keys})


def plan_of(schedule: dict[str, Any], **keys: Any) -> Plan:
    return make_plan(spec_of(schedule, **keys))


def names(plan: Plan) -> list[str]:
    return [step.fault for step in plan.steps]


def begins(plan: Plan) -> list[tuple[str, float]]:
    return [(dated.step.fault, dated.begin_s) for dated in plan.dated]


def test_a_list_of_faults_is_the_plan_that_it_always_was():
    listed = [{"fault": "pause", "repeat": 2}, {"fault": "hold", "after_s": 4, "options": {"blocks": [1, 2]}}]
    plan = make_plan(make_spec({"nemesis": listed, "time_limit_s": 1}))
    assert [(s.fault, s.after_s, s.from_s, s.until_s) for s in plan.steps] == [
        ("pause", 0.3, 0, None),
        ("pause", 0.3, 0, None),
        ("hold", 4, 0, None),
    ]
    assert plan.steps[2].options["blocks"] == [1, 2]
    assert plan.lasts_s == 0


def test_a_plan_has_every_option_of_its_faults():
    # A replay must not take over a default that was changed since.
    (step,) = make_plan(make_spec({"nemesis": [{"fault": "pause"}]})).steps
    assert step.options == {"duration_s": 1.0}
    assert step.least_s == 1.0


def test_a_sequence_is_played_in_its_order():
    plan = plan_of({"kind": "sequence", "items": [MIGRATE, PAUSE | {"repeat": 2}, HOLD]})
    assert begins(plan) == [("migrate", 2), ("pause", 3), ("pause", 7), ("hold", 10)]
    assert (plan.least_s, plan.lasts_s) == (11, 0)


def test_a_cycle_is_played_again():
    assert names(plan_of({"kind": "cycle", "repeat": 2, "items": [MIGRATE, HOLD]})) == ["migrate", "hold"] * 2


def test_a_cycle_without_end_is_played_as_often_as_the_time_limit_allows():
    plan = plan_of({"kind": "cycle", "items": [MIGRATE, PAUSE]}, time_limit_s=15)
    assert begins(plan) == [("migrate", 2), ("pause", 3), ("migrate", 8), ("pause", 9), ("migrate", 14)]
    assert {step.until_s for step in plan.steps} == {15}
    assert plan.lasts_s == 15


def test_a_part_ends_at_its_own_time_and_what_follows_goes_on():
    part = {"kind": "cycle", "until_s": 9, "items": [MIGRATE]}
    plan = plan_of({"kind": "sequence", "items": [part, HOLD]})
    assert names(plan) == ["migrate"] * 4 + ["hold"]
    assert [step.until_s for step in plan.steps] == [9] * 4 + [None]


def test_no_part_outlasts_the_time_limit_or_what_is_around_it():
    inner = {"kind": "cycle", "until_s": 50, "items": [MIGRATE]}
    assert len(plan_of(inner, time_limit_s=10).steps) == 5
    outer = {"kind": "sequence", "until_s": 6, "items": [inner, HOLD]}
    assert names(plan_of(outer)) == ["migrate"] * 3
    assert plan_of(outer).lasts_s == 6


def test_a_fault_comes_at_its_time_or_when_the_one_before_is_over():
    items = [PAUSE, {"fault": "hold", "at_s": 2}, {"fault": "hold", "at_s": 30}]
    assert begins(plan_of({"kind": "sequence", "items": items})) == [("pause", 1), ("hold", 4), ("hold", 30)]


def test_phases_come_one_after_another_each_in_its_own_time():
    phases = [
        {"kind": "cycle", "for_s": 10, "items": [PAUSE]},
        {"fault": "hold", "for_s": 5, "at_s": 2},
        {
            "kind": "sequence",
            "for_s": 20,
            "items": [MIGRATE, {"kind": "cycle", "until_s": 5, "items": [HOLD]}],
        },
    ]
    plan = plan_of({"kind": "phases", "items": phases})
    assert begins(plan)[:4] == [("pause", 1), ("pause", 5), ("hold", 12), ("migrate", 17)]
    assert {step.from_s for step in plan.steps[3:]} == {15}
    assert {step.until_s for step in plan.steps[4:]} == {20}
    assert plan.lasts_s == plan.least_s == 35


def test_a_mix_draws_by_weight():
    items = [MIGRATE | {"weight": 3}, HOLD]
    drawn = Counter(names(plan_of({"kind": "mix", "repeat": 4000, "items": items}, time_limit_s=20_000)))
    assert 2800 < drawn["migrate"] < 3200
    assert drawn["migrate"] + drawn["hold"] == 4000


def test_what_a_mix_draws_stays_together():
    pair = {"kind": "sequence", "items": [MIGRATE, HOLD]}
    drawn = names(plan_of({"kind": "mix", "repeat": 8, "items": [pair, PAUSE]}))
    assert "pause" in drawn
    assert all(drawn[i + 1] == "hold" for i, name in enumerate(drawn) if name == "migrate")


def test_a_stagger_is_for_the_faults_that_give_no_pause_of_their_own():
    inner = {"kind": "sequence", "stagger_s": 0, "items": [{"fault": "hold"}]}
    items = [{"fault": "pause", "repeat": 200}, MIGRATE, inner]
    plan = plan_of({"kind": "sequence", "stagger_s": 2, "items": items}, time_limit_s=3600)
    pauses = [step.after_s for step in plan.steps[:200]]
    assert 0 <= min(pauses) < 0.5
    assert 3.5 < max(pauses) <= 4
    assert 1.7 < sum(pauses) / 200 < 2.3
    assert [step.after_s for step in plan.steps[200:]] == [2, 0]


def test_options_are_drawn_from_their_range_or_choice():
    plan = plan_of(DRAWN | {"repeat": 300}, time_limit_s=3600)
    losses = [step.options for step in plan.steps if step.fault == "path-loss"]
    assert all(0.5 <= options["duration_s"] <= 2 for options in losses)
    assert {options["reset"] for options in losses} == {True, False}
    holds = {step.options["duration_s"] for step in plan.steps if step.fault == "hold"}
    assert holds == {1, 2, 3, 4}


def test_a_seed_gives_the_plan_that_it_always_gave():
    # Pinned: another plan from the same seed, in any version of Python, would break what people wrote down.
    drawn = [(s.fault, s.after_s, s.options.get("duration_s")) for s in plan_of(DRAWN, seed=7).steps]
    assert drawn == [
        ("migrate", 0.102, None),
        ("hold", 0.706, 2),
        ("path-loss", 0.887, 1.935),
        ("hold", 0.405, 1),
        ("migrate", 0.411, None),
        ("migrate", 1.1, None),
    ]


def test_a_plan_depends_on_nothing_but_the_specification():
    code = (
        "from test_schedule import *; import json; from nemesis.plan import plan_to_json;"
        "print(json.dumps(plan_to_json(plan_of(DRAWN, seed=3))))"
    )
    plans = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(plans) == 1
    assert plan_of(DRAWN, seed=3) != plan_of(DRAWN, seed=4)


def test_a_dumped_schedule_gives_the_same_plan():
    phases = {
        "kind": "phases",
        "items": [DRAWN | {"for_s": 20}, {"kind": "cycle", "for_s": 9, "items": [HOLD]}],
    }
    spec = spec_of(phases, seed=5)
    again = make_spec(tomllib.loads(dump_spec(spec)))
    assert again == spec
    assert make_plan(again) == make_plan(spec)


FAULT = st.sampled_from([MIGRATE, PAUSE, HOLD, {"fault": "hold"}])
ITEM = st.recursive(
    FAULT,
    lambda inner: st.builds(
        lambda kind, items, repeat: {"kind": kind, "items": items, **({} if kind == "sequence" else repeat)},
        st.sampled_from(["sequence", "cycle", "mix"]),
        st.lists(inner, min_size=1, max_size=3),
        st.builds(lambda repeat: {"repeat": repeat}, st.integers(1, 3)),
    ),
    max_leaves=6,
)


@given(ITEM, st.integers(0, 2**63 - 1), st.floats(10, 100))
def test_every_fault_of_a_bounded_plan_ends_in_time_if_it_takes_its_least(
    item: dict[str, Any], seed: int, limit_s: float
):
    plan = plan_of({"kind": "cycle", "items": [item]}, seed=seed, time_limit_s=limit_s)
    assert plan.steps
    for dated in plan.dated:
        assert dated.step.fits(dated.begin_s)
    assert plan.least_s == plan.lasts_s == limit_s


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (
            {"items": [HOLD]},
            "schedule: Input should have kind 'sequence', 'cycle', 'mix', 'during' or",
        ),
        ({"kind": "random", "items": [HOLD]}, "schedule: Input should have kind 'sequence', 'cycle', 'mix'"),
        ({"kind": "mix", "items": []}, "schedule.items: Tuple should have at least 1 item"),
        ({"kind": "mix"}, "schedule.items: Field required"),
        ({"kind": "mix", "items": [{}]}, "schedule.items.0: Input should have fault, or kind 'sequence'"),
        ({"kind": "mix", "items": [HOLD | {"wait_s": 1}]}, "schedule.items.0.wait_s: Extra inputs"),
        (
            {"kind": "mix", "items": [HOLD | {"weight": 0}]},
            "schedule.items.0.weight: Input should be greater",
        ),
        (
            {"kind": "cycle", "items": [HOLD | {"weight": 2}]},
            "schedule: items.0.weight has a meaning in a mix only",
        ),
        (
            {"kind": "cycle", "items": [HOLD | {"for_s": 2}]},
            "schedule: items.0.for_s has a meaning in phases only",
        ),
        ({"kind": "phases", "items": [HOLD]}, "schedule: items.0 needs for_s"),
        (
            {"kind": "phases", "items": [HOLD | {"for_s": 40}, HOLD | {"for_s": 30}]},
            "schedule: the phases take 70 s, time_limit_s is 60; raise it, or shorten",
        ),
        (
            {"kind": "mix", "for_s": 2, "items": [HOLD]},
            "schedule: for_s has a meaning for items of a mix or of phases only",
        ),
        (
            {"kind": "mix", "weight": 2, "items": [HOLD]},
            "schedule: weight has a meaning for items of a mix or of phases only",
        ),
        (
            {"kind": "sequence", "items": [{"kind": "cycle", "items": [HOLD]}, HOLD]},
            "schedule: items.0 has no end, so what follows would never come; give it repeat or until_s",
        ),
        ({"kind": "mix", "items": [{"kind": "cycle", "items": [HOLD]}]}, "schedule: items.0 has no end"),
        (
            {"kind": "cycle", "items": [{"kind": "sequence", "items": [{"fault": "hold", "at_s": 5}]}]},
            "schedule: items.0 has at_s or until_s, which come once only, and is repeated; use after_s",
        ),
        (
            {"kind": "sequence", "items": [HOLD | {"at_s": 5}]},
            "schedule.items.0: at_s excludes after_s and repeat",
        ),
        (
            {"kind": "mix", "items": [{"fault": "pause", "options": {"duration_s": {"min": 2, "max": 1}}}]},
            "schedule.items.0.options.duration_s: min (2) is more than max (1)",
        ),
        (
            {"kind": "mix", "items": [{"fault": "pause", "options": {"duration_s": {"min": 2}}}]},
            "schedule.items.0.options.duration_s.max: Field required",
        ),
        (
            {"kind": "mix", "items": [{"fault": "pause", "options": {"duration_s": {"one_of": []}}}]},
            "schedule.items.0.options.duration_s.one_of: Tuple should have at least 1 item",
        ),
    ],
)
def test_a_schedule_that_makes_no_sense_is_named_with_its_place(schedule: dict[str, Any], said: str):
    with pytest.raises(SpecError) as caught:
        spec_of(schedule)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_schedule_and_a_list_of_faults_exclude_each_other():
    with pytest.raises(
        SpecError, match=r"nemesis and schedule exclude each other: move .* into schedule\.items"
    ):
        spec_of({"kind": "cycle", "items": [HOLD]}, nemesis=[{"fault": "pause"}])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"duration_s": {"min": 1, "max": 4000}}, "nemesis pause: duration_s: "),
        ({"duration_s": {"one_of": [1, 2, "long"]}}, "nemesis pause: duration_s: "),
        ({"for": 3}, "nemesis pause: for: "),
    ],
)
def test_a_mistaken_option_does_not_wait_for_the_seed_that_draws_it(options: dict[str, Any], said: str):
    rare = {"fault": "pause", "weight": 0.001, "options": options}
    with pytest.raises(SpecError, match=said):
        check_faults(spec_of({"kind": "mix", "items": [HOLD, rare]}))


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (
            {"kind": "sequence", "items": [MIGRATE, HOLD | {"at_s": 61, "after_s": None}]},
            "fault 2, hold, ends at 62 s at the earliest, and time_limit_s is 60; raise it",
        ),
        (
            {"kind": "phases", "items": [MIGRATE | {"for_s": 9}, PAUSE | {"for_s": 3}]},
            "no fault fits in the part that ends at 12 s; give it more time",
        ),
        (
            {"kind": "cycle", "items": [MIGRATE | {"after_s": 0}]},
            "more than 100,000 faults could begin in its time; give them a longer after_s",
        ),
        ({"kind": "mix", "items": [{"fault": "meteor"}]}, "no fault 'meteor'"),
    ],
)
def test_a_schedule_that_cannot_be_planned_is_refused(schedule: dict[str, Any], said: str):
    with pytest.raises(SpecError, match=said):
        plan_of(schedule)


def test_every_fault_of_the_catalogue_can_be_planned_with_what_it_cannot_do_without():
    must = {"choreography": {"steps": [{"do": "quiesce"}]}}
    stock = {"held-bytes"}
    for offered, storage in (
        (FAULTS.keys() - stock, {"flush": True, "cache": "volatile"}),
        (stock, {"kind": "nbdkit-memory"}),
    ):
        items = [{"fault": name, "options": must.get(name, {})} for name in offered]
        plan = plan_of({"kind": "sequence", "items": items}, time_limit_s=3600, storage=storage)
        assert set(names(plan)) == offered


def test_a_mistyped_key_of_an_item_is_the_only_mistake_that_is_named():
    with pytest.raises(SpecError, match=r"^options: schedule\.items\.0\.wieght: [^;]*$"):
        spec_of({"kind": "mix", "items": [{"fault": "pause", "wieght": 3}]})


def test_what_was_drawn_is_printed_whole_on_a_narrow_terminal():
    spec = spec_of({"kind": "sequence", "items": [{"fault": "loss", "options": {"percent": 37}}]})
    console = Console(width=60, record=True, file=io.StringIO())
    print_plan(spec, make_plan(spec), console)
    assert "percent=37" in "".join(console.export_text().split())


def test_the_steps_of_a_script_are_printed_a_line_each():
    steps = [{"do": "quiesce"}, {"do": "write", "block": 17, "name": "A"}]
    spec = make_spec({"nemesis": [{"fault": "choreography", "options": {"steps": steps}}]})
    console = Console(width=80, record=True, file=io.StringIO())
    print_plan(spec, make_plan(spec), console)
    lines = [line.strip() for line in console.export_text().splitlines()]
    assert any(line.endswith("choreography   1 quiesce") for line in lines)
    assert "2 write block=17 name=A" in lines
