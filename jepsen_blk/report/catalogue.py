"""What can be asked for, on the terminal: faults or workloads with their options, and what packages bring."""

from __future__ import annotations

import dataclasses
import inspect
import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.text import Text

from jepsen_blk.plugins import Entry

_MOST_COLUMNS = 100
_INDENT = "    "
_BOUNDS = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "above"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "below"),
)


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a specification; what is `required` has no default."""

    name: str
    required: bool
    default: Any
    choices: str


def print_entries(entries: Sequence[Entry], console: Console) -> None:
    """Print what can be used, the built-in first, then each package's, then what is broken."""
    width = min(console.width, _MOST_COLUMNS)
    usable = [entry for entry in entries if not entry.problem]
    for number, entry in enumerate(usable):
        if number:
            console.print()
        for line in _lines(entry, width):
            console.print(line, soft_wrap=True)
    broken = [entry for entry in entries if entry.problem]
    if broken:
        console.print(Text("\ncannot be used", style="bold red"))
    for entry in broken:
        _print_wrapped(console, entry.problem, width)


def entries_object(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return what can be used, and what cannot, as the object that is printed for programs."""
    return {
        "usable": [
            {
                "name": entry.name,
                "package": entry.package or None,
                "about": _about(entry.item),
                "needs": _needs(entry.item) or None,
                "options": [asdict(option) for option in options_of(entry.item)],
            }
            for entry in entries
            if not entry.problem
        ],
        "broken": [
            {"name": entry.name, "package": entry.package, "problem": entry.problem}
            for entry in entries
            if entry.problem
        ],
    }


def options_of(item: type[Any]) -> list[Option]:
    """Return the options of a fault or a workload, in the order in which they are declared."""
    schema = TypeAdapter(item).json_schema()
    properties, required = schema.get("properties", {}), schema.get("required", ())
    return [
        Option(name, name in required, told.get("default"), _choices(told, schema.get("$defs", {})))
        for name, told in properties.items()
        if name not in _not_given(item) and "const" not in told  # the name of a workload
    ]


def _not_given(item: type[Any]) -> set[str]:
    """Return the fields that a fault keeps for itself: the schema has them too."""
    fields = dataclasses.fields(item) if dataclasses.is_dataclass(item) else ()
    return {field.name for field in fields if not field.init}


def _lines(entry: Entry, width: int) -> Iterator[Text]:
    package = f"  (package {entry.package})" if entry.package else ""
    yield Text.assemble((entry.name, "bold"), (package, "cyan"))
    for line in textwrap.wrap(_about(entry.item), width - len(_INDENT)):
        yield Text(_INDENT + line)
    options = options_of(entry.item)
    gutter = max((len(_head(option)) for option in options), default=0) + 2
    for option in options:
        head = f"{_head(option):{gutter}}" if _said(option) else _head(option)
        yield Text.assemble(_INDENT, (head, "green"), (_said(option), "dim"))
    needs = _needs(entry.item)
    hanging = _INDENT + " " * len("needs ")
    for line in textwrap.wrap(f"needs {needs}", width, initial_indent=_INDENT, subsequent_indent=hanging):
        if needs:
            yield Text(line, style="yellow")


def _print_wrapped(console: Console, text: str, width: int) -> None:
    for line in textwrap.wrap(text, width, subsequent_indent=_INDENT, break_on_hyphens=False):
        console.print(Text(line), soft_wrap=True)


def _about(item: Any) -> str:
    """Return the first paragraph of a docstring in one line."""
    text = inspect.getdoc(item) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _needs(item: Any) -> str:
    return str(getattr(item, "needs", ""))


def _head(option: Option) -> str:
    """Write an option with its default as TOML would, which has no word for None."""
    if option.required or option.default is None:
        return option.name
    return f"{option.name} = {json.dumps(option.default)}"


def _said(option: Option) -> str:
    kind = "required" if option.required else "optional" if option.default is None else ""
    return "; ".join(part for part in (kind, option.choices) if part)


def _choices(told: dict[str, Any], defs: dict[str, Any]) -> str:
    """Say in words what JSON Schema says of a value."""
    if "$ref" in told:
        return _choices(defs[told["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in told:
        return " or ".join(_choices(one, defs) for one in told["anyOf"] if one.get("type") != "null")
    if "enum" in told:
        return " or ".join(map(json.dumps, told["enum"]))
    kind = told.get("type")
    if kind == "array":
        items = _choices(told.get("items", {}), defs)
        return f"a list, each {items}" if items else "a list"
    if kind == "boolean":
        return "true or false"
    words = {"integer": "a whole number", "string": "a text"}.get(str(kind), "")
    return ", ".join(part for part in (words, *_bounds(told)) if part)


def _bounds(told: dict[str, Any]) -> Iterator[str]:
    low, high = told.get("minimum"), told.get("maximum")
    if low is not None and high is not None:
        yield f"{_number(low)} to {_number(high)}"
        return
    for key, word in _BOUNDS:
        if key in told:
            yield f"{word} {_number(told[key])}"


def _number(value: float) -> str:
    return f"{int(value)}" if value == int(value) else f"{value:g}"
