"""The network of the simulator: the storage path and the migration path of each node, and the connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from jepsen_blk.lab.echo import IP_HEADERS_BYTES, SILENCE_S, summary
from jepsen_blk.lab.paths import Direction, Dropped, Echoes, Impairment, Loss, Path_
from jepsen_blk.lab.sim.connection import FIRST_RETRY_S, Connection
from jepsen_blk.lab.sim.line import BITS_PER_S, DELAY_S, GIVES_UP_S, Line

_PROBE_BYTES = 56
_PROBES = {Path_.STORAGE: 1, Path_.MIGRATION: 3}
"""A new connection, whose first packets are sent again too late, or so many echoes."""


class SimNetwork:
    """Implements lab.seams.Network; what it draws comes from the seed.

    `on_migration` is called with a node whose migration connections are reset, and returns how many there
    were; `disconnected` with the number of a storage connection whose end has arrived.
    """

    def __init__(self, disconnected: Callable[[int], None], seed: int = 0) -> None:
        self.on_migration: Callable[[str], int] = lambda node: 0
        self.changed: Callable[[], None] = lambda: None
        self._disconnected = disconnected
        self._refused = False
        self._hidden: dict[str, list[Connection]] = {}
        self._loop = asyncio.get_running_loop()
        self._random = Random(f"network {seed}")
        self._lines: dict[tuple[str, Path_], tuple[Line, Line]] = {}
        self._cuts: dict[tuple[str, Path_], float] = {}
        self._connections: list[Connection] = []

    def connect(self, node: str, number: int, lost: Callable[[Connection], None]) -> Connection:
        """Make a connection of the node to the storage, whose path has to be whole."""
        lines = self._of(node, Path_.STORAGE)
        connection = Connection(node, number, lines, lost, self._ended)
        self._connections.append(connection)
        return connection

    def refuse(self) -> None:
        """End the storage's connections and take no new ones: nobody listens there."""
        self._refused = True
        for connection in self._connections:
            connection.sever()

    def accept(self) -> None:
        """Take connections to the storage again."""
        self._refused = False

    def takes_connection(self, node: str) -> bool:
        """Tell whether the node could connect to the storage."""
        return not (self._refused or self.is_cut(node, Path_.STORAGE))

    @property
    def refused(self) -> bool:
        """Tell whether the storage's kernel refuses connections, which the node learns at once."""
        return self._refused

    def is_cut(self, node: str, path: Path_) -> bool:
        """Tell whether no connection could be made."""
        return (node, path) in self._cuts

    def stream_s(self, node: str, size_bytes: int) -> float:
        """Return how long a stream of the node takes on its migration path, which is not cut."""
        out, in_ = self._of(node, Path_.MIGRATION)
        return max(out.stream_s(size_bytes), in_.stream_s(size_bytes))

    async def cut(self, node: str, path: Path_, direction: Direction = Direction.BOTH) -> None:
        """Let no packet through in that direction; connections that hear nothing for long are given up."""
        since_s = self._loop.time()
        out, in_ = self._of(node, path)
        out.cut |= direction is not Direction.IN
        in_.cut |= direction is not Direction.OUT
        self._cuts[node, path] = since_s
        self._loop.call_later(GIVES_UP_S, self._give_up, node, path, since_s)
        self.changed()

    async def impair(self, node: str, path: Path_, impairment: Impairment) -> None:
        """Make what the node sends come late or slowly, or lose packets of either direction."""
        out, in_ = self._of(node, path)
        out.impair(impairment)
        if isinstance(impairment, Loss):
            in_.impair(impairment)

    async def hide_ends(self, node: str, path: Path_) -> None:
        """Mend the path; what ends a connection of the node is dropped until it is healed, and sent again.

        Connections to the storage only: those of a migration end with it.
        """
        if path is Path_.STORAGE:
            self._hidden.setdefault(node, [])
        self._mend(node, path)

    async def reset(self, node: str, path: Path_) -> int:
        """Kill the node's established connections on the path; return how many there were."""
        if path is Path_.MIGRATION:
            return self.on_migration(node)
        killed = [dying for dying in self._connections if dying.node == node and dying.alive]
        for connection in killed:
            connection.reset()
        return len(killed)

    async def heal(self, node: str, path: Path_) -> None:
        """Undo `cut`, `impair` and `hide_ends`, and count from 0 again."""
        if path is Path_.STORAGE:
            for connection in self._hidden.pop(node, ()):
                self._loop.call_later(FIRST_RETRY_S, self._ended, connection)
        self._mend(node, path)

    async def reachable(self, node: str, path: Path_) -> bool:
        """Probe the path; what a probe loses is counted as dropped."""
        echoes = await self._probe(node, path, _PROBES[path], _PROBE_BYTES, 0.0)
        return echoes.received > 0 and not (self._refused and path is Path_.STORAGE)

    async def dropped(self, node: str, path: Path_) -> Dropped:
        """Return how many packets were lost, and messages and probes swallowed."""
        out, in_ = self._of(node, path)
        return Dropped(out.dropped, in_.dropped)

    async def unacknowledged_bytes(self, node: str, path: Path_) -> int:
        """Return what the node's kernel has to send again."""
        if path is not Path_.STORAGE:
            return 0
        return sum(connection.out.stuck_bytes for connection in self._connections if connection.node == node)

    async def echo(self, node: str, path: Path_, count: int, payload_bytes: int = 56) -> Echoes:
        """Send a burst of echo requests, and take in the answers until they stay away."""
        return await self._probe(node, path, count, payload_bytes, SILENCE_S)

    async def _probe(
        self, node: str, path: Path_, count: int, payload_bytes: int, silence_s: float
    ) -> Echoes:
        out, in_ = self._of(node, path)
        begin_s, size_bytes = self._loop.time(), payload_bytes + IP_HEADERS_BYTES
        answers = []
        for number in range(count):
            sent_s = begin_s + number * size_bytes * 8 / BITS_PER_S
            for there_s in out.probe(sent_s, size_bytes):
                came_s = sent_s + there_s
                answers += [(number, sent_s, came_s + back_s) for back_s in in_.probe(came_s, size_bytes)]
        answers.sort(key=lambda answer: answer[2])
        last_s = answers[-1][2] if answers else begin_s + 2 * DELAY_S
        missing = len({number for number, _, _ in answers}) < count
        await asyncio.sleep(last_s - begin_s + (silence_s if missing else 0.0))
        return Echoes(**dict[str, Any](summary(answers, count, size_bytes)))

    def _of(self, node: str, path: Path_) -> tuple[Line, Line]:
        """Return what the node sends on, and what it receives on."""
        lines = self._lines.get((node, path))
        if lines is None:
            lines = self._lines[node, path] = (Line(self._random), Line(self._random))
        return lines

    def _ended(self, connection: Connection) -> None:
        """Take in the end of a connection at the storage, unless the ends of its node's are hidden."""
        hidden = self._hidden.get(connection.node)
        if hidden is not None:
            hidden.append(connection)
            self._of(connection.node, Path_.STORAGE)[0].dropped += 1
        elif connection in self._connections:
            self._connections.remove(connection)
            if not connection.severed:
                self._disconnected(connection.number)

    def _mend(self, node: str, path: Path_) -> None:
        """Let every packet through again, in both directions."""
        self._cuts.pop((node, path), None)
        for line in self._of(node, path):
            line.mend()
        if path is Path_.STORAGE:
            for connection in list(self._connections):
                if connection.node == node:
                    connection.healed()
        self.changed()

    def _give_up(self, node: str, path: Path_, since_s: float) -> None:
        cut = self._cuts.get((node, path))
        if cut != since_s or path is not Path_.STORAGE:
            return
        for connection in list(self._connections):
            if connection.node == node:
                connection.give_up()
