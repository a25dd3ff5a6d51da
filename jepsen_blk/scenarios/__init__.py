"""The stale overwrite in ten exact interleavings, each a specification with the end that it has to have.

They are what a change of the tester, of a hypervisor or of a storage is tried against: an anomaly that shows
no more is as much news as a new one.
"""

from __future__ import annotations

from pathlib import Path

from jepsen_blk.errors import UserError
from jepsen_blk.mistakes import unknown_name
from jepsen_blk.spec import Spec, load_spec

_HERE = Path(__file__).parent
NAMES = (
    "requeue-path-healed",
    "requeue-path-lost",
    "resend-on-reconnect",
    "reset-during-drain",
    "throttled-export",
    "held-in-network",
    "ignored-and-completed",
    "ignored-while-concurrent",
    "dead-hypervisor",
    "frozen-node",
)
"""In the order in which they are told: from writes that are sent again to guests that are started again."""


def scenario_file(name: str) -> Path:
    """Return the specification's file; raises UserError naming the choices."""
    if name not in NAMES:
        raise UserError(unknown_name("scenario", name, NAMES))
    return _HERE / f"{name}.toml"


def scenario(name: str, seed: int = 0, lab: str = "local") -> Spec:
    """Return the specification; raises UserError as scenario_file does."""
    return load_spec(scenario_file(name), {"seed": seed, "lab": lab})
