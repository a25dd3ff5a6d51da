"""A write in flight, as the policy target knows it.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jepsen_blk.storage.conflict import Write
from jepsen_blk.storage.holds import Hold
from jepsen_blk.storage.misbehaviour import Caught


@dataclass(slots=True, eq=False)
class Pending:
    """What the arbiter knows of the write, and what was seen of it when it came."""

    write: Write
    value: int
    process: int
    received_ns: int
    hold: Hold | None = None
    met: Caught | None = None

    @property
    def blocks(self) -> Sequence[int]:
        """The blocks that it touches."""
        return self.write.blocks

    @property
    def held(self) -> bool:
        """Tell whether a hold keeps it."""
        return self.hold is not None and not self.hold.released

    def describe(self) -> dict[str, Any]:
        """Return it as `InFlight`."""
        write = self.write
        return {
            "id": write.id,
            "node": write.node,
            "block": write.blocks[0],
            "value": self.value,
            "received_ns": self.received_ns,
            "held": self.held,
        }
