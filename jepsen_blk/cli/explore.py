"""The verb of the command line that tries every interleaving of a small scope."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jepsen_blk.cli.plugins import AsJson


def explore(
    conflict: Annotated[str, typer.Option(help="The storage's conflict model.")] = "arrival-order",
    frontend: Annotated[str, typer.Option(help="blkfront, qemu or qemu-reconnect.")] = "qemu",
    handoff: Annotated[str, typer.Option(help="The recovery policy.")] = "requeue",
    scope: Annotated[str, typer.Option(help="What happens: migration, path-loss or failover.")] = "path-loss",
    out: Annotated[
        Path | None, typer.Option(metavar="SPEC.toml", help="Write the counter-example as a test.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="A table of all conflict models and recovery policies.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Try every interleaving of two writes, a move and a loss: safe in all, or the shortest that fails."""
    from jepsen_blk.explore.finding import parse_case
    from jepsen_blk.explore.session import explore_all, explore_one

    case = parse_case(conflict, frontend, handoff, scope)
    if every and out:
        raise typer.BadParameter("it is for one case; leave out --all", param_hint="--out")

    def say(line: str) -> None:
        typer.echo(line, err=True)

    if every:
        return explore_all(case, as_json=as_json, say=say)
    return explore_one(case, out, as_json=as_json, say=say)
