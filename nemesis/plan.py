"""The plan of a test: which fault comes when, fixed before the test begins.

A schedule may draw its faults; the plan is what was drawn, so that it can be read before the run, is stored
with it, and can be played again when the drawing itself has changed. Faults come one after another, or while
another one stands, and most take as long as they take, so a plan says when a fault begins at the earliest,
never when exactly.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from jepsen_blk.cue_spec import Cue
from jepsen_blk.errors import UserError
from jepsen_blk.mistakes import mistakes

PLAN = "plan.json"
Seconds = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Step:
    """One fault of the plan. Times are seconds since the schedule began."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    fault: str
    options: dict[str, Any] = field(default_factory=dict)
    after_s: Seconds = 0.0
    """The pause before it, from the end of the fault before or the proof of the one that it comes during."""
    from_s: Seconds = 0.0
    """The pause does not begin before this."""
    until_s: Seconds | None = None
    """It does not begin if it would not end by this."""
    when: Cue | None = None
    """What it waits for after the pause, before it begins."""
    least_s: Seconds = 0.0
    """How long it takes at least, without what comes during it."""
    during: tuple[Step, ...] = ()
    """What comes while it stands; it is healed when they are over, and not before its own time."""

    def begin_s(self, now_s: float) -> float:
        """Return when it begins if the one before ended at `now_s`."""
        return max(now_s, self.from_s) + self.after_s

    def fits(self, begin_s: float) -> bool:
        """Tell whether it may begin then, with one fault at least of those that come during it."""
        if self.until_s is not None and begin_s + self.least_s > self.until_s:
            return False
        return not self.during or any(step.fits(step.begin_s(begin_s)) for step in self.during)

    @property
    def count(self) -> int:
        """How many faults it is, with those during it."""
        return 1 + sum(step.count for step in self.during)


@dataclass(frozen=True, slots=True)
class Dated:
    """A step with its times if every step takes its least; it comes during `depth` others."""

    step: Step
    begin_s: float
    end_s: float
    depth: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The faults of a test in their order; the workload goes on for `lasts_s` at least."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    steps: tuple[Step, ...] = ()
    lasts_s: Seconds = 0.0

    @property
    def dated(self) -> Sequence[Dated]:
        """Every step, those during it after it."""
        return _dated(self.steps, 0.0, 0)

    @property
    def count(self) -> int:
        """How many faults it has."""
        return sum(step.count for step in self.steps)

    @property
    def least_s(self) -> float:
        """How long it takes at least."""
        return max((self.lasts_s, *(dated.end_s for dated in self.dated)))


def _dated(steps: Sequence[Step], now_s: float, depth: int) -> list[Dated]:
    dated: list[Dated] = []
    for step in steps:
        begin_s = step.begin_s(now_s)
        inner = _dated(step.during, begin_s, depth + 1)
        now_s = max((begin_s + step.least_s, *(item.end_s for item in inner)))
        dated += [Dated(step, begin_s, now_s, depth), *inner]
    return dated


def is_script(value: Any) -> bool:
    """Tell whether the value of an option is a list of tables, which are the steps of a script."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, dict) for item in value)


_PLAN = TypeAdapter(Plan)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return the object of plan.json."""
    told: dict[str, Any] = _PLAN.dump_python(plan, mode="json")
    return told


def write_plan(run_dir: Path, plan: Plan) -> None:
    """Store the plan with its run."""
    (run_dir / PLAN).write_text(json.dumps(plan_to_json(plan), indent=1) + "\n", encoding="utf-8")


def read_plan(run_dir: Path) -> Plan:
    """Read the plan of a stored run; raises UserError naming the file and every mistake in it."""
    path = run_dir / PLAN
    try:
        return _PLAN.validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot read the plan of the run: {error.strerror}") from error
    except ValidationError as error:
        raise UserError(f"{path}: not a plan: {mistakes(error)}") from error
