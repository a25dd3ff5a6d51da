"""The `when` of a fault: the event of the storage, the hypervisor or a migration that it waits for.

A time says nothing of what is going on then. What is worth hitting (a write in flight, a re-issue, a guest
that has just stopped) comes when it comes, and is over soon.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from jepsen_blk.table import Table

Seen = Literal["running", "paused", "io-error", "migrated", "absent"]
"""The states of a guest that can be waited for."""
_TIMEOUT_S = 30.0


class _Cue(Table):
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = _TIMEOUT_S
    """A fault whose cue has not come within this is not proven."""


class _OfNode(_Cue):
    node: Literal["guest", "other"] = "guest"
    """The node that the guest is on when the fault is ready, or the other one."""


class InFlightCue(_OfNode):
    """The node has `count` writes in flight at once; with `hot` or `block`, to hot blocks or to that one."""

    event: Literal["in-flight"]
    hot: bool = False
    block: Annotated[int, Field(ge=0)] | None = None
    count: Annotated[int, Field(ge=1, le=100_000)] = 1

    @model_validator(mode="after")
    def _are_to_some_blocks(self) -> InFlightCue:
        if self.hot and self.block is not None:
            raise ValueError("hot and block exclude each other: both say which blocks count")
        return self


class ReissueCue(_OfNode):
    """The node has sent `count` writes again since the fault before it began, or the test."""

    event: Literal["reissue"]
    count: Annotated[int, Field(ge=1, le=100_000)] = 1


class GuestCue(_OfNode):
    """The guest of the node is in `state`."""

    event: Literal["guest"]
    state: Seen


class MigrationCue(_Cue):
    """The migration that the fault comes during is in `phase`, as its source sees it."""

    event: Literal["migration"]
    phase: Literal["stopped", "pre-switchover"]


Cue: TypeAlias = Annotated[
    InFlightCue | ReissueCue | GuestCue | MigrationCue,
    Field(discriminator="event"),
]


def describe_cue(cue: Cue) -> str:
    """Return a cue in a line, as `event field=value`, without what is as it always is but the node."""
    shown = {name: getattr(cue, name) for name in type(cue).model_fields}
    timeout_s = shown.pop("timeout_s")
    del shown["event"]
    told = [
        _setting(name, value) for name, value in shown.items() if value is not None and value is not False
    ]
    return " ".join((cue.event, *told, *([] if timeout_s == _TIMEOUT_S else [f"timeout_s={timeout_s:g}"])))


def _setting(name: str, value: str | int) -> str:
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"
