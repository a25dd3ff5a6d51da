"""The verbs of the command line about this machine: what it lacks for a test, and the guest's image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jepsen_blk.cli.plugins import AsJson
from jepsen_blk.errors import EXIT_PASS, EXIT_USER


def doctor(as_json: AsJson = False) -> int:
    """Say what this machine lacks for a test, and how to get it."""
    from jepsen_blk.doctor import examine, is_fit, table, to_json

    checks = examine()
    if as_json:
        typer.echo(json.dumps(to_json(checks)))
    else:
        from rich.console import Console

        Console(highlight=False).print(table(checks))
        for check in checks:
            if check.remedy:
                typer.echo(f"{check.name}: {check.remedy}")
    return EXIT_PASS if is_fit(checks) else EXIT_USER


def image(
    spec: Annotated[Path | None, typer.Argument(metavar="SPEC.toml", help="The specification.")] = None,
) -> int:
    """Build the guest's image and its pre-booted state now, so that the first test starts at once."""
    import asyncio

    from jepsen_blk.doctor import require_runnable
    from jepsen_blk.lab.choose import prepare_lab
    from jepsen_blk.options import read_spec

    specification = read_spec(spec, {"lab": "local"})
    require_runnable(specification.guest.memory_mb)
    prepared = asyncio.run(prepare_lab(specification))
    for key, value in prepared.environment.items():
        typer.echo(f"{key}: {value}")
    return EXIT_PASS
