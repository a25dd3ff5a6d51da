"""From the schedule of a specification and a seed to the plan of a test; the same plan every time.

Pure: no clock and no state but the seed's. How long a fault takes is known from below only, so a part that
is bounded by time is unrolled as if each fault took its least time. That plans every fault that could begin;
while the test runs, those that would come too late are left out, from the end of the part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import fsum
from random import Random
from typing import Any

from jepsen_blk.cue_spec import Cue
from jepsen_blk.errors import SpecError
from jepsen_blk.schedule_spec import (
    Composite,
    CycleSpec,
    DuringSpec,
    FaultSpec,
    Item,
    MixSpec,
    OneOfSpec,
    PhasesSpec,
    RangeSpec,
    Schedule,
    SequenceSpec,
    faults_of,
    is_endless,
    overlaps_of,
)
from jepsen_blk.spec import NemesisSpec, Spec, StorageSpec
from nemesis.catalogue import check_storage, default_options, make_fault
from nemesis.fault import Fault
from nemesis.overlap import check_cue, check_during
from nemesis.plan import Plan, Step

_PAUSE_S: float = NemesisSpec.model_fields["after_s"].default
_MOST_STEPS = 100_000
_DIGITS = 3
"""Times are drawn to the millisecond, so that a plan can be read."""
_DURATION = "duration_s"
"""What a fault calls the option that says how long it stands."""


def check_faults(spec: Spec) -> None:
    """Make every fault of a specification once; raises SpecError for an unknown fault or option,
    for a fault that the storage does not offer, for one that may not come during another, and for a cue that
    cannot come where it is.

    Options that are drawn are tried with the ends of their range and with each choice: a mistake must not
    wait for the seed that draws it.
    """
    for step in spec.nemesis:
        check_storage(make_fault(step.fault, step.options), spec.storage)
        check_cue(step.fault, step.when, ())
    for item in faults_of(spec.schedule) if spec.schedule else ():
        for options in _extremes(item.options):
            check_storage(make_fault(item.fault, options), spec.storage)
        check_cue(item.fault, item.when, _around(spec.schedule, item))
    for outer, inner in overlaps_of(spec.schedule) if spec.schedule else ():
        for standing in _extremes(outer.options):
            for options in _extremes(inner.options):
                check_during(make_fault(outer.fault, standing), make_fault(inner.fault, options))


def _around(schedule: Schedule | None, item: FaultSpec) -> Iterator[Fault]:
    """Make every fault that stands while the item comes, as it is drawn first."""
    for outer, inner in overlaps_of(schedule) if schedule else ():
        if inner is item:
            yield make_fault(outer.fault, next(_extremes(outer.options)))


def check_plan(plan: Plan, storage: StorageSpec) -> None:
    """Make every fault of a plan; raises SpecError as check_faults does."""
    _check_steps(plan.steps, storage, ())


def _check_steps(steps: Sequence[Step], storage: StorageSpec, around: tuple[Fault, ...]) -> None:
    for step in steps:
        fault = make_fault(step.fault, step.options)
        check_storage(fault, storage)
        check_cue(fault.name, step.when, around)
        for outer in around:
            check_during(outer, fault)
        _check_steps(step.during, storage, (*around, fault))


def make_plan(spec: Spec) -> Plan:
    """Return the plan of a specification, drawn from its seed.

    Raises SpecError as check_faults does, and for a schedule that does not fit in its time or has too many
    faults for it.
    """
    check_faults(spec)
    if spec.schedule is None:
        return Plan(
            tuple(
                _step(item.fault, item.options, item.after_s, when=item.when)
                for item in spec.nemesis
                for _ in range(item.repeat)
            )
        )
    plan = _plan_schedule(spec.schedule, spec)
    check_plan(plan, spec.storage)
    return plan


def _plan_schedule(schedule: Schedule, spec: Spec) -> Plan:
    planner = _Planner(spec.seed, spec.time_limit_s)
    if isinstance(schedule, PhasesSpec):
        planner.add_phases(schedule)
        return Plan(tuple(planner.steps), schedule.lasts_s)
    planner.add(schedule, _Place())
    end_s = spec.time_limit_s if is_endless(schedule) else schedule.until_s
    return Plan(tuple(planner.steps), min(end_s or 0.0, spec.time_limit_s))


@dataclass(frozen=True, slots=True)
class _Place:
    """What the tables around an item say about it."""

    origin_s: float = 0.0
    until_s: float | None = None
    stagger_s: float | None = None


class _Planner:
    """Unrolls items into steps, and knows when those it has would end at the earliest."""

    def __init__(self, seed: int, limit_s: float) -> None:
        self.steps: list[Step] = []
        """Of the items that are unrolled now: those during a fault are gathered by themselves."""
        self._count = 0
        self._now_s = 0.0
        self._limit_s = limit_s
        # Of random.Random only random() is promised to be the same in every version of Python.
        self._random = Random(f"schedule {seed}").random

    def add_phases(self, phases: PhasesSpec) -> None:
        """Add each phase in its own time."""
        origin_s = 0.0
        for phase in phases.items:
            end_s = origin_s + (phase.for_s or 0.0)
            before = len(self.steps)
            self.add(phase, _Place(origin_s, end_s))
            self._require_more_than(before, end_s)
            origin_s = end_s

    def add(self, item: Item, place: _Place) -> bool:
        """Add an item; tell whether there may be time for what follows."""
        if isinstance(item, FaultSpec):
            return all(self._add_fault(item, place) for _ in range(item.repeat))
        if item.stagger_s is not None:
            place = replace(place, stagger_s=item.stagger_s)
        end_s = self._end_s(item, place)
        if end_s is None:
            return self._add_parts(item, place)
        before = len(self.steps)
        self._add_parts(item, replace(place, until_s=end_s))
        self._require_more_than(before, end_s)
        return True

    def _add_parts(self, item: Composite, place: _Place) -> bool:
        if isinstance(item, DuringSpec):
            return self._add_during(item, place)
        return all(self.add(part, place) for part in self._played(item))

    def _end_s(self, item: Composite, place: _Place) -> float | None:
        """Return when an item's own time is over, if it has one beside that of its place."""
        around_s = self._limit_s if place.until_s is None else place.until_s
        if item.until_s is not None:
            return min(place.origin_s + item.until_s, around_s)
        return around_s if place.until_s is None and _needs_end(item) else None

    def _require_more_than(self, before: int, end_s: float) -> None:
        if len(self.steps) == before:
            raise SpecError(
                f"schedule: no fault fits in the part that ends at {end_s:g} s; give it more time"
            )

    def _played(self, item: Composite) -> Iterator[Item]:
        """Yield the items in the order they are played, without end where only time ends them."""
        if isinstance(item, SequenceSpec | DuringSpec):
            yield from item.items
            return
        for _ in range(item.repeat) if item.repeat else count():
            yield from item.items if isinstance(item, CycleSpec) else (self._pick(item),)

    def _pick(self, mix: MixSpec) -> Item:
        weights = [1.0 if item.weight is None else item.weight for item in mix.items]
        left = self._random() * fsum(weights)
        for item, weight in zip(mix.items, weights, strict=True):
            left -= weight
            if left < 0:
                return item
        return mix.items[-1]  # what rounding left over

    def _add_fault(self, item: FaultSpec, place: _Place) -> bool:
        step = self._draw_step(item, place)
        begin_s = step.begin_s(self._now_s)
        if not step.fits(begin_s):
            return False
        self._now_s = begin_s + step.least_s
        self._count += 1
        self._append(step, self._count)
        return True

    def _add_during(self, item: DuringSpec, place: _Place) -> bool:
        """Add a fault and what comes during it, if that is one fault at least."""
        step = self._draw_step(item.fault, place)
        begin_s = step.begin_s(self._now_s)
        if not step.fits(begin_s):
            return False
        before_s, around, self.steps = self._now_s, self.steps, []
        self._now_s = begin_s
        self._count += 1
        number = self._count
        more = all(self.add(part, place) for part in self._played(item))
        inner, self.steps = tuple(self.steps), around
        if not inner:
            self._now_s, self._count = before_s, number - 1
            return False
        self._now_s = max(begin_s + step.least_s, self._now_s)
        self._append(replace(step, during=inner), number)
        return more

    def _draw_step(self, item: FaultSpec, place: _Place) -> Step:
        after_s = self._pause_s(item, place)
        options = {name: self._draw(value) for name, value in item.options.items()}
        from_s = place.origin_s + (item.at_s or 0.0)
        return _step(item.fault, options, after_s, from_s, place.until_s, item.when)

    def _append(self, step: Step, number: int) -> None:
        """Add a step that ends now at the earliest."""
        if step.until_s is None and self._now_s > self._limit_s:
            raise SpecError(
                f"schedule: fault {number}, {step.fault}, ends at {self._now_s:g} s at the "
                f"earliest, and time_limit_s is {self._limit_s:g}; raise it"
            )
        if number > _MOST_STEPS:
            raise SpecError(
                f"schedule: more than {_MOST_STEPS:,} faults could begin in its time; "
                "give them a longer after_s, or the schedule a stagger_s"
            )
        self.steps.append(step)

    def _pause_s(self, item: FaultSpec, place: _Place) -> float:
        if item.at_s is not None:
            return 0.0
        if item.after_s is not None:
            return item.after_s
        if place.stagger_s is not None:
            return round(2 * place.stagger_s * self._random(), _DIGITS)
        return _PAUSE_S

    def _draw(self, value: Any) -> Any:
        if isinstance(value, OneOfSpec):
            return value.one_of[int(self._random() * len(value.one_of))]
        if not isinstance(value, RangeSpec):
            return value
        low, high = value.min, value.max
        if isinstance(low, int) and isinstance(high, int):
            return low + int(self._random() * (high - low + 1))
        return min(max(low, round(low + (high - low) * self._random(), _DIGITS)), high)


def _needs_end(item: Composite) -> bool:
    """Tell whether it ends with the time limit; a sequence ends before what has no end itself."""
    if isinstance(item, DuringSpec):
        return is_endless(item)
    return not isinstance(item, SequenceSpec) and item.repeat == 0


def _step(
    fault: str,
    options: dict[str, Any],
    after_s: float,
    from_s: float = 0.0,
    until_s: float | None = None,
    when: Cue | None = None,
) -> Step:
    """Make a step with all options of the fault: defaults may change, and a replay must not."""
    complete = {**default_options(fault), **options}
    return Step(fault, complete, after_s, from_s, until_s, when, float(complete.get(_DURATION, 0.0)))


def _extremes(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield options in which every end of a range and every choice comes once at least."""
    choices = {name: _choices(value) for name, value in options.items()}
    for number in range(max(map(len, choices.values()), default=1)):
        yield {name: values[min(number, len(values) - 1)] for name, values in choices.items()}


def _choices(value: Any) -> Sequence[Any]:
    if isinstance(value, OneOfSpec):
        return value.one_of
    return (value.min, value.max) if isinstance(value, RangeSpec) else (value,)
