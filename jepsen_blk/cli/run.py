"""The verbs of the command line that run a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jepsen_blk.cli.check import EXIT_OF_VERDICT
from jepsen_blk.errors import EXIT_PASS

if TYPE_CHECKING:
    from jepsen_blk.replay import Repeated
    from jepsen_blk.spec import Spec
    from nemesis.plan import Plan

Store = Annotated[Path, typer.Option(help="Where runs are kept.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan of faults and run nothing.")]
PlanAsJson = Annotated[bool, typer.Option("--json", help="With --dry-run: print one JSON object.")]
KeepLab = Annotated[bool, typer.Option("--keep-lab", help="Leave the lab up until Ctrl-C.")]


def run(
    spec: Annotated[Path | None, typer.Argument(metavar="SPEC.toml", help="The specification.")] = None,
    lab: Annotated[
        str | None, typer.Option(help="Where it runs: local (QEMU) or sim; local if that can be had.")
    ] = None,
    conflict: Annotated[str | None, typer.Option(help="The storage's conflict model.")] = None,
    storage: Annotated[str | None, typer.Option(help="The kind of storage.")] = None,
    handoff: Annotated[str | None, typer.Option(help="The recovery policy.")] = None,
    nemesis: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:KEY=VALUE,...]", help="A fault; repeat for a schedule."),
    ] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds at most.")] = None,
    stop_on_fail: Annotated[
        bool | None, typer.Option("--stop-on-fail/--no-stop-on-fail", help="Stop at the first anomaly.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of everything random.")] = None,
    name: Annotated[str | None, typer.Option(help="The test's name in the store.")] = None,
    store: Store = Path("store"),
    keep_lab: KeepLab = False,
    dry_run: DryRun = False,
    as_json: PlanAsJson = False,
) -> int:
    """Run one test; options lay over the specification."""
    from jepsen_blk.options import read_spec

    _refuse_json_of_a_run(as_json, dry_run)
    given = {
        "name": name,
        "lab": lab,
        "seed": seed,
        "time_limit_s": time_limit,
        "stop_on_fail": stop_on_fail,
        "storage.conflict": conflict,
        "storage.kind": storage,
        "handoff.policy": handoff,
    }
    specification = read_spec(spec, given, nemesis or ())
    if dry_run:
        from nemesis.schedule import make_plan

        return _show_plan(specification, make_plan(specification), as_json)
    return _run(specification, store, keep_lab)


def replay(
    path: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run; without one the newest.")] = None,
    name: Annotated[str | None, typer.Option(help="The new test's name in the store.")] = None,
    store: Store = Path("store"),
    keep_lab: KeepLab = False,
    dry_run: DryRun = False,
    as_json: PlanAsJson = False,
) -> int:
    """Run the test of a stored run again, with exactly its plan of faults."""
    from jepsen_blk.replay import load_repeated
    from jepsen_blk.store import latest

    _refuse_json_of_a_run(as_json, dry_run)
    specification, repeated = load_repeated(path or latest(store), name)
    if dry_run:
        return _show_plan(specification, repeated.plan, as_json)
    typer.echo(f"replaying {repeated.run_dir}")
    return _run(specification, store, keep_lab, repeated)


def _refuse_json_of_a_run(as_json: bool, dry_run: bool) -> None:
    if as_json and not dry_run:
        raise typer.BadParameter(
            "it goes with --dry-run; a run's results are in its results.json", param_hint="--json"
        )


def _show_plan(spec: Spec, plan: Plan, as_json: bool) -> int:
    from jepsen_blk.report.plan import plan_object, print_plan

    if as_json:
        typer.echo(json.dumps(plan_object(spec, plan)))
    else:
        from rich.console import Console

        print_plan(spec, plan, Console(highlight=False))
    return EXIT_PASS


def _run(spec: Spec, store: Path, keep_lab: bool, repeated: Repeated | None = None) -> int:
    """Run a test, show it, and return the exit code of its verdict."""
    from rich.console import Console

    from jepsen_blk.default_lab import settle_lab
    from jepsen_blk.store import require_store

    spec = settle_lab(spec, lambda line: typer.echo(line, err=True))
    if keep_lab and spec.lab == "sim":
        raise typer.BadParameter("a simulated lab has nothing to keep", param_hint="--keep-lab")
    require_store(store)

    from jepsen_blk.controller import run_test
    from jepsen_blk.lab.choose import run_in_time_of
    from jepsen_blk.report.terminal import print_verdict, show_test

    console = Console(highlight=False)
    with show_test(spec, console) as view:
        outcome = run_in_time_of(spec, run_test(spec, store, repeated=repeated, keep_lab=keep_lab, view=view))
    print_verdict(outcome.results, outcome.run_dir, console)
    return EXIT_OF_VERDICT[outcome.verdict]
