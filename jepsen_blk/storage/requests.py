"""The storage control protocol: what a request must look like, and how replies are written.

One JSON object a connection each way, over a pathname unix socket, so that the controller never
stands on a network that a fault can cut. The policy target and the proxy answer the same requests.

Standard library only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from jepsen_blk.storage.misbehaviour import ERRORS, REQUESTS

MAX_REQUEST_BYTES = 1 << 20
"""A request longer than this is refused: a hold on every block of a large disk still fits."""

_NODE = {"node": "name"}
_HOLD = {"hold": "number"}
_MISBEHAVIOUR = {"misbehaviour": "number"}
_FIELDS: dict[str, dict[str, str]] = {
    "hold": {"node": "name", "blocks": "numbers"},
    "wait_held": {**_HOLD, "timeout_s": "seconds"},
    "wait_writes": {"node": "name", "block": "number", "count": "number", "timeout_s": "seconds"},
    "reissues": _NODE,
    "wait_reissues": {**_NODE, "count": "number", "timeout_s": "seconds"},
    "release": _HOLD,
    "wait_landed": {**_HOLD, "timeout_s": "seconds"},
    "in_flight": _NODE,
    "wait_in_flight": {**_NODE, "blocks": "numbers", "count": "number", "timeout_s": "seconds"},
    "fence": {"node": "name", "abort": "flag"},
    "raise_epoch": _NODE,
    "single_writer": _NODE,
    "unfence": _NODE,
    "misbehave": {
        "nodes": "names",
        "requests": "requests",
        "error": "error",
        "applied": "flag",
        "delay_ms": "milliseconds",
        "limit": "number",
    },
    "wait_misbehaved": {**_MISBEHAVIOUR, "count": "number", "timeout_s": "seconds"},
    "behave": _MISBEHAVIOUR,
    "stats": {},
}

_MEANING = {
    "name": "a name",
    "names": "names",
    "flag": "a flag",
    "number": "a number",
    "numbers": "numbers",
    "seconds": "seconds",
    "milliseconds": "milliseconds",
    "requests": f"some of {', '.join(REQUESTS)}",
    "error": f"empty or one of {', '.join(ERRORS)}",
}


class RequestError(Exception):
    """A request that cannot be understood; the message is one line."""


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed request: `fields` hold exactly what `do` asks for."""

    do: str
    fields: dict[str, Any]


def parse_request(line: bytes) -> Request:
    """Read one request; raises RequestError naming what is wrong with it."""
    try:
        data = json.loads(line)
    except ValueError as error:
        raise RequestError("the request is not a JSON object") from error
    if not isinstance(data, dict):
        raise RequestError("the request is not a JSON object")
    do = data.pop("do", None)
    if not isinstance(do, str) or do not in _FIELDS:
        raise RequestError(f"unknown request {do!r}; known: {', '.join(_FIELDS)}")
    kinds = _FIELDS[do]
    if do == "hold":
        data.setdefault("blocks", [])
    for name in kinds:
        if name not in data:
            raise RequestError(f"{do}: {name} is missing")
    for name, value in data.items():
        if name not in kinds:
            raise RequestError(f"{do}: unknown field {name!r}")
        if not _is(kinds[name], value):
            raise RequestError(f"{do}: {name} must be {_MEANING[kinds[name]]}, not {value!r}")
    return Request(do, data)


def _is(kind: str, value: object) -> bool:
    if kind == "name":
        return isinstance(value, str)
    if kind == "flag":
        return isinstance(value, bool)
    if kind in ("seconds", "milliseconds"):
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 86_400
    if kind == "numbers":
        return isinstance(value, list) and all(_is("number", item) for item in value)
    if kind == "names":
        return isinstance(value, list) and all(_is("name", item) for item in value)
    if kind == "requests":
        return isinstance(value, list) and all(item in REQUESTS for item in value)
    if kind == "error":
        return value == "" or value in ERRORS
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def ok(**fields: Any) -> bytes:
    """Encode a reply that grants the request."""
    return _line({"ok": True, **fields})


def refused(why: str) -> bytes:
    """Encode a reply that refuses it, for a reason of one line."""
    return _line({"ok": False, "error": " ".join(why.split())})


def _line(reply: dict[str, Any]) -> bytes:
    return json.dumps(reply, separators=(",", ":")).encode() + b"\n"
