"""Findings of the linter: on the terminal, where each says what it leads to and what shows it, and as one
JSON object.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jepsen_blk.checker.kinds import KINDS
from jepsen_blk.lint.findings import Finding, Level, NoLab, Rule
from jepsen_blk.lint.linter import Linted, command
from jepsen_blk.lint.rules import RULES

_STYLES = {Level.ERROR: "bold red", Level.WARNING: "yellow", Level.NOTE: "cyan"}
_GUTTER = 12
_MOST_COLUMNS = 110


def print_linted(linted: Sequence[Linted], console: Console) -> None:
    """Print each file's findings, what each rule among them leads to, and a line that sums the file up."""
    for file in linted:
        for finding in file.findings:
            _print_finding(finding, console)
        for said in file.unread:
            console.print(
                Text(f"{file.file}:{said.line}: not read: {said.value}", style="dim"), soft_wrap=True
            )
        for rule in dict.fromkeys(finding.rule for finding in file.findings):
            console.print(Text(f"\n{rule.id}", style="bold"))
            _print_consequence(rule, file, console)
        console.print(_summary(file), soft_wrap=True)
    if any(file.findings for file in linted):
        console.print(Text("jepsen-blk lint --explain RULE says what a rule rests on", style="dim"))


def print_rules(console: Console) -> None:
    """Print all rules in a table."""
    table = Table(header_style="bold", expand=False, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    table.add_column("level", no_wrap=True)
    table.add_column("what is unsafe")
    table.add_column("leads to")
    for rule in RULES.values():
        level = Text(rule.level, style=_STYLES[rule.level])
        table.add_row(Text(rule.id, style="bold"), level, Text(rule.title), Text(", ".join(rule.kinds)))
    console.print(table)
    console.print(
        Text("jepsen-blk lint --explain RULE says all of one, `--print RULE` prints the test that shows it")
    )


def print_rule(rule: Rule, console: Console) -> None:
    """Print all that there is of one rule."""
    console.print(
        Text.assemble((rule.id, "bold"), "  ", (rule.level, _STYLES[rule.level]), f"  {rule.title}"),
        soft_wrap=True,
    )
    _section("looks at", rule.looks_at, console)
    _print_consequence(rule, None, console)
    for number, kind in enumerate(rule.kinds):
        _section("" if number else "anomaly", f"{kind}: {KINDS[kind].title}", console)
    _section("source", rule.source, console)


def linted_object(linted: Sequence[Linted], unreadable: Sequence[str]) -> dict[str, Any]:
    """Return all findings as the object that is printed for programs."""
    return {
        "files": [{"file": file.file, "format": file.format.value} for file in linted],
        "findings": [_finding_object(finding, file) for file in linted for finding in file.findings],
        "unread": [
            {"file": file.file, "line": said.line, "what": said.value}
            for file in linted
            for said in file.unread
        ],
        "unreadable": list(unreadable),
    }


def rule_object(rule: Rule) -> dict[str, Any]:
    """Return a rule as an object for programs."""
    return {
        "rule": rule.id,
        "level": rule.level.value,
        "title": rule.title,
        "looks_at": rule.looks_at,
        "leads_to": list(rule.kinds),
        "how": rule.how,
        "see": command(rule),
        "remedy": rule.remedy,
        "source": rule.source,
    }


def rules_page() -> str:
    """Return the table of docs/policies.md."""
    rows = []
    for rule in RULES.values():
        kinds = ", ".join(f"`{kind}`" for kind in rule.kinds)
        looks_at = escape(rule.looks_at, quote=False)
        rows.append(f"| `{rule.id}` | {rule.level} | {looks_at} | {kinds} | `{command(rule)}` |")
    return (
        "\n".join(("| rule | level | looks at | leads to | see it |", "|---|---|---|---|---|", *rows)) + "\n"
    )


def _print_finding(finding: Finding, console: Console) -> None:
    place = f"{finding.file}:{finding.line}: " if finding.line else f"{finding.file}: "
    level = (finding.level, _STYLES[finding.level])
    console.print(Text.assemble((place, "bold"), level, f" {finding.rule.id}"), soft_wrap=True)
    assumed = f"; assumed: {finding.assumed}" if finding.assumed else ""
    for line in textwrap.wrap(f"{finding.message}{assumed}", _width(console) - 4, break_on_hyphens=False):
        console.print(Text(f"    {line}"), soft_wrap=True)


def _print_consequence(rule: Rule, file: Linted | None, console: Console) -> None:
    _section("leads to", f"{' or '.join(rule.kinds)}. {rule.how}", console)
    console.print(Text.assemble(("  see it    ", "bold"), (command(rule, file), "green")), soft_wrap=True)
    if isinstance(rule.shown, NoLab):
        _section("", f"(no test shows it: {rule.shown.why})", console)
    _section("remedy", rule.remedy, console)


def _section(head: str, text: str, console: Console) -> None:
    wrapped = textwrap.wrap(text, _width(console) - _GUTTER, break_on_hyphens=False)
    for number, line in enumerate(wrapped):
        head_cell = f"  {head if number == 0 else '':{_GUTTER - 2}}"
        console.print(Text.assemble((head_cell, "bold"), line), soft_wrap=True)


def _width(console: Console) -> int:
    return max(min(console.width, _MOST_COLUMNS), 50)


def _summary(file: Linted) -> Text:
    head = f"{file.file} ({file.format}, {file.looked_at}): "
    counts = list(_counts(file))
    if not counts:
        return Text.assemble(head, ("nothing unsafe found", "green"))
    return Text(f"{head}{', '.join(counts)}", style="bold")


def _counts(file: Linted) -> Iterator[str]:
    for level in Level:
        number = sum(finding.level is level for finding in file.findings)
        if number:
            yield f"{number} {level}{'' if number == 1 else 's'}"


def _finding_object(finding: Finding, file: Linted) -> dict[str, Any]:
    told = rule_object(finding.rule)
    return {
        "file": finding.file,
        "line": finding.line or None,
        **told,
        "level": finding.level.value,
        "message": finding.message,
        "assumed": finding.assumed,
        "see": command(finding.rule, file),
    }
