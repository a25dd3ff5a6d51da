"""What a workload hands the engine: operations as integers, drawn in batches.

A workload of another package imports this module, in the guest as in its own tests.
"""

from typing import Protocol

READ = 0
SWEEP = 1
"""A read of the sweep over every block."""
FLUSH = 2
"""A flush of the whole disk; its block is 0."""
WRITE = 3
"""This kind and those above it are writes."""
BURST = 4
"""A write to be followed, once it completes, by another write of the block and then a read."""
FOLLOW = 5
"""The second write of a burst; a read of its block comes next."""
KIND_BITS = 3
"""An operation is the integer `block << KIND_BITS | kind`."""
REQUESTS = 4
"""Requests that a slot of a disk has numbers for."""


class Source(Protocol):
    """Draws operations over `blocks` blocks.

    The first `hot_blocks` of them are a set of their own: a write to a block that has one in flight already
    goes to the next free block of the same set, unless the writes may overlap.
    """

    blocks: int
    hot_blocks: int

    def batch(self) -> list[int]:
        """Return the next operations, one at least; the last of the list is to be done first."""
