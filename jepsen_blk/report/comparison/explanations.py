"""Why simulator and local lab differ where they do: written down by pattern, or the page is not made."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from jepsen_blk.campaign.rows import Cell
from jepsen_blk.errors import UserError
from jepsen_blk.mistakes import mistakes
from jepsen_blk.table import Table

EXPLANATIONS = Path(__file__).with_name("explanations.toml")


class Explanation(Table):
    """Explains the disagreements whose cell and judgements fit its patterns."""

    frontend: str = "*"
    storage: str = "*"
    policy: str = "*"
    nemesis: str = "*"
    sim: str = "*"
    local: str = "*"
    why: Annotated[str, Field(min_length=1)]

    def fits(self, cell: Cell, sim: str, local: str) -> bool:
        """Tell whether it explains that the two labs judge the cell so."""
        pairs = (
            (cell.frontend, self.frontend),
            (cell.storage, self.storage),
            (cell.policy, self.policy),
            (cell.nemesis, self.nemesis),
            (sim, self.sim),
            (local, self.local),
        )
        return all(fnmatchcase(name, pattern) for name, pattern in pairs)


class _File(Table):
    explanation: tuple[Explanation, ...] = ()


def load_explanations(path: Path = EXPLANATIONS) -> tuple[Explanation, ...]:
    """Read the explanations; raises UserError naming the file and every mistake."""
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).explanation
    except (OSError, ValueError) as error:
        why = mistakes(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path}: not a file of explanations: {why}") from error
