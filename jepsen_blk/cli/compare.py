"""The verb of the command line that compares policies over many runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jepsen_blk.errors import EXIT_PASS, EXIT_UNKNOWN


def compare(
    matrix: Annotated[Path | None, typer.Argument(metavar="MATRIX.toml", help="What is compared.")] = None,
    builtin: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Instead: truth-table (simulated), lab-table or stock-table."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The comparison's folder: comparisons/NAME.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Runs at once; on real guests half the processors.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on the workers of a Dask scheduler.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs a cell, instead of the matrix's.")] = None,
    rerun: Annotated[
        str, typer.Option(metavar="WHICH", help="Make such runs again: unknown, failed or all.")
    ] = "none",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and run nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Compare recovery policies, storages and frontends over many runs; what is interrupted goes on."""
    from rich.console import Console

    from jepsen_blk.campaign.command import Asked, go, read_comparison, show_plan
    from jepsen_blk.report.comparing import print_comparison

    comparison = read_comparison(Asked(matrix, builtin, out, seeds, rerun))
    console = Console(highlight=False, stderr=as_json)
    if dry_run:
        show_plan(comparison, console, as_json=as_json, say=typer.echo)
        return EXIT_PASS
    summaries = go(comparison, jobs, cluster, rerun, console)

    from jepsen_blk.report.comparison import write_report

    page = write_report(comparison.folder)
    if as_json:
        typer.echo((comparison.folder / "comparison.json").read_text(encoding="utf-8"), nl=False)
    else:
        print_comparison(summaries, console)
        typer.echo(f"report  {page}")
    open_ones = any(summary.judgement in ("unknown", "undecided") for summary in summaries)
    return EXIT_UNKNOWN if open_ones else EXIT_PASS
