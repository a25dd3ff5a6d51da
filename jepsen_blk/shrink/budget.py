"""How long to go on: so many runs, or so much time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from jepsen_blk.errors import UserError

_SECONDS = {"s": 1, "m": 60, "h": 3600}


class BudgetSpent(Exception):
    """No run may be begun any more."""


@dataclass(slots=True)
class Budget:
    """A number of runs, or a time from now on; `told` is how a person says it."""

    told: str
    runs: float
    seconds: float
    clock: Callable[[], float] = time.monotonic
    _began_s: float = field(default=0.0, init=False)
    _spent: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """The time begins."""
        self._began_s = self.clock()

    def spend_run(self) -> None:
        """Count a run that is about to begin; raises BudgetSpent if there is none left."""
        if self._spent >= self.runs or self.clock() - self._began_s >= self.seconds:
            raise BudgetSpent
        self._spent += 1


def parse_budget(text: str, clock: Callable[[], float] = time.monotonic) -> Budget:
    """Read `60` (runs) or `90s`, `30m`, `2h`; raises UserError for anything else."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smh]?)", text)
    if not found:
        what = "neither a number of runs nor a time"
        raise UserError(f"--budget: {text!r} is {what}; write 60, 90s, 30m or 2h")
    number, unit = int(found[1]), found[2]
    if unit:
        return Budget(f"{number} {unit}", float("inf"), number * _SECONDS[unit], clock)
    return Budget("1 run" if number == 1 else f"{number} runs", number, float("inf"), clock)
