"""The network of the simulator: connections that a cut silences, and what a kernel sends without its process.

A message is a whole request or reply. One that a cut swallows stays in the sender's kernel and is sent again
after 0.2, 0.4, 0.8 ... seconds, so it arrives some time after the path is healed. A client that hears nothing
for three seconds gives its connection up and forgets what it had to send; one that was killed does not: its
kernel goes on for a minute. The storage never learns of an end that the cut has swallowed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from jepsen_blk.errors import LabError
from jepsen_blk.lab.paths import Direction, Dropped, Echoes, Impairment, Path_
from jepsen_blk.stamp import BLOCK_BYTES

DELAY_S = 0.00005
"""Of every message, one way."""
GIVES_UP_S = 3.0
_ORPHAN_S = 60.0
_FIRST_RETRY_S = 0.2
_APART_S = 2e-9
"""Messages of one flow never come together, so that their order is that in which they were sent."""
NOT_IMPAIRED = "the simulator's paths can be cut and reset; they are not yet made slow or lossy"


class Flow:
    """One direction of a connection: messages arrive in the order in which they were sent."""

    def __init__(self, network: SimNetwork, node: str, direction: Direction) -> None:
        self._network = network
        self._loop = asyncio.get_running_loop()
        self._node, self._direction = node, direction
        self._last_s = 0.0
        self._stuck: deque[tuple[Callable[..., None], tuple[Any, ...], int]] = deque()
        self._stuck_s = 0.0
        self._retry: asyncio.TimerHandle | None = None

    def send(self, deliver: Callable[..., None], *message: Any, size: int = 0) -> None:
        """Have `deliver` called with the message at the other end; `size` is what `stuck_bytes` counts."""
        if self._stuck or self._network.swallows(self._node, self._direction):
            self._network.count(self._node, self._direction)
            if not self._stuck:
                self._stuck_s = self._loop.time()
            self._stuck.append((deliver, message, size))
            return
        self._last_s = max(self._loop.time() + DELAY_S, self._last_s + _APART_S)
        self._loop.call_at(self._last_s, deliver, *message)

    def healed(self) -> None:
        """Send again what was swallowed, when that is next tried."""
        if not self._stuck or self._retry is not None:
            return
        now, wait_s = self._loop.time(), _FIRST_RETRY_S
        while self._stuck_s + wait_s < now:
            wait_s = 2 * wait_s + _FIRST_RETRY_S
        self._retry = self._loop.call_at(self._stuck_s + wait_s, self._send_again)

    def forget(self) -> None:
        """Send nothing of what was swallowed any more."""
        self._stuck.clear()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    @property
    def stuck_bytes(self) -> int:
        """How much has been swallowed and is to be sent again."""
        return sum(size for _, _, size in self._stuck)

    @property
    def stuck_since_s(self) -> float:
        """Since when the oldest of it waits."""
        return self._stuck_s

    def _send_again(self) -> None:
        self._retry = None
        if not self._network.swallows(self._node, self._direction):
            stuck, self._stuck = self._stuck, deque()
            for deliver, message, size in stuck:
                self.send(deliver, *message, size=size)


class Connection:
    """A connection of `node` to the storage; `lost` is called once when it dies without being closed.

    It is `severed` once the storage's process is gone: what still comes to it is nobody's.
    """

    def __init__(
        self, network: SimNetwork, node: str, number: int, lost: Callable[[Connection], None]
    ) -> None:
        self.node, self.number = node, number
        self.alive = True
        self.severed = False
        self.out = Flow(network, node, Direction.OUT)
        self.in_ = Flow(network, node, Direction.IN)
        self._network = network
        self._lost = lost

    def close(self) -> None:
        """End it, as with its process: what was sent is still delivered, and then the end."""
        if self.alive:
            self.alive = False
            self.out.send(self._network.ended, self)

    def reset(self) -> None:
        """Kill it: what was swallowed is gone, and the end may be swallowed too."""
        self.out.forget()
        if not self._network.swallows(self.node, Direction.OUT):
            self.out.send(self._network.ended, self)
        self.give_up()

    def sever(self) -> None:
        """End it at the storage, whose kernel tells the node, if that can be told."""
        self.severed = True
        self.in_.send(self.give_up)

    def give_up(self) -> None:
        """Let it die at its node; the storage does not learn of it."""
        if self.alive:
            self.alive = False
            self.out.forget()
            self._lost(self)


class SimNetwork:
    """Implements lab.seams.Network, but for impairments, of which it raises LabError.

    `on_migration` is called with a node whose migration connections are reset, and returns how many there
    were; `disconnected` with the number of a storage connection whose end has arrived.
    """

    def __init__(self, disconnected: Callable[[int], None]) -> None:
        self.on_migration: Callable[[str], int] = lambda node: 0
        self.changed: Callable[[], None] = lambda: None
        self._disconnected = disconnected
        self._refused = False
        self._hidden: dict[str, list[Connection]] = {}
        self._loop = asyncio.get_running_loop()
        self._cuts: dict[tuple[str, Path_], tuple[Direction, float]] = {}
        self._connections: list[Connection] = []
        self._dropped: Counter[tuple[str, Path_, Direction]] = Counter()

    def connect(self, node: str, number: int, lost: Callable[[Connection], None]) -> Connection:
        """Make a connection of the node to the storage, whose path has to be whole."""
        connection = Connection(self, node, number, lost)
        self._connections.append(connection)
        return connection

    def ended(self, connection: Connection) -> None:
        """Take in the end of a connection at the storage, unless the ends of its node's are hidden."""
        hidden = self._hidden.get(connection.node)
        if hidden is not None:
            hidden.append(connection)
            self.count(connection.node, Direction.OUT)
        elif connection in self._connections:
            self._connections.remove(connection)
            if not connection.severed:
                self._disconnected(connection.number)

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

    def swallows(self, node: str, direction: Direction) -> bool:
        """Tell whether a message of the node's storage path is lost in that direction."""
        cut = self._cuts.get((node, Path_.STORAGE))
        return cut is not None and cut[0] in (Direction.BOTH, direction)

    def is_cut(self, node: str, path: Path_) -> bool:
        """Tell whether no connection could be made."""
        return (node, path) in self._cuts

    def count(self, node: str, direction: Direction) -> None:
        """Count a message of the storage path that was swallowed."""
        self._dropped[node, Path_.STORAGE, direction] += 1

    async def cut(self, node: str, path: Path_, direction: Direction = Direction.BOTH) -> None:
        """Let no packet through in that direction; connections that hear nothing for long are given up."""
        since_s = self._loop.time()
        self._cuts[node, path] = (direction, since_s)
        self._loop.call_later(GIVES_UP_S, self._give_up, node, path, since_s)
        self.changed()

    async def impair(self, node: str, path: Path_, impairment: Impairment) -> None:
        """Raise LabError."""
        raise LabError(NOT_IMPAIRED)

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
        """Undo `cut` and `hide_ends`, and count from 0 again."""
        if path is Path_.STORAGE:
            for connection in self._hidden.pop(node, ()):
                self._loop.call_later(_FIRST_RETRY_S, self.ended, connection)
        self._mend(node, path)

    async def reachable(self, node: str, path: Path_) -> bool:
        """Probe the path; a probe that is cut off is counted as dropped."""
        await asyncio.sleep(2 * DELAY_S)
        cut = self._cuts.get((node, path))
        if cut is not None:
            self._dropped[node, path, Direction.IN if cut[0] is Direction.IN else Direction.OUT] += 1
        return cut is None and not (self._refused and path is Path_.STORAGE)

    async def dropped(self, node: str, path: Path_) -> Dropped:
        """Return how many messages and probes were swallowed."""
        return Dropped(self._dropped[node, path, Direction.OUT], self._dropped[node, path, Direction.IN])

    async def unacknowledged_bytes(self, node: str, path: Path_) -> int:
        """Return what the node's kernel has to send again."""
        if path is not Path_.STORAGE:
            return 0
        return sum(connection.out.stuck_bytes for connection in self._connections if connection.node == node)

    async def echo(self, node: str, path: Path_, count: int, payload_bytes: int = 56) -> Echoes:
        """Send a burst of echo requests: all are answered, or none."""
        await asyncio.sleep(2 * DELAY_S)
        whole = not self.is_cut(node, path)
        return Echoes(count, count if whole else 0, 0, 0, 2000 * DELAY_S if whole else 0.0, 0.0)

    def _mend(self, node: str, path: Path_) -> None:
        """Let every packet through again, in both directions."""
        self._cuts.pop((node, path), None)
        for direction in Direction:
            self._dropped.pop((node, path, direction), None)
        if path is Path_.STORAGE:
            for connection in list(self._connections):
                if connection.node == node:
                    self._healed(connection)
        self.changed()

    def _give_up(self, node: str, path: Path_, since_s: float) -> None:
        cut = self._cuts.get((node, path))
        if cut is None or cut[1] != since_s or path is not Path_.STORAGE:
            return
        for connection in list(self._connections):
            if connection.node == node:
                connection.give_up()

    def _healed(self, connection: Connection) -> None:
        orphaned = not connection.alive and connection.out.stuck_bytes
        if orphaned and self._loop.time() - connection.out.stuck_since_s > _ORPHAN_S:
            connection.out.forget()
        connection.out.healed()
        connection.in_.healed()


REQUEST_BYTES = BLOCK_BYTES
"""What a request that is stuck counts for."""
