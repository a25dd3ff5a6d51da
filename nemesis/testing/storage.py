"""The storage of the scripted lab: it holds, fences and misbehaves, and counts what met that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import InFlight, Misbehaved, Misbehaviour
from nemesis.testing.situation import Misbehaving, Situation, now_s, until


@dataclass(slots=True)
class _Hold:
    """A hold, and the write that it has caught."""

    node: str
    blocks: Sequence[int]
    write: InFlight | None = None
    released: bool = False


class ScriptedStorage:
    """Implements lab.seams.Storage; an armed hold catches a write when it is waited for."""

    def __init__(self, situation: Situation) -> None:
        self._now = situation
        self._holds: list[_Hold] = []

    async def in_flight(self, node: str) -> Sequence[InFlight]:
        """Return the node's held writes: no other one stays in flight here."""
        writes = (hold.write for hold in self._holds if not hold.released)
        return [write for write in writes if write is not None and write.node == node]

    async def wait_in_flight(
        self, node: str, blocks: Sequence[int], count: int, timeout_s: float
    ) -> Sequence[InFlight]:
        """Return the writes that the node's guest sends next, as if they were in flight together."""
        await self._sent(node, count, timeout_s, f"{node} had no {count} writes in flight")
        block = blocks[0] if blocks else 0
        received_ns = int(now_s() * 1e9)
        last = self._now.operations
        return [
            InFlight(last + n, node, block, last + n, received_ns, held=False) for n in range(1, count + 1)
        ]

    async def hold(self, node: str, blocks: Sequence[int] = ()) -> int:
        """Arm a hold."""
        self._holds.append(_Hold(node, blocks))
        return len(self._holds)

    async def wait_held(self, hold: int, timeout_s: float) -> InFlight:
        """Return the write that the node's guest sends next, held."""
        caught, node = self._get(hold), self._get(hold).node
        await self._sent(node, 1, timeout_s, f"no write of {node} came to be held")
        block = caught.blocks[0] if caught.blocks else 0
        caught.write = InFlight(hold, node, block, self._now.operations + 1, int(now_s() * 1e9), held=True)
        return caught.write

    async def wait_writes(self, node: str, block: int, count: int, timeout_s: float) -> None:
        """Return once the node's guest has had the time for so many writes to the block."""
        await self._sent(node, count, timeout_s, f"{node} had no {count} writes to block {block} completed")

    async def reissues(self, node: str) -> int:
        """Return how often the node's guest was let run with a request that had failed."""
        return self._now.reissues[node]

    async def wait_reissues(self, node: str, count: int, timeout_s: float) -> None:
        """Return once there were so many."""
        await until(
            lambda: self._now.reissues[node] >= count, timeout_s, f"{node} sent no {count} writes again"
        )

    async def release(self, hold: int) -> None:
        """Let the held write land, or disarm the hold."""
        self._get(hold).released = True

    async def wait_landed(self, hold: int, timeout_s: float) -> None:
        """Return once it is released: it lands at once."""
        held = self._get(hold)
        await until(lambda: held.released, timeout_s, f"the write of hold {hold} has not landed")

    async def fence(self, node: str, *, abort: bool) -> None:
        """Refuse the node from now on; `abort` ends its held writes too."""
        self._shut_out({node})
        for hold in self._holds:
            hold.released |= abort and hold.node == node

    async def raise_epoch(self, node: str) -> None:
        """Refuse all nodes but this one."""
        self._shut_out(self._now.guest.keys() - {node})
        await self.unfence(node)

    async def admit_single_writer(self, node: str) -> None:
        """Refuse all nodes but this one, once nothing of theirs is held."""
        others = self._now.guest.keys() - {node}
        for hold in self._holds:
            hold.released |= hold.node in others
        await self.raise_epoch(node)

    async def unfence(self, node: str) -> None:
        """Admit the node again."""
        self._now.settle()
        self._now.fenced.discard(node)
        self._now.disk_changed()

    async def misbehave(self, what: Misbehaviour) -> int:
        """Answer requests so from now on."""
        self._now.misbehaving.append(Misbehaving(what, self._now.operations))
        self._now.disk_changed()
        return len(self._now.misbehaving)

    async def wait_misbehaved(self, misbehaviour: int, count: int, timeout_s: float) -> Misbehaved:
        """Return once so many requests met it: each that fails, or all that complete while it delays."""
        active = self._misbehaving(misbehaviour)
        await until(
            lambda: self._met(active) >= count,
            timeout_s,
            f"the storage answered fewer than {count} requests so",
        )
        took_ms = max(map(self._now.operation_ms, active.what.nodes))
        return Misbehaved(self._met(active), active.over, took_ms, took_ms)

    async def behave(self, misbehaviour: int) -> None:
        """End it."""
        active = self._misbehaving(misbehaviour)
        active.met = self._met(active)
        active.over = True
        self._now.disk_changed()

    async def stats(self) -> dict[str, Any]:
        """Return how many operations the guest has completed."""
        return {"received": self._now.operations}

    async def _sent(self, node: str, count: int, timeout_s: float, what: str) -> None:
        await until(lambda: self._now.works(node), timeout_s, what)
        await asyncio.sleep(count * self._now.operation_ms(node) / 1000)

    def _shut_out(self, nodes: set[str]) -> None:
        self._now.settle()
        self._now.fenced |= nodes
        self._now.disk_changed()

    def _get(self, hold: int) -> _Hold:
        if not 1 <= hold <= len(self._holds):
            raise LabError(f"there is no hold {hold}")
        return self._holds[hold - 1]

    def _misbehaving(self, number: int) -> Misbehaving:
        if not 1 <= number <= len(self._now.misbehaving):
            raise LabError(f"there is no misbehaviour {number}")
        return self._now.misbehaving[number - 1]

    def _met(self, active: Misbehaving) -> int:
        operations = self._now.operations
        return active.met if active.what.error or active.over else operations - active.begun_at


class ScriptedServers:
    """Implements lab.seams.StorageServers; the content outlives them, but for a cache that nobody flushes."""

    def __init__(self, situation: Situation) -> None:
        self._now = situation
        self._lost = 0

    async def stop(self) -> None:
        """End them; what was in flight fails."""
        self._serve(False)

    async def unflushed(self) -> int:
        """Return how many operations have completed since the last loss."""
        return self._now.operations - self._lost

    async def lose_cache(self) -> int:
        """Lose what has completed since the last loss; raise LabError while the servers run."""
        if self._now.served:
            raise LabError("the storage's servers still run: its cache is lost when the power is")
        lost = await self.unflushed()
        self._lost += lost
        return lost

    async def throttle(self, node: str, bytes_per_s: int) -> None:
        """Raise LabError: there is no throttle here."""
        raise LabError("the scripted lab has no throttle; try it on a real one")

    async def start(self) -> None:
        """Serve again."""
        self._serve(True)

    def _serve(self, served: bool) -> None:
        self._now.settle()
        self._now.served = served
        self._now.disk_changed()
