"""What a new fault or workload and its parts are called, and why a name cannot be used.

The name becomes an entry point, a package for pip and a module, so it is checked against all three before
anything is written.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from dataclasses import dataclass

from jepsen_blk.errors import UserError
from jepsen_blk.plugins import Catalogue
from jepsen_blk.scaffold import Kind
from jepsen_blk.workload_spec import CATALOGUE as WORKLOADS
from nemesis.catalogue import CATALOGUE as FAULTS

_MOST_CHARACTERS = 40
_VALID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TESTS = "tests"
"""The folder beside the module."""
_SUFFIX = {Kind.NEMESIS: "Fault", Kind.WORKLOAD: "Options"}
"""Of the class, so that none is called as what its module imports."""
_VERB = {Kind.NEMESIS: "nemeses", Kind.WORKLOAD: "workloads"}


@dataclass(frozen=True, slots=True)
class Names:
    """A name as a specification calls it, and what its parts are called; `what` it is: fault or workload."""

    kind: Kind
    what: str
    group: str
    name: str
    module: str
    class_: str
    package: str


def names_of(kind: Kind, name: str) -> Names:
    """Return what is called how; raises UserError naming the mistake and the remedy."""
    catalogue = _catalogue(kind)
    if not _VALID.fullmatch(name) or len(name) > _MOST_CHARACTERS:
        raise UserError(
            f"{name!r} cannot be the name of a {catalogue.kind}: it has to be lower-case words joined by "
            f"dashes, {_MOST_CHARACTERS} characters at most; {_suggestion(name)}"
        )
    _refuse_taken(kind, name)
    module = name.replace("-", "_")
    other = f"give another name, such as 'my-{name}'"
    if keyword.iskeyword(module):
        raise UserError(f"{name!r} is a keyword of Python, so no module can be called that; {other}")
    if module == _TESTS or _is_module(module):
        raise UserError(f"{name!r}: its module would hide another one called {module}; {other}")
    class_ = "".join(word.capitalize() for word in name.split("-")) + _SUFFIX[kind]
    return Names(kind, catalogue.kind, catalogue.group, name, module, class_, f"jepsen-blk-{name}")


def _catalogue(kind: Kind) -> Catalogue:
    return {Kind.NEMESIS: FAULTS, Kind.WORKLOAD: WORKLOADS}[kind]


def _refuse_taken(kind: Kind, name: str) -> None:
    catalogue = _catalogue(kind)
    if name in catalogue.built_in:
        raise UserError(
            f"{name!r} is a built-in {catalogue.kind}, and no other of that name would be used; "
            f"give another name, such as 'my-{name}'"
        )
    if name in catalogue.names():
        raise UserError(
            f"{name!r} is a {catalogue.kind} of a package that is installed, which "
            f"`jepsen-blk {_VERB[kind]} {name}` names; give another name, or uninstall it"
        )


def _is_module(module: str) -> bool:
    """Tell whether Python finds a module of that name already; a mere folder on the path is none."""
    found = importlib.util.find_spec(module)
    return found is not None and found.origin is not None


def _suggestion(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    words = re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:_MOST_CHARACTERS].strip("-")
    words = words.lstrip("0123456789-")
    return f"try {words or 'power-cut'!r}"
