"""The verbs of the command line about histories: judge, confirm a verdict, convert, explain a kind."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from jepsen_blk.cli.plugins import AsJson
from jepsen_blk.errors import EXIT_FAIL, EXIT_PASS, EXIT_UNKNOWN

EXIT_OF_VERDICT = {"pass": EXIT_PASS, "fail": EXIT_FAIL, "unknown": EXIT_UNKNOWN}


def check(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="RUN|FILE", help="A run, or a history; without one the newest run."),
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(help="Until when an indeterminate write may land: never, fence, error.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write what lets others confirm the verdict.")
    ] = None,
    witness: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Draw the first anomaly's witness: .svg, .png, .dot.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Check a run while it goes on, until it ends or fails.")
    ] = False,
    as_json: AsJson = False,
    store: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("store"),
) -> int:
    """Judge a stored run or a history again, or one that is still being written."""
    from jepsen_blk.recheck import judge_path, parse_deadline, read_witness, require_certifiable
    from jepsen_blk.store import latest, named_by

    wanted = parse_deadline(deadline)
    subject = named_by(path) if path else latest(store)
    if certificate:
        require_certifiable(subject)
    if witness:
        from jepsen_blk.report.witness_file import require_drawable, write_witness

        require_drawable(witness)
    if follow:
        from jepsen_blk.follow import follow_path

        follow_path(subject, wanted, lambda line: typer.echo(line, err=True))
    results = judge_path(subject, wanted, say=_progress(as_json))
    if witness:
        write_witness(read_witness(subject, results), results, witness)
    if certificate:
        from jepsen_blk.certify import write_certificate

        write_certificate(subject, results, certificate)
    if as_json:
        typer.echo(json.dumps(results))
    else:
        from rich.console import Console

        from jepsen_blk.report.terminal import print_verdict

        print_verdict(results, subject if subject.is_dir() else None, Console(highlight=False))
    return EXIT_OF_VERDICT[results["verdict"]]


def verify_certificate(
    certificate: Annotated[
        str, typer.Argument(metavar="CERTIFICATE", help="What check --certificate wrote.")
    ],
    history: Annotated[str, typer.Argument(metavar="FILE.jsonl", help="The history it is of.")],
) -> int:
    """Confirm a certificate by a small program that shares no code with the checker."""
    from jepsen_blk import verify_certificate as verifier

    return verifier.main([certificate, history])


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|FILE", help="A run, a .blk, .jsonl, .edn or .parquet.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A new file: .jsonl, .edn or .parquet.")],
) -> int:
    """Write a history in another form."""
    from jepsen_blk.history.formats import convert
    from jepsen_blk.recheck import history_file

    for note in convert(history_file(source), target):
        typer.echo(f"note: {note}", err=True)
    return EXIT_PASS


def explain(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="A kind of anomaly; without one all are listed.")
    ] = None,
) -> int:
    """Say what a kind of anomaly is exactly, what causes it, and show an example."""
    from rich.console import Console

    from jepsen_blk.report.explain import print_kind, print_kinds

    console = Console(highlight=False)
    if kind is None:
        print_kinds(console)
    else:
        print_kind(kind, console)
    return EXIT_PASS


def _progress(as_json: bool) -> Callable[[str], None]:
    """Return what tells people how far a long check is: nothing where only a program listens."""
    if as_json and not sys.stderr.isatty():
        return lambda _line: None
    return lambda line: typer.echo(line, err=True)
