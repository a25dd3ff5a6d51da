"""A plan that is written down makes exactly that plan again, and says no more than it must."""

import tomllib
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_blk.spec import change_spec, dump_brief_spec, dump_spec, make_spec
from nemesis.catalogue import default_options
from nemesis.explicit import dated, explicit, undated
from nemesis.plan import Plan, Step
from nemesis.schedule import make_plan

BASE = make_spec({"time_limit_s": 80_000})
PAUSES = st.sampled_from([0.0, 0.3, 1.25])


def step(fault: str, after_s: float = 0.3, *during: Step, from_s: float = 0.0, **options: object) -> Step:
    complete = {**default_options(fault), **options}
    least_s = float(complete.get("duration_s", 0))
    return Step(fault, complete, after_s, from_s, None, least_s=least_s, during=during)


INNER = st.builds(step, st.sampled_from(["pause", "migrate", "hold"]), PAUSES)
STEPS = st.recursive(
    INNER | st.builds(step, st.just("pause"), PAUSES, duration_s=st.sampled_from([0.5, 1.0])),
    lambda inner: st.builds(
        lambda after_s, during: step("slow-storage", after_s, *during),
        PAUSES,
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=6))
def test_a_plan_without_dates_is_made_again(steps: list[Step]):
    spec = change_spec(BASE, explicit(tuple(steps)))
    assert make_plan(spec) == Plan(tuple(steps))
    assert make_spec(tomllib.loads(dump_brief_spec(spec))) == spec


@settings(max_examples=60, deadline=None)
@given(st.lists(st.builds(lambda at_s, step: (at_s, step), st.sampled_from([0.0, 7.5]), STEPS), max_size=6))
def test_a_plan_with_dates_is_made_again(drawn: list[tuple[float, Step]]):
    steps = dated([replace(step, from_s=at_s) for at_s, step in drawn])
    assert make_plan(change_spec(BASE, explicit(steps))).steps == steps


def test_a_date_with_a_pause_is_a_later_date():
    (late,) = dated([step("pause", 1.5, from_s=60.0)])
    assert (late.from_s, late.after_s) == (61.5, 0.0)


def test_a_drawn_schedule_is_written_as_what_was_drawn_whatever_the_seed():
    mix = {
        "kind": "mix",
        "repeat": 6,
        "stagger_s": 2,
        "items": [{"fault": "pause", "options": {"duration_s": {"min": 1, "max": 9}}}, {"fault": "migrate"}],
    }
    drawn = make_plan(change_spec(BASE, {"schedule": mix, "seed": 3}))
    for seed in (0, 3):
        written = change_spec(BASE, {"seed": seed} | explicit(drawn.steps))
        assert make_plan(written) == drawn


def test_what_waits_for_an_event_waits_for_it_again():
    cues = [{"event": "in-flight", "block": 0}, {"event": "reissue", "node": "other", "timeout_s": 2}]
    faults = [{"fault": "pause", "when": when, "repeat": 2} for when in cues]
    plan = make_plan(change_spec(BASE, {"nemesis": faults}))
    written = explicit(plan.steps)
    assert [item["when"] for item in written["nemesis"]] == cues
    assert make_plan(change_spec(BASE, written)) == plan


def test_what_has_an_end_has_none_any_more():
    cycle = {"kind": "cycle", "until_s": 5, "items": [{"fault": "pause", "after_s": 1}]}
    drawn = make_plan(change_spec(BASE, {"schedule": cycle}))
    assert drawn.steps[0].until_s == 5
    assert make_plan(change_spec(BASE, explicit(undated(drawn.steps)))).steps == undated(drawn.steps)


def test_faults_alone_are_a_list_in_which_what_comes_again_is_written_once():
    steps = (*[step("pause", 1.0)] * 3, step("pause", 1.0, duration_s=2.0), step("migrate"))
    assert explicit(steps) == {
        "nemesis": [
            {"fault": "pause", "after_s": 1.0, "repeat": 3},
            {"fault": "pause", "after_s": 1.0, "options": {"duration_s": 2.0}},
            {"fault": "migrate"},
        ],
        "schedule": None,
    }


def test_one_fault_with_others_during_it_is_the_whole_schedule():
    told = explicit((step("slow-storage", 0.3, step("pause"), step("pause")),))
    during = {
        "kind": "during",
        "fault": {"fault": "slow-storage"},
        "items": [{"fault": "pause", "repeat": 2}],
    }
    assert told == {"nemesis": [], "schedule": during}


def test_more_repeats_than_one_item_may_have_are_several_items():
    steps = (step("hold", 0.0),) * 10_001
    assert [item.get("repeat") for item in explicit(steps)["nemesis"]] == [10_000, None]
    assert len(make_plan(change_spec(BASE, explicit(steps))).steps) == 10_001


def test_a_brief_specification_leaves_out_defaults_only():
    spec = make_spec({"name": "t", "seed": 4, "storage": {"conflict": "ignore-second"}})
    brief = dump_brief_spec(spec)
    assert tomllib.loads(brief) == {"name": "t", "seed": 4, "storage": {"conflict": "ignore-second"}}
    assert len(dump_spec(spec)) > 3 * len(brief)


def test_a_default_that_depends_on_another_key_is_written():
    volatile = {"cache": "volatile", "flush": True}
    spec = make_spec({"storage": volatile, "workload": {"flush_fraction": 0.0}})
    assert make_spec(tomllib.loads(dump_brief_spec(spec))) == spec
    assert "flush_fraction" in dump_brief_spec(spec)
