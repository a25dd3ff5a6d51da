"""One boot's numbered frames: which is next, which came before, which contradicts.

The guest's memory moves with it, so two sockets may deliver the same frame; it is the same bytes
unless two guests run with one memory. Kept apart from the sockets, since this is what decides
whether the history is whole.
"""

from __future__ import annotations

from array import array
from enum import Enum, auto
from zlib import crc32

_AHEAD_LIMIT = 256


class Arrival(Enum):
    """What a frame is to the stream."""

    NEXT = auto()
    KNOWN = auto()
    GAP = auto()
    DIVERGED = auto()


class RowStream:
    """Frames 1.. of `boot`; `received` is the last number up to which none is missing."""

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.received = 0
        self._checksums = array("I", (0,))
        self._ahead: dict[int, tuple[str, int, bytes]] = {}

    def arrive(self, sequence: int, payload: bytes) -> Arrival:
        """Take in a frame of the attached guest; only a NEXT one is part of the stream."""
        if sequence > self.received + 1:
            return Arrival.GAP
        if sequence <= self.received:
            return self._known(sequence, payload)
        self._checksums.append(crc32(payload))
        self.received = sequence
        return Arrival.NEXT

    def overhear(self, node: str, sequence: int, payload: bytes) -> Arrival:
        """Compare a frame of a node that is not attached; it is never part of the stream.

        One that is ahead of the stream (GAP) is remembered, within bounds, for `contradiction`.
        """
        if 0 < sequence <= self.received:
            return self._known(sequence, payload)
        if len(self._ahead) < _AHEAD_LIMIT:
            self._ahead[sequence] = (node, crc32(payload), payload)
        return Arrival.GAP

    def contradiction(self) -> tuple[str, bytes] | None:
        """Return the node and the payload of a frame overheard that differs from the one just received."""
        heard = self._ahead.pop(self.received, None)
        if heard is None or heard[1] == self._checksums[self.received]:
            return None
        return heard[0], heard[2]

    def _known(self, sequence: int, payload: bytes) -> Arrival:
        return Arrival.KNOWN if self._checksums[sequence] == crc32(payload) else Arrival.DIVERGED
