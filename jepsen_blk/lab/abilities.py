"""The words for what not every lab can do, beside impairing a path (paths.py)."""

from __future__ import annotations

from enum import StrEnum


class Ability(StrEnum):
    """What a fault may need of a lab."""

    POSTCOPY = "post-copy"
    SECOND_RUN = "a guest that runs on two nodes"
    FREEZE = "frozen nodes"
    ORPHAN = "hidden ends of connections"
    SERVERS = "storage that ends or loses its power"
