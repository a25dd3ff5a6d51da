"""What is explored: a storage, a frontend, a policy, and how much goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jepsen_blk.spec import HandoffPolicy, Spec, make_spec
from jepsen_blk.storage.conflict import ConflictModel

BLOCK = 17
"""The block that both writes go to."""


class Frontend(StrEnum):
    """What stands between the guest and the wire, see lab/sim/frontend.py."""

    BLKFRONT = "blkfront"
    QEMU = "qemu"
    QEMU_RECONNECT = "qemu-reconnect"


class Scope(StrEnum):
    """What happens: a migration; one with a loss of X's path; or X is lost, the guest started again."""

    MIGRATION = "migration"
    PATH_LOSS = "path-loss"
    FAILOVER = "failover"


class Wire(StrEnum):
    """When what X has sent arrives: at any time, or before the first step of the handoff."""

    LATE = "late"
    PROMPT = "prompt"


_RECONNECT_S = 30
_GUESTS: dict[Frontend, dict[str, Any]] = {
    Frontend.BLKFRONT: {"frontend": "blkfront"},
    Frontend.QEMU: {},
    Frontend.QEMU_RECONNECT: {"reconnect_delay_s": _RECONNECT_S},
}


@dataclass(frozen=True, slots=True)
class Case:
    """One cell: everything that the interleavings have in common."""

    conflict: ConflictModel = ConflictModel.IGNORE_SECOND
    frontend: Frontend = Frontend.BLKFRONT
    policy: HandoffPolicy = HandoffPolicy.REQUEUE
    scope: Scope = Scope.PATH_LOSS
    wire: Wire = Wire.LATE

    def spec(self) -> Spec:
        """Return the specification of the simulated lab."""
        return make_spec(self.tables())

    def tables(self) -> dict[str, Any]:
        """Return what a specification has to say of it."""
        lab = {"lab": "sim"} if self.frontend is Frontend.BLKFRONT else {}
        guest = {"guest": _GUESTS[self.frontend]} if _GUESTS[self.frontend] else {}
        return {
            **lab,
            **guest,
            "storage": {"conflict": self.conflict.value},
            "handoff": {"policy": self.policy.value},
        }
