"""The command line: one function a verb, no logic; every way to end is one line and one exit code.

Exit codes: 0 pass, 1 fail, 2 unknown, 254 the user's to mend, 255 the tester's own fault,
130 interrupted, 143 ended by SIGTERM in the same order.
What is heavy is imported by the verb that needs it, so that --help and a mistyped option answer at once.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jepsen_blk import (
    __version__,
    cli_check,
    cli_heal,
    cli_lint,
    cli_machine,
    cli_plugins,
    cli_scenarios,
    cli_shrink,
)
from jepsen_blk.cli_check import EXIT_OF_VERDICT
from jepsen_blk.errors import EXIT_INTERNAL, EXIT_PASS, EXIT_USER, JepsenBlkError
from jepsen_blk.termination import as_interrupt

if TYPE_CHECKING:
    from jepsen_blk.replay import Repeated
    from jepsen_blk.spec import Spec
    from nemesis.plan import Plan

_EXIT_INTERRUPTED = 130
_EXIT_TERMINATED = 143
_EXIT_PIPE_CLOSED = 141
_DEBUG = "JEPSEN_BLK_DEBUG"
_ADMIN_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""click's UsageError, which recent Typers carry inside and older ones import."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Store = Annotated[Path, typer.Option(help="Where runs are kept.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan of faults and run nothing.")]
PlanAsJson = Annotated[bool, typer.Option("--json", help="With --dry-run: print one JSON object.")]
KeepLab = Annotated[bool, typer.Option("--keep-lab", help="Leave the lab up until Ctrl-C.")]


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> int:
    """Does an acknowledged write survive a virtual machine that moves?"""
    if version:
        typer.echo(f"jepsen-blk {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(EXIT_USER)
    return EXIT_PASS


@app.command("test")
def run(
    spec: Annotated[Path | None, typer.Argument(metavar="SPEC.toml", help="The specification.")] = None,
    lab: Annotated[str | None, typer.Option(help="Where it runs: local (QEMU) or sim.")] = None,
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


@app.command()
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


app.command()(cli_check.check)
app.command("verify-certificate")(cli_check.verify_certificate)
app.command()(cli_check.convert)
app.command()(cli_check.explain)
app.command()(cli_machine.doctor)


@app.command()
def demo(store: Store = Path("store")) -> int:
    """Run three tests on real guests: a control, the case of 2006, and the same on a stock server."""
    from jepsen_blk.doctor import require_runnable
    from jepsen_blk.spec import Spec
    from jepsen_blk.store import require_store

    require_runnable(Spec().guest.memory_mb)
    require_store(store)

    from jepsen_blk.demo import run_demo

    return run_demo(store)


app.command()(cli_machine.image)
_VERBS = (
    cli_shrink.shrink,
    cli_scenarios.scenarios,
    cli_heal.heal,
    cli_lint.lint,
    cli_plugins.nemeses,
    cli_plugins.workloads,
    cli_plugins.new,
)
for _verb in _VERBS:
    app.command()(_verb)


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

    from jepsen_blk.store import require_store

    if spec.lab == "local":
        from jepsen_blk.doctor import require_runnable

        require_runnable(spec.guest.memory_mb)
    elif keep_lab:
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; nothing but one line is ever said of an error."""
    _see_admin_tools()
    with as_interrupt() as termination:
        code = _run_verb(sys.argv[1:] if argv is None else argv)
    return _EXIT_TERMINATED if termination.came and code == _EXIT_INTERRUPTED else code


def _run_verb(argv: Sequence[str]) -> int:
    try:
        code = _invoke(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would complain again
        return _EXIT_PIPE_CLOSED
    except KeyboardInterrupt:
        return _say("interrupted", _EXIT_INTERRUPTED)
    except _USAGE_ERROR as error:
        said = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        return _say(f"{said.rstrip('.')}; see `jepsen-blk --help`", EXIT_USER)
    except JepsenBlkError as error:
        _trace()
        return _say(str(error), error.exit_code)
    except Exception as error:
        if _trace():
            return EXIT_INTERNAL
        said = f"internal error: {type(error).__name__}: {error}; run with {_DEBUG}=1 for the traceback"
        return _say(said, EXIT_INTERNAL)
    return code


def _see_admin_tools() -> None:
    """Let nft and sysctl be found: Debian keeps their folders off an ordinary user's PATH."""
    given = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    os.environ["PATH"] = os.pathsep.join([*given, *_ADMIN_FOLDERS])


def _invoke(argv: Sequence[str]) -> int:
    try:
        with typer.main.get_command(app).make_context("jepsen-blk", list(argv)) as context:
            return int(context.command.invoke(context))
    except typer.Exit as ended:
        return int(ended.exit_code)


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"jepsen-blk: {' '.join(text.split())}\n")
    return code


def _trace() -> bool:
    if os.environ.get(_DEBUG):
        traceback.print_exc()
        return True
    return False
