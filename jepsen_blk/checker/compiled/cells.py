"""What the passes of the machine code share: the cell, and what is kept of it from window to window."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ABSENT, ACKED, FAILED, OPEN, TWICE, SEEN, CLOSED, _, BARRED = range(9)
"""States of a cell: no such write, the outcomes in their order, two writes of one value, an open one that
a read saw, that one and an open one when no read to come may see them. What reads may see is odd."""
CELL = np.dtype([("minf", "<i8"), ("maxs", "<i8"), ("block", "<i4"), ("state", "u1")])
"""A write and its reads; a live one is ACKED or SEEN."""
KEPT = np.dtype(
    [
        *(("value", "<i8"), ("start", "<i8"), ("minf", "<i8"), ("maxs", "<i8")),
        *(("block", "<i4"), ("boot", "<i4"), ("next", "<i4"), ("state", "u1"), ("reported", "?")),
    ],
    align=True,
)
"""What is kept of a cell from window to window; `start` is the write's, `next` the place of
the next one of its block, NOWHERE for the last."""
HEAD = np.dtype([("value", "<i8"), ("place", "<i8")])
"""Of a block the value and the place of the first that is kept; all zero but the place, NOWHERE, for none."""
NOWHERE = -1

Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[Any]
Cells = npt.NDArray[Any]
Kept = npt.NDArray[Any]
Heads = npt.NDArray[Any]


def no_heads(blocks: int) -> Heads:
    """Return the heads of so many blocks of which nothing is kept."""
    heads = np.zeros(blocks, dtype=HEAD)
    heads["place"] = NOWHERE
    return heads
