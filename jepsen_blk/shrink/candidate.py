"""What is tried: a specification whose faults are written out, one by one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from jepsen_blk.spec import Spec, change_spec, dump_spec
from nemesis.explicit import explicit
from nemesis.plan import Step
from nemesis.schedule import make_plan

ALONE_S = 5.0
"""How long the workload runs at most where no fault is left."""
_SHOWN = 4

Place: TypeAlias = tuple[int, ...]
"""Where a fault is: its number, and before that those of the faults that it comes during."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Faults, one after another or during others, and the rest of the test, whose own faults do not count."""

    rest: Spec
    steps: tuple[Step, ...]

    def spec(self) -> Spec:
        """Return the specification, which makes exactly these faults; SpecError if they cannot be played."""
        changes = explicit(self.steps)
        if not self.steps:
            changes["time_limit_s"] = min(self.rest.time_limit_s, ALONE_S)
        spec = change_spec(self.rest, changes)
        make_plan(spec)
        return spec

    def with_rest(self, **changes: Any) -> Candidate:
        """Return the same faults with changes of the rest; raises SpecError for what cannot be."""
        changes = {"nemesis": [], "schedule": None, **changes}
        return replace(self, rest=change_spec(self.rest, changes))

    @property
    def places(self) -> list[Place]:
        """Where there are faults."""
        return list(_places(self.steps))

    def at(self, place: Place) -> Step:
        """Return the fault at a place."""
        return self.during(place[:-1])[place[-1]]

    def during(self, place: Place) -> tuple[Step, ...]:
        """Return what comes during the fault at a place, or the outermost faults for no place."""
        steps = self.steps
        for number in place:
            steps = steps[number].during
        return steps

    def put(self, place: Place, step: Step) -> Candidate:
        """Return the same test with another fault at a place."""
        around, number = place[:-1], place[-1]
        steps = self.during(around)
        return self.put_during(around, (*steps[:number], step, *steps[number + 1 :]))

    def put_during(self, place: Place, steps: Sequence[Step]) -> Candidate:
        """Return the same test with other faults during the one at a place, or as the outermost."""
        if not place:
            return replace(self, steps=tuple(steps))
        return self.put(place, replace(self.at(place), during=tuple(steps)))

    @property
    def count(self) -> int:
        """How many faults it has, with those during others."""
        return sum(step.count for step in self.steps)


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write down what the run did, to begin with."""

    candidate: Candidate
    what: str


def key_of(spec: Spec) -> str:
    """Return what two specifications share only if they say the same."""
    return hashlib.sha256(dump_spec(spec).encode()).hexdigest()[:16]


def told(steps: Sequence[Step]) -> str:
    """Return the faults in a few words, what comes during others in brackets."""
    return in_few_words(_names(steps)) or "no fault"


def in_few_words(names: Iterable[str]) -> str:
    """Return the first few of the names, with how often each comes, and how many more there are."""
    counts = Counter(names)
    shown = [name if count == 1 else f"{name} x{count}" for name, count in counts.items()]
    more = sum(list(counts.values())[_SHOWN:])
    return ", ".join([*shown[:_SHOWN], *([f"{more} more"] if more else [])])


def _names(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        yield f"{step.fault} ({told(step.during)} during it)" if step.during else step.fault


def _places(steps: Sequence[Step]) -> Iterator[Place]:
    for number, step in enumerate(steps):
        yield (number,)
        yield from ((number, *inner) for inner in _places(step.during))
