"""A plan on the terminal, before anything runs: what comes when, and what the times mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jepsen_blk.spec import Spec
from nemesis.plan import Plan, plan_to_json


def print_plan(spec: Spec, plan: Plan, console: Console) -> None:
    """Print the plan as a table, and under it how to read it."""
    head = f"plan of test {spec.name}: {_count(plan)} from seed {spec.seed}, {plan.least_s:g} s at least"
    console.print(Text(head, style="bold"), soft_wrap=True)
    if plan.steps:
        console.print(_table(plan_object(spec, plan)["steps"], _is_bounded(plan)))
    for line in _legend(spec, plan):
        console.print(Text(line, style="dim"), soft_wrap=True)


def plan_object(spec: Spec, plan: Plan) -> dict[str, Any]:
    """Return the plan as the object that is printed for programs."""
    told = plan_to_json(plan)
    for step, begin_s in zip(told["steps"], plan.earliest_s, strict=True):
        step["earliest_s"] = round(begin_s, 3)
    about = {"name": spec.name, "seed": spec.seed, "time_limit_s": spec.time_limit_s}
    return {**about, "least_s": round(plan.least_s, 3), **told}


def _table(told: Sequence[Mapping[str, Any]], bounded: bool) -> Table:
    table = Table(header_style="bold", pad_edge=False, box=None)
    for column in ("#", "from", "pause", *(("ends by",) if bounded else ())):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("fault", no_wrap=True)
    table.add_column("options", overflow="fold")  # what was drawn has to be read whole
    for number, step in enumerate(told, start=1):
        cells = [f"{number}", f"{step['earliest_s']:.1f} s", f"{step['after_s']:g} s"]
        if bounded:
            cells.append("" if step["until_s"] is None else f"{step['until_s']:g} s")
        table.add_row(*cells, Text(step["fault"]), Text(_options(step["options"])))
    return table


def _legend(spec: Spec, plan: Plan) -> Iterator[str]:
    if not plan.steps:
        yield f"no faults: the workload runs alone for time_limit_s = {spec.time_limit_s:g}"
        return
    yield "from: when it begins at the earliest: each fault takes its duration_s at least, most take longer"
    yield "pause: between the end of the fault before it and its begin"
    if _is_bounded(plan):
        yield (
            "ends by: the first fault that could not end by then is left out with the rest of its part; "
            "so fewer are played than are planned"
        )
    if any(step.until_s is None for step in plan.steps):
        yield f"what is not done by time_limit_s = {spec.time_limit_s:g} is cut off; it makes a pass unknown"


def _is_bounded(plan: Plan) -> bool:
    return any(step.until_s is not None for step in plan.steps)


def _count(plan: Plan) -> str:
    return "1 fault" if len(plan.steps) == 1 else f"{len(plan.steps):,} faults"


def _options(options: Mapping[str, Any]) -> str:
    """Write options as --nemesis takes them."""
    return ",".join(f"{name}={_value(value)}" for name, value in options.items())


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
