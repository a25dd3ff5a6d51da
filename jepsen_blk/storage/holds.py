"""Holds: which write is to be kept in flight, which one is, and what has completed around it.

The policy target holds a write in the server, the proxy holds its bytes on the wire; both keep this
book and answer the same control requests from it. No threads and no clock here: the owner calls it
under its own lock or in its own event loop, and wakes whoever waits.

Standard library only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jepsen_blk.stamp import BLOCK_BYTES, Stamp, decode_one

UNSTAMPED = -1
"""Value and process of a write whose data carry no stamp; a write of zeros has value 0."""

_HEAD_BYTES = 64
_ZERO_HEAD = bytes(_HEAD_BYTES)


class HoldError(Exception):
    """A request names a hold that cannot do what is asked; the message is one line."""


def blocks_of(offset: int, length: int) -> range:
    """Return the blocks that `length` bytes at `offset` touch."""
    return range(offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES))


def stamp_of(data: bytes | bytearray | memoryview) -> tuple[int, int]:
    """Return (value, process) of the stamp that `data` begins with; (0, -1) for zeros, (-1, -1) for none."""
    head = bytes(data[:_HEAD_BYTES])
    stamp: Stamp | None = decode_one(head)
    if stamp is not None:
        return stamp.value, stamp.process
    return (0 if head == _ZERO_HEAD[: len(head)] else UNSTAMPED), UNSTAMPED


@dataclass(frozen=True, slots=True)
class InFlight:
    """A write that the target has accepted and not completed; `received_ns` is monotonic host time."""

    id: int
    node: str
    block: int
    value: int
    received_ns: int
    held: bool


@dataclass(slots=True)
class Hold:
    """An armed hold, and the write it caught (described as `InFlight`, as JSON)."""

    id: int
    node: str
    blocks: frozenset[int]
    caught: dict[str, Any] | None = None
    released: bool = False
    landed: bool = False

    def matches(self, node: str, blocks: Sequence[int]) -> bool:
        """Tell whether the hold waits for such a write; no blocks mean any."""
        return node == self.node and (not self.blocks or not self.blocks.isdisjoint(blocks))


class HoldBook:
    """All holds of a storage, and the writes completed since each caught its own."""

    def __init__(self) -> None:
        self._holds: list[Hold] = []
        self._armed: list[Hold] = []
        self._completed: dict[int, Counter[str]] = {}

    def arm(self, node: str, blocks: Sequence[int]) -> Hold:
        """Arm a hold on the next write of `node` to one of `blocks` (to any block, if none are given)."""
        hold = Hold(len(self._holds) + 1, node, frozenset(blocks))
        self._holds.append(hold)
        self._armed.append(hold)
        return hold

    def match(self, node: str, blocks: Sequence[int]) -> Hold | None:
        """Return the oldest armed hold that waits for such a write, and disarm it; `catch` must follow."""
        for hold in self._armed:
            if hold.matches(node, blocks):
                self._armed.remove(hold)
                return hold
        return None

    def catch(self, hold: Hold, blocks: Sequence[int], described: dict[str, Any]) -> None:
        """Give the hold its write; completions on the write's blocks are counted from here."""
        hold.caught = described
        for block in blocks:
            self._completed[block] = Counter()

    def completed(self, node: str, blocks: Sequence[int]) -> None:
        """Count a write that was not held and completed without an error."""
        if self._completed:
            for block in blocks:
                counts = self._completed.get(block)
                if counts is not None:
                    counts[node] += 1

    def count(self, node: str, block: int) -> int:
        """Return how many writes of `node` to `block` completed since a hold last caught one there."""
        counts = self._completed.get(block)
        if counts is None:
            raise HoldError(f"no hold has caught a write to block {block}")
        return counts[node]

    def get(self, number: int) -> Hold:
        """Return the hold with this id; raises HoldError if there is none."""
        if not 1 <= number <= len(self._holds):
            raise HoldError(f"there is no hold {number}")
        return self._holds[number - 1]

    def release(self, number: int) -> Hold | None:
        """Release a hold; return it if its write is to be let go now, None if there is nothing to do."""
        hold = self.get(number)
        if hold.released:
            return None
        hold.released = True
        if hold.caught is None:
            hold.landed = True
            if hold in self._armed:
                self._armed.remove(hold)
            return None
        return hold

    def is_caught(self, number: int) -> bool:
        """Tell whether the hold has its write; raises HoldError if it was disarmed before."""
        hold = self.get(number)
        if hold.caught is None and hold.released:
            raise HoldError(f"hold {number} was released before it caught a write")
        return hold.caught is not None
