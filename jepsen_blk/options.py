"""Command-line options as a layer over a specification.

An option says the same thing as its key in the file, is checked by the same model, and wins over it. The
faults are looked up too, so that a mistyped one is refused before a lab is built for it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jepsen_blk.errors import SpecError
from jepsen_blk.spec import NemesisSpec, Spec, load_spec, make_spec
from nemesis.schedule import check_faults

_NEXT_OPTION = re.compile(r",(?=[A-Za-z_]\w*=)(?![^{]*\})")
"""A comma inside a value is followed by no key, as in blocks=[1,2], or stands in braces."""


def read_spec(file: Path | None, values: Mapping[str, Any], nemesis: Sequence[str] = ()) -> Spec:
    """Return the specification of `file` (the defaults without one) with the options laid over it.

    `values` maps dotted keys to values, None where the option was not given; `nemesis` replaces the
    file's schedule if it is not empty. Raises SpecError.
    """
    overrides: dict[str, Any] = {}
    for key, value in values.items():
        if value is not None:
            *tables, name = key.split(".")
            table = overrides
            for part in tables:
                table = table.setdefault(part, {})
            table[name] = value
    if nemesis:
        overrides |= {"nemesis": [parse_nemesis(text) for text in nemesis], "schedule": None}
    spec = make_spec(overrides) if file is None else load_spec(file, overrides)
    check_faults(spec)
    return spec


def parse_nemesis(text: str) -> dict[str, Any]:
    """Read `name` or `name:key=value,...` into a step; values are TOML, and plain words need no quotes.

    `after_s`, `when` and `repeat` are the step's own keys, every other one is an option of the fault. Raises
    SpecError for a part that is not key=value.
    """
    fault, _, rest = text.partition(":")
    step: dict[str, Any] = {"fault": fault}
    for part in _NEXT_OPTION.split(rest) if rest else ():
        key, equals, value = part.partition("=")
        if not (key and equals):
            raise SpecError(f"--nemesis {text}: {part!r} is not key=value; write {fault}:key=value,key=value")
        own = key in NemesisSpec.model_fields and key not in ("fault", "options")
        (step if own else step.setdefault("options", {}))[key] = _value(value)
    return step


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
