"""One-way: a path is cut in one direction alone, as by a broken switch port or a stray firewall rule.

Lost requests reach nobody. Lost answers are worse: the storage has done what the node cannot know of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jepsen_blk.lab.paths import Direction
from nemesis.fault import Stage
from nemesis.on_paths import OnPaths
from nemesis.overlap import Ground

_DIRECTIONS = {"requests": Direction.OUT, "answers": Direction.IN}


@dataclass(slots=True)
class OneWay(OnPaths):
    """Lose what the node sends (`requests`) or what it is sent (`answers`)."""

    name: ClassVar[str] = "one-way"

    lost: Literal["requests", "answers"] = "answers"

    async def inject(self, stage: Stage) -> None:
        """Cut that direction."""
        await self.cut(stage, _DIRECTIONS[self.lost])

    async def prove(self, stage: Stage) -> str:
        """A new connection does not come through, and only packets of that direction were dropped."""
        return await self.require_cut(stage, _DIRECTIONS[self.lost])

    def rests_on(self) -> frozenset[Ground]:
        """The cut paths, and a guest that does not need them."""
        return self.rests_on_cut()
