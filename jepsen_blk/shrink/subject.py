"""The run that is to be shrunk: how it failed, and the ways to write down what it did."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from jepsen_blk.errors import UserError
from jepsen_blk.history.events import read_events
from jepsen_blk.judge import EVENTS, judge_run
from jepsen_blk.replay import load_repeated
from jepsen_blk.shrink.candidate import Candidate, Form
from jepsen_blk.spec import Spec, change_spec
from nemesis.explicit import dated, undated
from nemesis.plan import Plan, Step

_SUFFIX = "-shrunk"
_LONGEST_NAME = 64
_LONGEST_LIMIT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A run that failed."""

    run_dir: Path
    spec: Spec
    plan: Plan
    kinds: frozenset[str]
    forms: tuple[Form, ...]
    """What to begin with, the shortest first."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A fault that the run began, and the number of the one that it came during, or 0."""

    number: int
    during: int
    name: str


def load_subject(path: Path) -> Subject:
    """Return the run, judged again.

    Raises UserError for what is no run, has no plan or has not failed, SpecError for a fault that is no more.
    """
    spec, repeated = load_repeated(path)
    results = judge_run(repeated.run_dir)
    if results["verdict"] != "fail":
        raise UserError(
            f"{path}: the verdict of this run is {results['verdict']}; only one that failed can be shrunk"
        )
    kinds = frozenset(str(anomaly["kind"]) for anomaly in results["anomalies"])
    forms = tuple(_forms(spec, repeated.plan, repeated.run_dir, float(results["duration_s"])))
    return Subject(repeated.run_dir, spec, repeated.plan, kinds, forms)


def _forms(spec: Spec, plan: Plan, run_dir: Path, took_s: float) -> Iterator[Form]:
    """Yield the ways in which the run can be written down; those that say the same once.

    A schedule plans what could come in time. What did come is in the events, and what came after the first
    anomaly has not caused it.
    """
    begun, before_anomaly = _begun(run_dir)
    name = spec.name if spec.name.endswith(_SUFFIX) else spec.name[: _LONGEST_NAME - len(_SUFFIX)] + _SUFFIX
    # What is not bounded by time any more must not be cut off by it.
    limit_s = min(max(spec.time_limit_s, float(ceil(took_s))), _LONGEST_LIMIT_S)
    rest = change_spec(spec, {"name": name, "time_limit_s": limit_s, "nemesis": [], "schedule": None})
    early = change_spec(rest, {"stop_on_fail": True})
    whole, until_anomaly = played(plan.steps, begun), played(plan.steps, before_anomaly)
    forms = (
        Form(Candidate(early, undated(until_anomaly)), "what came until the first anomaly"),
        Form(Candidate(rest, undated(whole)), "all that came"),
        Form(Candidate(rest, dated(whole)), "all that came, at its time"),
    )
    known: list[Candidate] = []
    for form in forms:
        if form.candidate not in known:
            known.append(form.candidate)
            yield form


def _begun(run_dir: Path) -> tuple[list[Begun], list[Begun]]:
    """Return the faults that the run began, and those that it began before its first anomaly was seen."""
    begun: list[Begun] = []
    before: list[Begun] | None = None
    for event in read_events(run_dir / EVENTS):
        if (event.source, event.phase) == ("fault", "setup"):
            begun.append(Begun(event.number, int(event.data.get("during", 0)), event.name))
        elif (event.source, event.phase) == ("checker", "seen") and before is None:
            before = list(begun)
    return begun, begun if before is None else before


def played(steps: Sequence[Step], begun: Sequence[Begun], around: int = 0) -> tuple[Step, ...]:
    """Return the steps that were begun during fault number `around` (0: during none).

    They were begun in the order of the plan, and some were left out. If what was begun cannot be found in the
    plan so, all steps are returned.
    """
    left = deque(fault for fault in begun if fault.during == around)
    found = []
    for step in steps:
        if left and left[0].name == step.fault:
            fault = left.popleft()
            found.append(replace(step, during=played(step.during, begun, fault.number)))
    return tuple(steps) if left else tuple(found)
