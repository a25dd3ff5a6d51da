"""What the faults of the network share: whose paths they act on, how these are seen whole, and how healed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from jepsen_blk.errors import SpecError
from jepsen_blk.lab.paths import Direction, Path_
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import let_reconnect, let_work, require_working
from nemesis.overlap import Ground

_PATHS = {"storage": (Path_.STORAGE,), "migration": (Path_.MIGRATION,), "all": tuple(Path_)}


@dataclass(slots=True)
class OnPaths:
    """A fault of a node's paths for `duration_s`; a fault of the catalogue adds how it begins and shows.

    The node is chosen when the fault begins: the paths stay its own where the guest moves meanwhile.
    """

    name: ClassVar[str]
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    duration_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    node: Literal["guest", "other"] = "guest"
    path: Literal["storage", "migration", "all"] = "storage"
    _node: str = field(default="", init=False, repr=False)

    async def setup(self, stage: Stage) -> None:
        """See that the paths are whole: a fault of a dead path would prove itself."""
        self._node = stage.guest_node if self.node == "guest" else stage.other_node
        for path in self.paths():
            if not await stage.lab.network.reachable(self._node, path):
                raise NotProven(f"the {path.value} path of {self._node} was dead before the fault")

    async def dwell(self, stage: Stage) -> None:
        """Leave it so."""
        await asyncio.sleep(self.duration_s)

    async def heal(self, stage: Stage) -> None:
        """Mend the paths, let a stopped guest run on, and the other node connect to the storage again."""
        await self.mend(stage)
        await let_work(stage)
        if self._node == stage.other_node and Path_.STORAGE in self.paths():
            await let_reconnect(stage)

    async def prove_healed(self, stage: Stage) -> str:
        """The paths carry a new connection, and the guest completes operations again."""
        return f"{await self.require_whole(stage)}; {await require_working(stage)}"

    def paths(self) -> tuple[Path_, ...]:
        """The paths that the fault acts on."""
        return _PATHS[self.path]

    def upsets(self) -> frozenset[Ground]:
        """Its paths: what else acts on them would be mended with it."""
        return frozenset(Ground(path.value) for path in self.paths())

    def needs_guest(self) -> bool:
        """Tell whether a guest at work is needed to prove it: probes and counters tell of a path."""
        return False

    def rests_on_cut(self) -> frozenset[Ground]:
        """Say what a cut rests on while it stands; raise SpecError if it takes the guest's disk away."""
        if self.node == "guest" and Path_.STORAGE in self.paths():
            raise SpecError(
                f"nemesis {self.name}: nothing can come during it, since no guest works without its "
                "storage path; use path = 'migration', or node = 'other'"
            )
        return self.upsets() | {Ground.PLACE}

    async def cut(self, stage: Stage, direction: Direction) -> None:
        """Cut the paths in that direction."""
        for path in self.paths():
            await stage.lab.network.cut(self._node, path, direction)
            stage.events.emit("network", path.value, "cut", node=self._node, direction=direction.value)

    async def require_cut(self, stage: Stage, direction: Direction) -> str:
        """Raise NotProven unless new connections fail and packets were dropped in that direction only."""
        counts = []
        for path in self.paths():
            if await stage.lab.network.reachable(self._node, path):
                raise NotProven(f"the {path.value} path of {self._node} still carries new connections")
            dropped = await stage.lab.network.dropped(self._node, path)
            said = f"{dropped.out} from it and {dropped.in_} to it dropped"
            wanted, unwanted = {
                Direction.BOTH: (dropped.out, 0),  # what never arrives has no answer to drop
                Direction.OUT: (dropped.out, dropped.in_),
                Direction.IN: (dropped.in_, dropped.out),
            }[direction]
            if not wanted or unwanted:
                raise NotProven(f"the {path.value} path of {self._node} was cut {direction.value}: {said}")
            counts.append(f"{path.value} ({said})")
        return f"{self._node} cannot reach: {', '.join(counts)}"

    async def require_whole(self, stage: Stage) -> str:
        """Raise NotProven unless the paths carry new connections."""
        if not self._node:
            return "no path was touched"
        for path in self.paths():
            if not await stage.lab.network.reachable(self._node, path):
                raise NotProven(f"the {path.value} path of {self._node} is dead after healing")
        return f"{self._node} reaches: {', '.join(path.value for path in self.paths())}"

    async def mend(self, stage: Stage) -> None:
        """Mend the paths only."""
        for path in self.paths() if self._node else ():
            await stage.lab.network.heal(self._node, path)
            stage.events.emit("network", path.value, "healed", node=self._node)
