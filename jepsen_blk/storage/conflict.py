"""Conflict models: what the target does with a write to a block that has one in flight.

Pure decisions, written once and used by the real target and by the simulator.
Standard library only: the target imports this under a Python without third-party packages.
"""

from __future__ import annotations

from enum import StrEnum


class ConflictModel(StrEnum):
    """What the target does with a write to a block that has one in flight."""

    ARRIVAL_ORDER = "arrival-order"
    IGNORE_SECOND = "ignore-second"
    SERIALIZE = "serialize"
    REJECT_BUSY = "reject-busy"
    DROP_ON_DISCONNECT = "drop-on-disconnect"
