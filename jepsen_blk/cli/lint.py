"""The verb of the command line that finds unsafe configurations."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from jepsen_blk.cli.plugins import AsJson
from jepsen_blk.errors import EXIT_FAIL, EXIT_PASS, UserError


def lint(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE...", help="What to look at; - is the standard input.")
    ] = None,
    written_in: Annotated[
        str | None, typer.Option("--format", help="spec, libvirt, xl or drbd; without it the content tells.")
    ] = None,
    explain: Annotated[str | None, typer.Option(metavar="RULE", help="Print all of one rule.")] = None,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules.")] = False,
    show: Annotated[
        str | None, typer.Option("--print", metavar="RULE", help="Print the specification that shows a rule.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Find what is unsafe in a specification, a libvirt domain, an xl or a DRBD configuration."""
    asked = [bool(files), explain is not None, rules, show is not None]
    if sum(asked) != 1:
        raise typer.BadParameter(
            "give files, or one of --rules, --explain RULE and --print RULE", param_hint="FILE..."
        )
    if rules or explain is not None:
        return _tell_rules(explain, as_json)
    if show is not None:
        from jepsen_blk.lint.linter import specification_of
        from jepsen_blk.lint.rules import rule_named

        typer.echo(specification_of(rule_named(show)), nl=False)
        return EXIT_PASS
    return _lint(files or [], written_in, as_json)


def _lint(files: list[str], written_in: str | None, as_json: bool) -> int:
    from jepsen_blk.lint.linter import is_clean, lint_files
    from jepsen_blk.lint.reading import format_named
    from jepsen_blk.report.lint import linted_object, print_linted

    linted, unreadable = lint_files(files, format_named(written_in), sys.stdin.buffer)
    mistakes = [str(error) for error in unreadable]
    if as_json:
        typer.echo(json.dumps(linted_object(linted, mistakes)))
    else:
        from rich.console import Console

        print_linted(linted, Console(highlight=False))
    if mistakes:
        raise UserError("; ".join(mistakes))
    return EXIT_PASS if is_clean(linted) else EXIT_FAIL


def _tell_rules(name: str | None, as_json: bool) -> int:
    from rich.console import Console

    from jepsen_blk.lint.rules import RULES, rule_named
    from jepsen_blk.report.lint import print_rule, print_rules, rule_object

    if as_json:
        told = (
            [rule_object(rule) for rule in RULES.values()] if name is None else rule_object(rule_named(name))
        )
        typer.echo(json.dumps(told))
    elif name is None:
        print_rules(Console(highlight=False))
    else:
        print_rule(rule_named(name), Console(highlight=False))
    return EXIT_PASS
