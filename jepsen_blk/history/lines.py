"""The kinds of line of an interchange file, as a table: a class a kind, its fields with their ranges.

The decoder, the encoder and the words for a mistake all follow this table, so a new kind or a new
optional field is one entry here. The decoder is msgspec's, typed and in C; it only tells whether
a line is right. What is wrong with one that is not is found here, slowly, with its own words.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, inspect

from jepsen_blk.history.record import F
from jepsen_blk.history.rules import (
    BLOCK,
    BOOT,
    OPERATIONS,
    OUTCOMES,
    PROCESS,
    SEEN,
    TIME,
    UNCERTAINTY,
    WRITTEN,
    one_of,
    out_of_range,
    shown,
)

Process = Annotated[int, Meta(ge=PROCESS.least, le=PROCESS.most)]
Boot = Annotated[int, Meta(ge=BOOT.least, le=BOOT.most)]
Block = Annotated[int, Meta(ge=BLOCK.least, le=BLOCK.most)]
Time = Annotated[int, Meta(ge=TIME.least, le=TIME.most)]
Written = Annotated[int, Meta(ge=WRITTEN.least, le=WRITTEN.most)]
Seen = Annotated[int, Meta(ge=SEEN.least, le=SEEN.most)]
Uncertainty = Annotated[int, Meta(ge=UNCERTAINTY.least, le=UNCERTAINTY.most)]
OutcomeName = Literal["ok", "fail", "info"]


class Line(Struct, tag_field="f", gc=False):
    """Any line; "f" says of which kind it is, keys that the kind does not have are ignored."""


class Operation(Line):
    """A line that is a row of the history; `code` is its F, as a plain int for numpy's sake."""


class Write(Operation, tag="write", kw_only=True):
    """A write; its value is written once in the whole file. `fua`: it is durable once acknowledged."""

    process: Process
    block: Block
    value: Written
    start: Time
    finish: Time | None
    outcome: OutcomeName
    boot: Boot | UnsetType = UNSET
    fua: bool | UnsetType = UNSET
    code: ClassVar[int] = F.WRITE.value


class Read(Operation, tag="read", kw_only=True):
    """A read; one that did not succeed needs no value."""

    process: Process
    block: Block
    value: Seen | UnsetType | None = UNSET
    start: Time
    finish: Time | None
    outcome: OutcomeName
    boot: Boot | UnsetType = UNSET
    code: ClassVar[int] = F.READ.value


class Flush(Operation, tag="flush", kw_only=True):
    """A flush, of all blocks."""

    process: Process
    start: Time
    finish: Time | None
    outcome: OutcomeName
    boot: Boot | UnsetType = UNSET
    code: ClassVar[int] = F.FLUSH.value
    block: ClassVar[int] = 0
    value: ClassVar[None] = None


class FenceLine(Line, tag="fence", kw_only=True):
    """The target confirmed that no earlier write of `boot` can take effect any more."""

    time: Time
    boot: Boot | UnsetType = UNSET


class CrashLine(Line, tag="crash", kw_only=True):
    """A power loss of the storage, at `time`, or at a moment from then to `until`."""

    time: Time
    until: Time | UnsetType = UNSET


class ClockLine(Line, tag="clock", kw_only=True):
    """The times of the operations of `boot` may be off by `uncertainty` ns, either way."""

    boot: Boot
    uncertainty: Uncertainty


KINDS: dict[str, type[Line]] = {
    "read": Read,
    "write": Write,
    "flush": Flush,
    "fence": FenceLine,
    "crash": CrashLine,
    "clock": ClockLine,
}
OPERATION_KINDS = {F[name.upper()]: KINDS[name] for name in OPERATIONS}
_DECODER = msgspec.json.Decoder(Write | Read | Flush | FenceLine | CrashLine | ClockLine)
_FIELDS = {kind: msgspec.structs.fields(kind) for kind in KINDS.values()}
_OPTIONAL = {field.name for fields in _FIELDS.values() for field in fields if not field.required}


def decode(text: bytes, count: int) -> list[Any]:
    """Decode `count` lines, joined by newlines; raises ValueError or RecursionError if any is not right."""
    entries = _DECODER.decode_lines(text)
    if not (is_whole_lines(text, count) and len(entries) == count):
        raise ValueError("the lines are not one object each")
    if text.count(b":") != _count_keys(entries):  # a key given twice, or one that the decoder skips unread
        for line in text.split(b"\n"):
            _loads(line)
    return entries


def is_whole_lines(text: bytes, count: int) -> bool:
    """Tell whether each of the `count` lines of `text` begins with `{` and ends with `}`.

    No JSON value has `}` and `{` with only white space between them, so in valid text no object goes over
    the end of such a line.
    """
    return text[:1] == b"{" and text[-1:] == b"}" and text.count(b"}\n{") == count - 1


def explain(line: bytes, error: Exception) -> str:
    """Say what is wrong with one line that `decode` refused with `error`."""
    try:
        entry = _loads(line)
    except RecursionError:
        return "not valid JSON: nested too deeply"
    except ValueError as why:
        return f"not valid JSON: {why}"
    if not isinstance(entry, dict):
        return "not a JSON object"
    f = entry.get("f")
    if not isinstance(f, str) or f not in KINDS:
        return f"'f' must be {one_of(KINDS)}, not {shown(f)}"
    for field in inspect.type_info(KINDS[f]).fields:  # type: ignore[attr-defined]
        what = _explain_field(field, entry)
        if what:
            return what
    return str(error)


def _explain_field(field: inspect.Field, entry: dict[str, Any]) -> str:
    name = field.encode_name
    types = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
    value = entry.get(name)
    if isinstance(types[0], inspect.LiteralType):
        right = isinstance(value, str) and value in types[0].values
        return "" if right else f"{name!r} must be {one_of(OUTCOMES)}, not {shown(value)}"
    if name not in entry:
        return f"{name!r} is missing" if field.required else ""
    if value is None and any(isinstance(kind, inspect.NoneType) for kind in types):
        return ""
    for kind in types:
        if isinstance(kind, inspect.BoolType) and type(value) is not bool:
            return f"{name!r} must be true or false, not {shown(value)}"
        if not isinstance(kind, inspect.IntType):
            continue
        if type(value) is not int:
            return f"{name!r} must be an integer, not {shown(value)}"
        if not (kind.ge or 0) <= value <= (kind.le or 0):
            return out_of_range(name, value, kind.ge, kind.le)
    return ""


def _loads(line: bytes) -> Any:
    """Parse strictly: UTF-8, each key once, no NaN; raises ValueError or RecursionError."""
    return json.loads(line.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"{shown(twice)} is given twice")
    return entry


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _count_keys(entries: Sequence[Line]) -> int:
    """Count the keys that the entries were decoded from, "f" included."""
    keys = sum(count * (1 + len(_FIELDS[kind])) for kind, count in Counter(map(type, entries)).items())
    for name in _OPTIONAL:
        keys -= [getattr(entry, name, None) for entry in entries].count(UNSET)
    return keys
