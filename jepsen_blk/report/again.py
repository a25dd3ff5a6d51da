"""The command that repeats a run, and what of it comes again: of a simulation every byte of the history."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Again:
    """The command, and what is the same each time."""

    command: str
    same: str


def how_to_repeat(results: Mapping[str, Any], run_dir: Path) -> Again | None:
    """Return how the run in `run_dir`, as it is written there, is repeated; None for one of before that."""
    lab = results.get("lab")
    if lab is None:
        return None
    same = "the same history, byte for byte" if lab == "sim" else "the same plan of faults"
    return Again(f"jepsen-blk replay {shlex.quote(run_dir.as_posix())}", same)
