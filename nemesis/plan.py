"""The plan of a test: which fault comes when, fixed before the test begins.

A schedule may draw its faults; the plan is what was drawn, so that it can be read before the run, is stored
with it, and can be played again when the drawing itself has changed. Faults run one after another and most
take as long as they take, so a plan says when a fault begins at the earliest, never when exactly.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from jepsen_blk.errors import UserError

PLAN = "plan.json"
Seconds = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Step:
    """One fault of the plan. Times are seconds since the schedule began."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    fault: str
    options: dict[str, Any] = field(default_factory=dict)
    after_s: Seconds = 0.0
    """The pause before it, from the end of the fault before."""
    from_s: Seconds = 0.0
    """The pause does not begin before this."""
    until_s: Seconds | None = None
    """It does not begin if it would not end by this."""
    least_s: Seconds = 0.0
    """How long it takes at least."""

    def begin_s(self, now_s: float) -> float:
        """Return when it begins if the one before ended at `now_s`."""
        return max(now_s, self.from_s) + self.after_s

    def fits(self, begin_s: float) -> bool:
        """Tell whether it may begin then."""
        return self.until_s is None or begin_s + self.least_s <= self.until_s


@dataclass(frozen=True, slots=True)
class Plan:
    """The faults of a test in their order; the workload goes on for `lasts_s` at least."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    steps: tuple[Step, ...] = ()
    lasts_s: Seconds = 0.0

    @property
    def earliest_s(self) -> tuple[float, ...]:
        """When each step begins if each takes its least time."""
        begins: list[float] = []
        now_s = 0.0
        for step in self.steps:
            begins.append(step.begin_s(now_s))
            now_s = begins[-1] + step.least_s
        return tuple(begins)

    @property
    def least_s(self) -> float:
        """How long it takes at least."""
        ends = [begin_s + step.least_s for begin_s, step in zip(self.earliest_s, self.steps, strict=True)]
        return max((self.lasts_s, *ends))


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
        mistakes = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or PLAN}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise UserError(f"{path}: not a plan: {mistakes}") from error
