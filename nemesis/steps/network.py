"""Steps on the network: a path is cut, its connections are killed, and it is mended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from jepsen_blk.errors import LabError
from jepsen_blk.lab.paths import Direction, Path_
from jepsen_blk.stamp import BLOCK_BYTES
from nemesis.steps.script import GuestNode, Plain, Script, Timeout

_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Cut(Plain):
    """Cut a node's path; what is on its way already arrives."""

    do: Literal["cut"]
    node: GuestNode
    path: Path_ = Path_.STORAGE
    direction: Direction = Direction.BOTH

    async def play(self, script: Script) -> str:
        """Cut it and see that it carries no new connection."""
        network, node = script.stage.lab.network, script.nodes[self.node]
        script.undo[_cut_of(node, self.path)] = lambda: network.heal(node, self.path)
        await network.cut(node, self.path, self.direction)
        script.stage.events.emit("network", self.path.value, "cut", node=node, direction=self.direction.value)
        if await network.reachable(node, self.path):
            raise LabError(f"the {self.path.value} path of {node} still carries new connections")
        return f"the {self.path.value} path of {node} carries nothing new"


@dataclass(frozen=True, slots=True)
class Reset(Plain):
    """Kill the node's connections on a path."""

    do: Literal["reset"]
    node: GuestNode
    path: Path_ = Path_.STORAGE

    async def play(self, script: Script) -> str:
        """Kill them; there must be some."""
        node = script.nodes[self.node]
        killed = await script.stage.lab.network.reset(node, self.path)
        script.stage.events.emit("network", self.path.value, "reset", node=node, killed=killed)
        if not killed:
            raise LabError(f"{node} had no connection to kill on its {self.path.value} path")
        return f"{killed} connection{'s' * (killed > 1)} of {node} killed"


@dataclass(frozen=True, slots=True)
class Mend(Plain):
    """Mend what was cut."""

    do: Literal["mend"]
    node: GuestNode
    path: Path_ = Path_.STORAGE

    async def play(self, script: Script) -> str:
        """Mend it and see that it carries a new connection."""
        network, node = script.stage.lab.network, script.nodes[self.node]
        await network.heal(node, self.path)
        script.stage.events.emit("network", self.path.value, "healed", node=node)
        if not await network.reachable(node, self.path):
            raise LabError(f"the {self.path.value} path of {node} is dead after mending")
        script.undo.pop(_cut_of(node, self.path), None)
        return f"the {self.path.value} path of {node} is whole"


@dataclass(frozen=True, slots=True)
class AwaitUnacknowledged(Plain):
    """Wait until a node's kernel has a write to send that the other end of a cut path cannot acknowledge."""

    do: Literal["await-unacknowledged"]
    node: GuestNode
    path: Path_ = Path_.STORAGE
    timeout_s: Timeout = 10.0

    async def play(self, script: Script) -> str:
        """Wait for a block of it at least."""
        network, node = script.stage.lab.network, script.nodes[self.node]
        async with asyncio.timeout(self.timeout_s):
            while (count := await network.unacknowledged_bytes(node, self.path)) < BLOCK_BYTES:
                await asyncio.sleep(_POLL_S)
        return f"the kernel of {node} has {count} B to send"


def _cut_of(node: str, path: Path_) -> str:
    return f"cut of the {path.value} path of {node}"


NetworkStep = Cut | Reset | Mend | AwaitUnacknowledged
