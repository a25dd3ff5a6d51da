"""The verbs of the command line that say what can be asked for, and begin a package of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jepsen_blk.errors import EXIT_PASS, EXIT_USER
from jepsen_blk.scaffold import Kind

if TYPE_CHECKING:
    from jepsen_blk.plugins import Catalogue

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Name = Annotated[str | None, typer.Argument(metavar="NAME", help="Only this one.")]


def nemeses(name: Name = None, as_json: AsJson = False) -> int:
    """List the faults: what each does, its options, what it needs, and the package that brings it."""
    from nemesis.catalogue import CATALOGUE

    return _list(CATALOGUE, name, as_json)


def workloads(name: Name = None, as_json: AsJson = False) -> int:
    """List the workloads: what each does, its options, and the package that brings it."""
    from jepsen_blk.workload_spec import CATALOGUE

    return _list(CATALOGUE, name, as_json)


def new(
    kind: Annotated[Kind, typer.Argument(metavar="nemesis|workload", help="What it is to be.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What specifications will call it.")],
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to write; without it ./NAME.")
    ] = None,
) -> int:
    """Begin a package with a fault or a workload of your own, from an example that works."""
    from jepsen_blk.scaffold.naming import names_of
    from jepsen_blk.scaffold.package import write_package
    from jepsen_blk.scaffold.told import lines

    names = names_of(kind, name)
    folder = into or Path(name)
    written = write_package(names, folder)
    for line in lines(names, folder, written):
        typer.echo(line)
    return EXIT_PASS


def _list(catalogue: Catalogue, name: str | None, as_json: bool) -> int:
    from jepsen_blk.report.catalogue import entries_object, print_entries

    entries = [catalogue.entry(name)] if name else list(catalogue.entries())
    if as_json:
        typer.echo(json.dumps(entries_object(entries)))
    else:
        from rich.console import Console

        print_entries(entries, Console(highlight=False))
    return EXIT_USER if any(entry.problem for entry in entries) else EXIT_PASS
