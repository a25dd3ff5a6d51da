"""An earlier run to be played again: its specification, and its plan as it was drawn then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jepsen_blk.errors import UserError
from jepsen_blk.judge import SPEC
from jepsen_blk.spec import Spec, load_spec
from jepsen_blk.store import find_run
from nemesis.plan import PLAN, Plan, read_plan
from nemesis.schedule import check_plan


@dataclass(frozen=True, slots=True)
class Repeated:
    """The run that a test repeats, and its plan."""

    run_dir: Path
    plan: Plan


def load_repeated(path: Path, name: str | None = None) -> tuple[Spec, Repeated]:
    """Return the specification of a stored run, called `name` if it is given, and its plan.

    Raises UserError for what is no run or has no readable plan, SpecError for a fault that there is no more,
    or that may come during another no more.
    """
    run_dir = find_run(path)
    spec = load_spec(run_dir / SPEC, {"name": name} if name else {})
    if not (run_dir / PLAN).is_file():
        raise UserError(
            f"{path}: the run has no {PLAN}; run its specification: `jepsen-blk test {path / SPEC}`"
        )
    plan = read_plan(run_dir)
    check_plan(plan, spec.storage)
    return spec, Repeated(run_dir, plan)
