"""All verbs, and what they end by: every way to end is one line and one exit code.

Exit codes: 0 pass, 1 fail, 2 unknown, 254 the user's to mend, 255 the tester's own fault,
130 interrupted, 143 ended by SIGTERM in the same order.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from jepsen_blk import __version__
from jepsen_blk.cli import check, compare, explore, heal, lint, machine, plugins, run, scenarios, shrink
from jepsen_blk.errors import EXIT_INTERNAL, EXIT_PASS, EXIT_USER, JepsenBlkError
from jepsen_blk.termination import as_interrupt

_EXIT_INTERRUPTED = 130
_EXIT_TERMINATED = 143
_EXIT_PIPE_CLOSED = 141
_DEBUG = "JEPSEN_BLK_DEBUG"
_ADMIN_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""click's UsageError, which recent Typers carry inside and older ones import."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


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


app.command("test")(run.run)
app.command()(run.replay)
app.command()(check.check)
app.command("verify-certificate")(check.verify_certificate)
app.command()(check.convert)
app.command()(check.explain)
app.command()(machine.doctor)
app.command()(scenarios.demo)
app.command()(machine.image)

_VERBS = (
    shrink.shrink,
    explore.explore,
    scenarios.scenarios,
    compare.compare,
    heal.heal,
    lint.lint,
    plugins.nemeses,
    plugins.workloads,
    plugins.new,
)
for _verb in _VERBS:
    app.command()(_verb)


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
