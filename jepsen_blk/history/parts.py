"""A stored history in parts of bounded size, for who cannot hold all of it in memory.

A form that can be read so yields its rows in the order of the file, so that the parts put together are what
reading the whole gives. Reading twice gives the same parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from jepsen_blk.history.record import History

PART_ROWS = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a stored history, with their `line`.

    The marks (fences, crashes, clocks, lost tails) and the doubts of a history are those of all its parts
    together; what only the end of the file can tell comes with the last part. `share` of the file has been
    read, from 0 to 1.
    """

    history: History
    share: float
    doubts: tuple[str, ...] = ()


class Parts(Protocol):
    """A stored history that is read part by part, as often as it is asked for.

    Raises HistoryError where the file is malformed or cannot be read. `name` is what messages call it.
    """

    @property
    def name(self) -> str:
        """Return the file's name."""

    def __call__(self) -> Iterator[Part]:
        """Yield the parts, at least one."""
