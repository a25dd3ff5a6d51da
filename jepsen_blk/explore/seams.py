"""The seams as a handoff policy meets them while it is explored: before each of its calls, a choice.

Between any two steps of a policy anything else may happen. The calls themselves are those of the simulator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jepsen_blk.explore.loop import ChoiceLoop
from jepsen_blk.lab.seams import InFlight
from jepsen_blk.lab.sim.hypervisor import SimHypervisor
from jepsen_blk.lab.sim.steering import SimStorage
from jepsen_blk.lab.sim.target import SimTarget
from jepsen_blk.stamp import BLOCK_BYTES
from jepsen_blk.storage.log import WriteLine


class Turns:
    """Where a policy waits for its turn."""

    def __init__(self, loop: ChoiceLoop) -> None:
        self._loop = loop

    async def take(self, step: str, node: str) -> None:
        """Return when the step is chosen."""
        turn = self._loop.create_future()
        self._loop.call_later(0.0, self.go, turn, step, node)
        await turn

    def go(self, turn: asyncio.Future[None], step: str, node: str) -> None:
        """Let the step be taken."""
        turn.set_result(None)


class StepwiseStorage(SimStorage):
    """The storage, of which a policy's calls are choices."""

    def __init__(self, turns: Turns, target: SimTarget) -> None:
        super().__init__(target)
        self._turns = turns

    async def in_flight(self, node: str) -> Sequence[InFlight]:
        """Ask, when it is chosen."""
        await self._turns.take("in-flight", node)
        return await super().in_flight(node)

    async def fence(self, node: str, *, abort: bool) -> None:
        """Fence, when it is chosen."""
        await self._turns.take("fence-and-abort" if abort else "fence", node)
        await super().fence(node, abort=abort)

    async def raise_epoch(self, node: str) -> None:
        """Raise the epoch, when it is chosen."""
        await self._turns.take("epoch", node)
        await super().raise_epoch(node)

    async def admit_single_writer(self, node: str) -> None:
        """Make it the single writer, when it is chosen."""
        await self._turns.take("single-writer", node)
        await super().admit_single_writer(node)

    async def unfence(self, node: str) -> None:
        """Unfence, when it is chosen."""
        await self._turns.take("unfence", node)
        await super().unfence(node)


class StepwiseHypervisor(SimHypervisor):
    """The hypervisors, of which a policy's calls are choices."""

    def __init__(self, turns: Turns, *parts: Any) -> None:
        super().__init__(*parts)
        self._turns = turns

    async def disconnect(self, node: str) -> None:
        """Drop the connections, when it is chosen."""
        await self._turns.take("disconnect", node)
        await super().disconnect(node)

    async def kill(self, node: str) -> None:
        """Kill, when it is chosen."""
        await self._turns.take("kill", node)
        await super().kill(node)

    async def kill_now(self, node: str) -> None:
        """Kill: that it happens was chosen."""
        await super().kill(node)


class DeafStream:
    """Implements lab.seams.GuestStream for guests that say nothing."""

    async def listen(self, node: str, path: Path) -> None:
        """Nobody listens."""

    def accept(self, node: str) -> asyncio.Protocol:
        """Return an end that hears nothing."""
        return asyncio.Protocol()

    async def attach(self, node: str) -> None:
        """It makes no difference where from."""


class OneBlock:
    """Implements storage.target.backing.Backing for the one block that is written."""

    cached = 0

    def __init__(self) -> None:
        self._block = bytes(BLOCK_BYTES)

    def read(self, buffer: memoryview, offset: int) -> None:
        """Read it."""
        buffer[:] = self._block

    def write(self, data: memoryview, offset: int, *, durable: bool = False) -> None:
        """Write it."""
        self._block = bytes(data)

    def flush(self) -> None:
        """Nothing is cached."""


class Memory:
    """Implements lab.sim.target.Log: keeps the lines of ended writes."""

    def __init__(self) -> None:
        self.lines: list[WriteLine] = []
        self.write = self.lines.append

    def event(self, kind: str, **fields: Any) -> None:
        """Only writes are kept."""
