"""What a rule found, and how bad it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from jepsen_blk.lint.facts import Facts


class Level(StrEnum):
    """How sure it is: an error is unsafe as it stands, a warning if what is assumed holds, a note is to be
    looked at.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Hit:
    """What a rule's check found in the facts; `level` where it is another than the rule's.

    `assumed` is what the file does not say and the finding rests on.
    """

    line: int
    message: str
    assumed: str = ""
    level: Level | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario of `jepsen-blk scenarios` that shows where it leads."""

    name: str


@dataclass(frozen=True, slots=True)
class Options:
    """A test that shows it: options of `jepsen-blk test`, over the file where that is a specification."""

    words: tuple[str, ...]
    over_file: bool = False


@dataclass(frozen=True, slots=True)
class Specification:
    """A specification of this room (shown/NAME.toml) that shows it."""

    name: str


@dataclass(frozen=True, slots=True)
class NoLab:
    """No lab of ours has what it takes; the rule rests on its source alone."""

    why: str


Shown = Scenario | Options | Specification | NoLab


@dataclass(frozen=True, slots=True)
class Rule:
    """One unsafe configuration.

    `looks_at` names the settings, `kinds` the anomalies that it leads to (names of checker.kinds) and `how`
    the way there in words. `source` is who says so: documentation, source code, an incident, or runs of
    ours.
    """

    id: str
    level: Level
    title: str
    looks_at: str
    kinds: tuple[str, ...]
    how: str
    shown: Shown
    remedy: str
    source: str
    check: Callable[[Facts], Iterator[Hit]]


@dataclass(frozen=True, slots=True)
class Finding:
    """A hit in a file."""

    rule: Rule
    file: str
    line: int
    level: Level
    message: str
    assumed: str
