"""Shrinking without a lab: what is run is written down, and a script says how it ends."""

import io
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from jepsen_blk.shrink.budget import parse_budget
from jepsen_blk.shrink.candidate import Candidate, Form
from jepsen_blk.shrink.record import RUNS, Ran
from jepsen_blk.shrink.session import FOLDER, Effort, shrink_run
from jepsen_blk.shrink.subject import Subject
from jepsen_blk.spec import Spec, dump_spec, make_spec
from nemesis.catalogue import default_options
from nemesis.plan import Plan, Step
from nemesis.schedule import make_plan

STALE = "stale-overwrite"
NUMBERS = itertools.count(1)


def step(fault: str, after_s: float = 0.3, *during: Step, **options: Any) -> Step:
    complete = {**default_options(fault), **options}
    least_s = float(complete.get("duration_s", 0))
    return Step(fault, complete, after_s, least_s=least_s, during=during)


def names(steps: Sequence[Step]) -> list[str]:
    """Return the faults, those during others after these."""
    return [name for step in steps for name in (step.fault, *names(step.during))]


def faults(spec: Spec) -> list[str]:
    return names(make_plan(spec).steps)


class Scripted:
    """Takes the place of the lab; `answer` gives the verdict, or raises."""

    def __init__(self, run_dir: Path, answer: Callable[[Spec], str], kind: str = STALE) -> None:
        self._runs_dir = run_dir / FOLDER / RUNS
        self._answer = answer
        self._kind = kind
        self.specs: list[Spec] = []

    async def __call__(self, spec: Spec) -> Ran:
        self.specs.append(spec)
        run = f"{spec.name}/{next(NUMBERS)}"
        (self._runs_dir / run).mkdir(parents=True)
        verdict = self._answer(spec)
        return Ran(verdict, (self._kind,) if verdict == "fail" else (), 2.0, run)

    @property
    def counts(self) -> Counter[str]:
        """How often each specification was run."""
        return Counter(dump_spec(spec) for spec in self.specs)

    def kept(self) -> list[Path]:
        """Return the runs that are still on the disk."""
        return [run for run in self._runs_dir.glob("*/*") if not run.parent.is_symlink()]


def fails_by(*culprits: str) -> Callable[[Spec], str]:
    """Return an answer: it fails if it has all these faults."""
    return lambda spec: "fail" if not Counter(culprits) - Counter(faults(spec)) else "pass"


def subject(run_dir: Path, *steps: Step, **spec: Any) -> Subject:
    rest = make_spec({"name": "t-shrunk", **spec})
    form = Form(Candidate(rest, steps), "all that came")
    return Subject(run_dir, rest, Plan(steps), frozenset({STALE}), (form,))


def shrink(
    subject: Subject,
    run: Scripted,
    *,
    attempts: int = 3,
    budget: str = "1000",
    confirm: int = 2,
    clock: Callable[[], float] = lambda: 0.0,
) -> tuple[int, str]:
    """Shrink into shrunk.toml beside the run; return the exit code and what was printed."""
    out = io.StringIO()
    effort = Effort(attempts, confirm, parse_budget(budget, clock))
    console = Console(file=out, width=200, highlight=False)
    code = shrink_run(subject, subject.run_dir / "shrunk.toml", effort, console, run)
    return code, out.getvalue()
