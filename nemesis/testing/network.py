"""The networks of the scripted lab: what was cut or impaired is seen by probes, counters and echoes."""

from __future__ import annotations

from collections import Counter

from jepsen_blk.lab.paths import Direction, Dropped, Echoes, Impairment, Latency, Loss, Path_, RateLimit
from jepsen_blk.lab.seams import GuestState
from jepsen_blk.stamp import BLOCK_BYTES
from nemesis.testing.situation import Situation

_RTT_MS = 0.2
_MBIT_PER_S = 10_000.0
_FEWEST_FOR_A_RATE = 16


class ScriptedNetwork:
    """Implements lab.seams.Network."""

    def __init__(self, situation: Situation) -> None:
        self._now = situation
        self._dropped: Counter[tuple[str, Path_, Direction]] = Counter()

    async def cut(self, node: str, path: Path_, direction: Direction = Direction.BOTH) -> None:
        """Let no packet through in that direction."""
        self._now.settle()
        self._now.cut[node, path] = direction
        self._now.disk_changed()

    async def impair(self, node: str, path: Path_, impairment: Impairment) -> None:
        """Make the path worse from now on."""
        self._now.settle()
        self._now.impaired[node, path] = impairment

    async def reset(self, node: str, path: Path_) -> int:
        """Kill the node's connection to the storage, if it has one, which fails what its guest had sent."""
        self._now.settle()
        if path is not Path_.STORAGE or self._now.guest[node] is GuestState.ABSENT:
            return 0
        self._now.fail(node)
        return 1

    async def heal(self, node: str, path: Path_) -> None:
        """Undo `cut` and `impair`, and count from 0 again."""
        self._now.settle()
        self._now.cut.pop((node, path), None)
        self._now.impaired.pop((node, path), None)
        for direction in Direction:
            self._dropped.pop((node, path, direction), None)
        self._now.disk_changed()

    async def hide_ends(self, node: str, path: Path_) -> None:
        """Mend the path: no kernel here sends anything once its process is gone."""
        await self.heal(node, path)

    async def reachable(self, node: str, path: Path_) -> bool:
        """Probe the path; a probe that is cut off is counted as dropped."""
        cut = self._now.cut.get((node, path))
        if cut is not None:
            self._drop(node, path, Direction.IN if cut is Direction.IN else Direction.OUT, 1)
        return cut is None and (path is not Path_.STORAGE or self._now.served)

    async def dropped(self, node: str, path: Path_) -> Dropped:
        """Return how many packets of probes and echoes were dropped."""
        return Dropped(
            out=self._dropped[node, path, Direction.OUT], in_=self._dropped[node, path, Direction.IN]
        )

    async def unacknowledged_bytes(self, node: str, path: Path_) -> int:
        """Return a block's worth while a guest sends to a storage that it is cut off from."""
        cut_off = path is Path_.STORAGE and (node, path) in self._now.cut
        return BLOCK_BYTES if cut_off and self._now.issuing and self._now.sends(node) else 0

    async def echo(self, node: str, path: Path_, count: int, payload_bytes: int = 56) -> Echoes:
        """Return what a burst would see: none while the path is cut, else as it is impaired."""
        if not await self.reachable(node, path):
            return Echoes(count, 0, 0, 0, 0.0, 0.0)
        received, rtt_ms, mbit_per_s, duplicates, out_of_order = count, _RTT_MS, _MBIT_PER_S, 0, 0
        match self._now.impaired.get((node, path)):
            case Loss(percent):
                passed = round(count * (1 - percent / 100))
                received = round(passed * (1 - percent / 100))
                self._drop(node, path, Direction.OUT, count - passed)
                self._drop(node, path, Direction.IN, passed - received)
            case RateLimit(limit):
                mbit_per_s = limit
            case Latency(delay_ms, _, reorder_percent, duplicate_percent):
                rtt_ms += delay_ms
                duplicates = round(count * duplicate_percent / 100)
                out_of_order = round(count * reorder_percent / 100)
        rate = mbit_per_s if received >= _FEWEST_FOR_A_RATE else 0.0
        return Echoes(count, received, duplicates, out_of_order, rtt_ms, rate)

    def _drop(self, node: str, path: Path_, direction: Direction, count: int) -> None:
        self._dropped[node, path, direction] += count
