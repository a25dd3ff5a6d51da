"""A plan on the terminal, before anything runs: what comes when, and what the times mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jepsen_blk.cue_spec import describe_cue
from jepsen_blk.spec import Spec
from nemesis.plan import Plan, is_script, plan_to_json

_INDENT = "  "


def print_plan(spec: Spec, plan: Plan, console: Console) -> None:
    """Print the plan as a table, and under it how to read it."""
    head = f"plan of test {spec.name}: {_count(plan)} from seed {spec.seed}, {plan.least_s:g} s at least"
    console.print(Text(head, style="bold"), soft_wrap=True)
    if plan.steps:
        console.print(_table(plan))
    for line in _legend(spec, plan):
        console.print(Text(line, style="dim"), soft_wrap=True)


def plan_object(spec: Spec, plan: Plan) -> dict[str, Any]:
    """Return the plan as the object that is printed for programs."""
    told = plan_to_json(plan)
    for step, dated in zip(_told(told["steps"]), plan.dated, strict=True):
        step["earliest_s"] = round(dated.begin_s, 3)
    about = {"name": spec.name, "seed": spec.seed, "time_limit_s": spec.time_limit_s}
    return {**about, "least_s": round(plan.least_s, 3), **told}


def _told(steps: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the objects of the steps in the order of Plan.dated."""
    for step in steps:
        yield step
        yield from _told(step["during"])


def _table(plan: Plan) -> Table:
    bounded = _is_bounded(plan)
    table = Table(header_style="bold", pad_edge=False, box=None)
    for column in ("#", "from", "pause", *(("ends by",) if bounded else ())):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("fault", no_wrap=True)
    if _has_cues(plan):
        table.add_column("when", overflow="fold")
    table.add_column("options", overflow="fold")  # what was drawn has to be read whole
    for number, dated in enumerate(plan.dated, start=1):
        step = dated.step
        cells = [f"{number}", f"{dated.begin_s:.1f} s", f"{step.after_s:g} s"]
        if bounded:
            cells.append("" if step.until_s is None else f"{step.until_s:g} s")
        fault = f"{_INDENT * dated.depth}{step.fault}"
        cues = [Text(describe_cue(step.when) if step.when else "")] if _has_cues(plan) else []
        table.add_row(*cells, Text(fault), *cues, Text(_options(step.options)))
    return table


def _legend(spec: Spec, plan: Plan) -> Iterator[str]:
    if not plan.steps:
        yield f"no faults: the workload runs alone for time_limit_s = {spec.time_limit_s:g}"
        return
    yield "from: when it begins at the earliest: each fault takes its duration_s at least, most take longer"
    yield "pause: between the end of the fault before it and its begin"
    if _has_cues(plan):
        yield (
            "when: after the pause it waits until that is seen, and begins then; what is not seen within its "
            "timeout_s makes the fault not proven"
        )
    if any(step.during for step in plan.steps):
        yield (
            "indented: during the fault above, from its proof on; that one stands until they are over, and "
            "for its duration_s at least"
        )
    if _is_bounded(plan):
        yield (
            "ends by: the first fault that could not end by then is left out with the rest of its part; "
            "so fewer are played than are planned"
        )
    if any(dated.step.until_s is None for dated in plan.dated):
        yield f"what is not done by time_limit_s = {spec.time_limit_s:g} is cut off; it makes a pass unknown"


def _has_cues(plan: Plan) -> bool:
    return any(dated.step.when for dated in plan.dated)


def _is_bounded(plan: Plan) -> bool:
    return any(dated.step.until_s is not None for dated in plan.dated)


def _count(plan: Plan) -> str:
    return "1 fault" if plan.count == 1 else f"{plan.count:,} faults"


def _options(options: Mapping[str, Any]) -> str:
    """Write options as --nemesis takes them, and a list of tables, which is a script, a line each."""
    scripts = [value for value in options.values() if is_script(value)]
    plain = ",".join(_setting(name, value) for name, value in options.items() if value not in scripts)
    steps = [
        f"{number:>2} {_line(step)}" for script in scripts for number, step in enumerate(script, start=1)
    ]
    return "\n".join(([plain] if plain else []) + steps)


def _line(step: Mapping[str, Any]) -> str:
    return " ".join(value if name == "do" else _setting(name, value) for name, value in step.items())


def _setting(name: str, value: Any) -> str:
    return f"{name}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
