"""Sightings: who waits until a node has so many writes in flight, and what was seen then.

A write on fast storage is in flight for less than a millisecond, so neither a poll nor a thread that is
woken would find it there: the storage looks by itself as each write arrives, before it does anything else.
No threads and no clock here: the owner calls it under its own lock or in its own event loop, and wakes
whoever waits.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Flight(Protocol):
    """A write in flight."""

    @property
    def blocks(self) -> Sequence[int]:
        """The blocks that it touches."""

    def describe(self) -> dict[str, Any]:
        """Return it as `InFlight`."""


@dataclass(slots=True, eq=False)
class Sighting:
    """What is looked out for, and the writes (as `InFlight`, as JSON) in flight when it was seen."""

    node: str
    blocks: frozenset[int]
    count: int
    seen: list[dict[str, Any]] | None = None

    def look(self, flights: Iterable[Flight]) -> bool:
        """Tell whether enough of the node's writes in flight are to one of the blocks; no blocks mean any."""
        met = [flight for flight in flights if not self.blocks or not self.blocks.isdisjoint(flight.blocks)]
        if len(met) >= self.count:
            self.seen = [flight.describe() for flight in met]
        return self.seen is not None


class Sightings:
    """All that is looked out for and was not seen yet."""

    def __init__(self) -> None:
        self._awaited: list[Sighting] = []

    def look_out(self, sighting: Sighting, flights: Iterable[Flight]) -> None:
        """Look at what is in flight now, and from now on; `end` must follow."""
        if not sighting.look(flights):
            self._awaited.append(sighting)

    def arrived(self, node: str, flights: Callable[[], Iterable[Flight]]) -> bool:
        """Look at what is in flight now that a write of `node` has arrived; tell whether that was awaited."""
        met = [awaited for awaited in self._awaited if awaited.node == node and awaited.look(flights())]
        for sighting in met:
            self._awaited.remove(sighting)
        return bool(met)

    def end(self, sighting: Sighting) -> None:
        """Look out for it no more; no error if it was seen."""
        if sighting in self._awaited:
            self._awaited.remove(sighting)
