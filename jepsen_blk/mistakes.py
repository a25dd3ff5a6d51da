"""Every mistake in what a user has written, in one line, each with its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_TOLD_WITHOUT_VALUE = ("value_error", "unexpected_keyword_argument", "extra_forbidden")
"""Where the value is in the message already, or is not what is wrong."""


def mistakes(error: ValidationError) -> str:
    """Return all mistakes of a validation, as `place: what is wrong`, joined by semicolons."""
    return "; ".join(_describe(item) for item in _causes(error.errors(include_url=False)))


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """Say that there is nothing of that name, with the choices, and the one that may be meant."""
    choices = list(choices)
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"no {kind} {name!r}; there are {', '.join(choices)}{hint}"


def is_tag(part: object) -> bool:
    """Tell whether a part of an error's place is not a key but the name of a choice made here."""
    return isinstance(part, str) and part.startswith("(")


def _causes(errors: list[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Leave out that a list is too short where its items are wrong: they were not counted."""
    for item in errors:
        place = item["loc"]
        inner = any(
            len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in errors
        )
        if not (item["type"] == "too_short" and inner):
            yield item


def _unknown_tag(discriminator: str, tag: str, expected_tags: str) -> str:
    names = sorted(name.strip("'") for name in expected_tags.split(", "))
    return unknown_name(discriminator.strip("'"), tag, names)


def _describe(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"] if not is_tag(part))
    if item["type"] == "union_tag_invalid":
        return f"{place}: {_unknown_tag(**item['ctx'])}"
    if item["type"] == "union_tag_not_found":
        return (
            f"{place}: {item['ctx']['discriminator'].strip(chr(39))} is missing: it says what the others mean"
        )
    message = item["msg"].removeprefix("Value error, ")
    given = item.get("input")
    shown = isinstance(given, str | int | float) and item["type"] not in _TOLD_WITHOUT_VALUE
    return f"{place + ': ' if place else ''}{message}{f', not {given!r}' if shown else ''}"
