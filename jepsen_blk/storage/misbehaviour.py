"""Misbehaviours: which requests the storage answers late or with an error, and what became of them.

A real array does so for a while and for its own reasons; here a fault says for which nodes and which
requests, and what was answered so is counted, since a fault that nobody met proves nothing. No
threads and no clock here: the owner calls it under its own lock and waits for the delays itself.

Standard library only.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}
REQUESTS = ("read", "write", "flush")
"""A write that is to be durable when it is acknowledged (FUA) is a "write" and a "flush"."""


class MisbehaviourError(Exception):
    """A request names a misbehaviour that there is not; the message is one line."""


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """Answer such `requests` of `nodes` `delay_ms` later, and with `error` if one is named.

    With `limit`, only the next so many. A write that is answered with an error is `applied` all the same, or
    is not.
    """

    nodes: tuple[str, ...]
    requests: tuple[str, ...]
    error: str = ""
    applied: bool = False
    delay_ms: float = 0.0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """The requests answered so until now, and the least and most time from arrival to answer of one.

    `over` tells that no further one will be.
    """

    requests: int
    over: bool
    shortest_ms: float
    longest_ms: float


@dataclass(slots=True, eq=False)
class Active:
    """A misbehaviour that has begun, until it is `ended`; `left` is what remains of its limit."""

    id: int
    what: Misbehaviour
    left: int
    ended: bool = False
    answered: int = 0
    shortest_ns: int = 0
    longest_ns: int = 0

    def describe(self) -> dict[str, Any]:
        """Return the fields of `Misbehaved`."""
        return {
            "requests": self.answered,
            "over": self.ended,
            "shortest_ms": self.shortest_ns / 1e6,
            "longest_ms": self.longest_ns / 1e6,
        }


@dataclass(slots=True, eq=False)
class Caught:
    """What a request in service has met; a misbehaviour that ends lets it go on as if it had not."""

    met: list[Active] = field(default_factory=list)

    @property
    def delay_ns(self) -> int:
        """How much longer the request takes."""
        return sum(int(active.what.delay_ms * 1e6) for active in self._standing())

    @property
    def error(self) -> Misbehaviour | None:
        """The first misbehaviour that has an error for the request."""
        return next((active.what for active in self._standing() if active.what.error), None)

    def answered(self, took_ns: int) -> None:
        """Count the request, which is answered now, where it was met."""
        for active in self._standing():
            active.shortest_ns = min(active.shortest_ns, took_ns) if active.answered else took_ns
            active.longest_ns = max(active.longest_ns, took_ns)
            active.answered += 1

    def _standing(self) -> Iterator[Active]:
        return (active for active in self.met if not active.ended)


class MisbehaviourBook:
    """All misbehaviours of a storage; `active` is empty, and costs nothing, while there is none."""

    def __init__(self) -> None:
        self._all: list[Active] = []
        self.active: list[Active] = []

    def begin(self, what: Misbehaviour) -> Active:
        """Misbehave so from now on."""
        active = Active(len(self._all) + 1, what, what.limit)
        self._all.append(active)
        self.active.append(active)
        return active

    def end(self, number: int) -> None:
        """End a misbehaviour, for requests in service too; no error if it has ended."""
        ended = self.get(number)
        ended.ended = True
        if ended in self.active:
            self.active.remove(ended)

    def catch(self, node: str, *requests: str) -> Caught:
        """Return what a request of `node` that has just arrived meets, and take it off the limits."""
        caught = Caught()
        for active in tuple(self.active):
            what = active.what
            if node not in what.nodes or not any(request in what.requests for request in requests):
                continue
            caught.met.append(active)
            if active.left == 1:
                self.active.remove(active)
            active.left -= 1
        return caught

    def get(self, number: int) -> Active:
        """Return the misbehaviour with this id; raises MisbehaviourError if there is none."""
        if not 1 <= number <= len(self._all):
            raise MisbehaviourError(f"there is no misbehaviour {number}")
        return self._all[number - 1]
