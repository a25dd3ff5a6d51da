"""The verb of the command line that repairs the nodes of a lab after a controller that was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jepsen_blk.errors import EXIT_FAIL, EXIT_PASS


def heal(
    inventory: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The hosts: an inventory (.toml), or an OpenSSH configuration."),
    ],
    nodes: Annotated[
        list[str] | None, typer.Argument(metavar="NODE", help="Only these; without one all.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be undone and change nothing.")
    ] = False,
) -> int:
    """Undo on the nodes what a test that was killed has left there; not while another one uses them."""
    import asyncio

    from jepsen_blk.lab.ssh.heal import heal_hosts
    from jepsen_blk.lab.ssh.inventory import choose, read_inventory

    hosts = choose(read_inventory(inventory), nodes or [])
    whole = asyncio.run(heal_hosts(hosts, typer.echo, dry_run=dry_run))
    return EXIT_PASS if whole else EXIT_FAIL
