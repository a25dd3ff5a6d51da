"""Rules held against files: the findings of each, in the order of their lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from jepsen_blk.errors import UserError
from jepsen_blk.lint.facts import Facts, Format, Said
from jepsen_blk.lint.findings import Finding, Level, NoLab, Options, Rule, Scenario, Specification
from jepsen_blk.lint.reading import STDIN, name_of, read_facts
from jepsen_blk.lint.rules import RULES
from jepsen_blk.scenarios import scenario_file

_SHOWN = Path(__file__).parent / "shown"


@dataclass(frozen=True, slots=True)
class Linted:
    """A file that was looked at: what was found, and what it says that no rule looks at.

    `looked_at` is what there was to look at, in words; `simulated`: a specification that the simulator can
    play.
    """

    file: str
    format: Format
    looked_at: str
    findings: tuple[Finding, ...]
    unread: tuple[Said[str], ...]
    simulated: bool


def lint_files(
    files: Sequence[str], given: Format | None, stdin: BinaryIO
) -> tuple[list[Linted], list[UserError]]:
    """Hold every rule against every file; return also what of them could not be read."""
    linted, unreadable = [], []
    for file in dict.fromkeys(files):
        try:
            linted.append(lint(read_facts(file, given, stdin), name_of(file)))
        except UserError as error:
            unreadable.append(error)
    return linted, unreadable


def lint(facts: Facts, file: str) -> Linted:
    """Return the findings of every rule, one for each rule and line; `file` is how they call it."""
    found: dict[tuple[int, str, str], Finding] = {}
    for rule in RULES.values():
        for hit in rule.check(facts):
            level, message = hit.level or rule.level, _printable(hit.message)
            finding = Finding(rule, file, hit.line, level, message, hit.assumed)
            what = hit.message if facts.disks else ""  # of DRBD a line in `common` is of every resource
            found.setdefault((hit.line, rule.id, what), finding)
    findings = tuple(found[key] for key in sorted(found))
    simulated = bool(facts.recovery and facts.recovery.simulated)
    return Linted(file, facts.format, _looked_at(facts), findings, facts.unread, simulated)


def _printable(text: str) -> str:
    """Return it without what a terminal would obey: names in it are of a file that may be anyone's."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _looked_at(facts: Facts) -> str:
    if facts.format is Format.SPEC:
        return "its storage, guest and handoff"
    number, what = (
        (len(facts.replicas), "resource")
        if facts.format is Format.DRBD
        else (len(facts.disks), "writable disk")
    )
    return f"{number} {what}{'' if number == 1 else 's'}"


def command(rule: Rule, linted: Linted | None = None) -> str:
    """Return the command that shows where the rule leads, for the file that it was found in."""
    shown = rule.shown
    if isinstance(shown, Scenario):
        return f"jepsen-blk scenarios {shown.name}"
    if isinstance(shown, Specification):
        return f"jepsen-blk lint --print {rule.id} > {shown.name}.toml; jepsen-blk test {shown.name}.toml"
    if isinstance(shown, NoLab):
        return f"jepsen-blk explain {rule.kinds[0]}"
    words = list(shown.words)
    if shown.over_file:
        file = linted.file if linted and linted.file != name_of(STDIN) else "SPEC.toml"
        words = [file, *(("--lab", "sim") if linted is None or linted.simulated else ()), *words]
    return " ".join(("jepsen-blk test", *words))


def specification_of(rule: Rule) -> str:
    """Return the text of the specification that shows it; UserError where a command or nothing does."""
    if isinstance(rule.shown, Scenario):
        return scenario_file(rule.shown.name).read_text(encoding="utf-8")
    if isinstance(rule.shown, Specification):
        return (_SHOWN / f"{rule.shown.name}.toml").read_text(encoding="utf-8")
    if isinstance(rule.shown, Options):
        raise UserError(f"rule {rule.id} has no specification; this shows it: {command(rule)}")
    raise UserError(f"rule {rule.id} has no specification: {rule.shown.why}")


def is_clean(linted: Sequence[Linted]) -> bool:
    """Tell whether nothing worse than a note was found."""
    return all(finding.level is Level.NOTE for file in linted for finding in file.findings)
