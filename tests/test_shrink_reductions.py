"""What is tried on the way: only what can be played, never more than before, and down to what is needed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shrink_rig import names, step

from jepsen_blk.errors import SpecError
from jepsen_blk.shrink import reductions
from jepsen_blk.shrink.candidate import Candidate, key_of, told
from jepsen_blk.spec import Spec, make_spec
from nemesis.plan import Step
from nemesis.schedule import make_plan

SCRIPT = [
    {"do": "quiesce"},
    {"do": "hold", "node": "x", "block": 17, "name": "held"},
    {"do": "write", "block": 17, "name": "A"},
    {"do": "await-held", "hold": "held"},
    {"do": "cut", "node": "x"},
    {"do": "migrate"},
    {"do": "read", "block": 17},
    {"do": "release", "hold": "held"},
    {"do": "read", "block": 17},
]


class Asked:
    """Answers whether a candidate fails as the driver does: one that cannot be played does not."""

    def __init__(self, fails: Callable[[Candidate], bool]) -> None:
        self._fails = fails
        self.specs: list[Spec] = []
        self.whats: list[str] = []

    async def __call__(self, candidate: Candidate, what: str) -> bool:
        try:
            spec = candidate.spec()
        except SpecError:
            return False
        self.specs.append(spec)
        self.whats.append(what)
        return self._fails(candidate)


def a_test(*steps: Step, **spec: Any) -> Candidate:
    return Candidate(make_spec({"time_limit_s": 80_000, **spec}), steps)


def reduced(
    reduction: Callable[..., Awaitable[Candidate]], candidate: Candidate, asked: Asked, *more: Any
) -> Candidate:
    async def reduce() -> Candidate:
        return await reduction(candidate, *more, asked)

    return asyncio.run(reduce())


def played(candidate: Candidate) -> tuple[Step, ...]:
    return make_plan(candidate.spec()).steps


def lengths(candidate: Candidate) -> set[float]:
    """Return the durations of all faults, by which the tests tell one from another."""
    return {candidate.at(place).options["duration_s"] for place in candidate.places}


NUMBERED = st.recursive(
    st.just([]),
    lambda inner: st.lists(inner, min_size=1, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(NUMBERED, min_size=1, max_size=3), st.data())
def test_of_a_tree_of_faults_exactly_those_to_blame_are_left(tree: list[Any], data: st.DataObject):
    count = 0

    def grown(branches: list[Any]) -> tuple[Step, ...]:
        nonlocal count
        steps = []
        for branch in branches:
            count += 1
            duration_s = float(count)
            inner = grown(branch)
            steps.append(step("slow-storage" if inner else "pause", 0.3, *inner, duration_s=duration_s))
        return tuple(steps)

    whole = a_test(*grown(tree))
    needed = data.draw(st.sets(st.integers(1, count).map(float)))
    asked = Asked(lambda candidate: needed <= lengths(candidate))
    assert lengths(reduced(reductions.fewest_faults, whole, asked)) == needed


def test_what_must_come_during_another_stays_during_it():
    whole = a_test(
        step("pause"),
        step("slow-storage", 0.3, step("pause"), step("slow-storage", 0.3, step("migrate")), step("hold")),
        step("pause"),
    )

    def fails(candidate: Candidate) -> bool:
        return any(
            outer.fault == "slow-storage" and "migrate" in names(outer.during) for outer in candidate.steps
        )

    left = reduced(reductions.fewest_faults, whole, Asked(fails))
    assert left.steps == (step("slow-storage", 0.3, step("migrate")),)
    assert told(left.steps) == "slow-storage (migrate during it)"


def test_a_script_keeps_the_steps_that_are_needed_and_is_always_one_that_can_be_played():
    whole = a_test(step("pause"), step("choreography", steps=SCRIPT))
    needed = [SCRIPT[0], SCRIPT[1], SCRIPT[7], SCRIPT[8]]
    asked = Asked(lambda candidate: all(one in candidate.steps[1].options["steps"] for one in needed))
    left = reduced(reductions.fewest_script_steps, whole, asked)
    assert left.steps[1].options["steps"] == needed
    assert left.spec().nemesis[1].options["steps"] == needed
    assert asked.whats[-1] == "3 of 9 steps of the script, without write, await-held, cut, migrate, 2 more"


def test_all_options_and_pauses_go_to_their_defaults_at_once_if_that_fails():
    whole = a_test(step("pause", 7.0, duration_s=9.0), step("flapping", 0.0, times=9, path="migration"))
    asked = Asked(lambda _candidate: True)
    assert played(reduced(reductions.simplest_options, whole, asked)) == (step("pause"), step("flapping"))
    assert len(asked.specs) == 1


def test_an_option_that_is_needed_stays_and_the_others_go():
    whole = a_test(step("pause", 7.0, duration_s=9.0), step("flapping", 0.0, times=9, path="migration"))
    asked = Asked(lambda candidate: candidate.steps[1].options["path"] == "migration")
    left = reduced(reductions.simplest_options, whole, asked)
    assert played(left) == (step("pause"), step("flapping", path="migration"))


def test_a_time_that_has_to_be_long_goes_part_of_the_way():
    whole = a_test(step("pause", 8.3, duration_s=9.0))
    asked = Asked(
        lambda candidate: candidate.steps[0].options["duration_s"] > 4 and candidate.steps[0].after_s > 2
    )
    left = reduced(reductions.simplest_options, whole, asked)
    assert played(left) == (step("pause", 2.3, duration_s=5.0),)
    assert "pause: duration_s 5.0, not 9.0" in asked.whats


def test_what_has_no_default_is_left_as_it_is():
    whole = a_test(step("choreography", 2.0, steps=SCRIPT))
    left = reduced(reductions.simplest_options, whole, Asked(lambda _candidate: True))
    assert played(left) == (step("choreography", steps=SCRIPT),)


def test_a_pause_before_a_date_has_no_default():
    whole = a_test(replace(step("pause"), from_s=5.0, after_s=0.0))
    asked = Asked(lambda _candidate: True)
    assert reduced(reductions.simplest_options, whole, asked) == whole
    assert asked.specs == []


@pytest.mark.parametrize(
    ("least", "left"),
    [
        ({}, (1, 1, 1)),
        ({"blocks": 10}, (16, 1, 1)),
        ({"blocks": 100, "queue_depth": 2}, (256, 1, 4)),
        ({"hot_blocks": 5}, (16, 8, 1)),
    ],
)
def test_the_workload_goes_to_few_blocks_and_few_operations_at_once(
    least: dict[str, int], left: tuple[int, ...]
):
    def fails(candidate: Candidate) -> bool:
        return all(getattr(candidate.rest.workload, name) >= value for name, value in least.items())

    found = reduced(reductions.simplest_workload, a_test(step("pause")), Asked(fails)).rest.workload
    assert tuple(getattr(found, name) for name in ("blocks", "hot_blocks", "queue_depth")) == left
    assert getattr(found, "burst_fraction", None) == 0


def test_a_test_with_faults_gets_a_limit_that_is_enough_for_a_slower_machine():
    asked = Asked(lambda _candidate: True)
    whole = a_test(step("pause"), time_limit_s=300)
    assert reduced(reductions.shortest_time, whole, asked, 12.3).rest.time_limit_s == 37
    assert reduced(reductions.shortest_time, whole, asked, 1.0).rest.time_limit_s == 15
    assert reduced(reductions.shortest_time, whole, asked, 200.0) == whole


def test_a_test_without_faults_is_as_short_as_still_fails():
    asked = Asked(lambda candidate: candidate.spec().time_limit_s > 2)
    left = reduced(reductions.shortest_time, a_test(time_limit_s=300), asked, 5.0)
    assert left.spec().time_limit_s == 2.5
    assert [spec.time_limit_s for spec in asked.specs] == [2.5, 1.25]


def test_candidates_share_their_key_only_if_they_say_the_same():
    specs = [a_test(step("pause")).spec(), a_test(step("pause", 0.4)).spec(), a_test().spec()]
    assert len({key_of(spec) for spec in specs}) == 3
    assert key_of(a_test(step("pause")).spec()) == key_of(specs[0])


def test_many_faults_are_told_in_a_few_words():
    steps = [step("pause")] * 3 + [step(name) for name in ("hold", "migrate", "reset", "freeze", "loss")]
    assert told(steps) == "pause x3, hold, migrate, reset, 2 more"
    assert told(()) == "no fault"
