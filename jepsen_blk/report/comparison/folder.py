"""A comparison as it lies on disk, read for its report; whatever is wrong there is named with its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from jepsen_blk.campaign.rows import Cell
from jepsen_blk.campaign.summary import CellSummary
from jepsen_blk.errors import UserError

SUMMARY_FILE = "comparison.json"
MATRIX_FILE = "matrix.toml"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A cell that cannot be run, and why."""

    cell: Cell
    why: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The object of comparison.json: `command` makes the comparison, `begun` says when it was begun."""

    name: str
    about: str
    command: str
    begun: str
    cells: tuple[CellSummary, ...]
    skipped: tuple[LeftOut, ...] = ()

    def reasons(self) -> dict[str, list[Cell]]:
        """Return what was left out, by the reason."""
        reasons: dict[str, list[Cell]] = {}
        for item in self.skipped:
            reasons.setdefault(item.why, []).append(item.cell)
        return reasons


def load_comparison(folder: Path) -> Comparison:
    """Read the comparison in `folder`; raises UserError naming the file and the place that is wrong."""
    path = folder / SUMMARY_FILE
    try:
        comparison = msgspec.json.decode(path.read_bytes(), type=Comparison)
    except OSError as error:
        raise UserError(
            f"{path}: cannot read the comparison ({error.strerror}); name a folder that has one"
        ) from error
    except msgspec.DecodeError as error:
        raise UserError(f"{path}: not a comparison: {error}; make it again from its rows") from error
    if not comparison.cells:
        raise UserError(f"{path}: has no cell, so there is nothing to report; let it run first")
    seen = set()
    for summary in comparison.cells:
        if summary.cell in seen:
            raise UserError(f"{path}: has the cell {summary.cell} twice; make it again from its rows")
        seen.add(summary.cell)
    return comparison


def read_matrix(folder: Path) -> str:
    """Return the text of the matrix file, empty where there is none."""
    path = folder / MATRIX_FILE
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
