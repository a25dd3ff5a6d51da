"""A connection of a simulated node to the storage, and what a kernel sends without its process.

A message that a cut swallows stays in the sender's kernel and is sent again after 0.2, 0.4, 0.8 ... seconds,
so it arrives some time after the path is healed. A client that hears nothing for three seconds gives its
connection up and forgets what it had to send; one that was killed does not: its kernel goes on for a minute.
The storage never learns of an end that the cut has swallowed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from jepsen_blk.lab.sim.line import DELAY_S, GIVES_UP_S, Line
from jepsen_blk.stamp import BLOCK_BYTES

FIRST_RETRY_S = 0.2
REQUEST_BYTES = BLOCK_BYTES
"""What a write's request that is stuck counts for."""
_ORPHAN_S = 60.0
_APART_S = 2e-9
"""Messages of one flow never come together, so that their order is that in which they were sent."""


class Flow:
    """One direction of a connection: messages arrive in the order in which they were sent.

    `given_up` is called when one was not brought through for too long.
    """

    def __init__(self, line: Line, given_up: Callable[[], None]) -> None:
        self._line = line
        self._given_up = given_up
        self._loop = asyncio.get_running_loop()
        self.under_way = 0
        self._last_s = 0.0
        self._stuck: deque[tuple[Callable[..., None], tuple[Any, ...], int]] = deque()
        self._stuck_s = 0.0
        self._retry: asyncio.TimerHandle | None = None

    def send(self, deliver: Callable[..., None], *message: Any, size: int = 0) -> None:
        """Have `deliver` called with the message, of `size` bytes of data, at the other end."""
        line, now_s = self._line, self._loop.time()
        if self._stuck or line.cut:
            line.dropped += 1
            self._keep(deliver, message, size)
            return
        delay_s = DELAY_S
        if line.impaired:
            late_s = line.message_s(now_s, size)
            if late_s is None:
                self._keep(deliver, message, size)
                self._loop.call_later(GIVES_UP_S, self._give_up, now_s)
                return
            delay_s = late_s
        self._last_s = max(now_s + delay_s, self._last_s + _APART_S)
        self.under_way += 1
        self._loop.call_at(self._last_s, self._deliver, deliver, message)

    @property
    def clear(self) -> bool:
        """Tell whether a message would be the next to arrive."""
        return not (self._stuck or self.under_way or self._line.cut)

    def healed(self) -> None:
        """Send again what was swallowed, when that is next tried."""
        if not self._stuck or self._retry is not None:
            return
        now, wait_s = self._loop.time(), FIRST_RETRY_S
        while self._stuck_s + wait_s < now:
            wait_s = 2 * wait_s + FIRST_RETRY_S
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

    def _keep(self, deliver: Callable[..., None], message: tuple[Any, ...], size: int) -> None:
        if not self._stuck:
            self._stuck_s = self._loop.time()
        self._stuck.append((deliver, message, size))

    def _deliver(self, deliver: Callable[..., None], message: tuple[Any, ...]) -> None:
        self.under_way -= 1
        deliver(*message)

    def _send_again(self) -> None:
        self._retry = None
        if not self._line.cut:
            stuck, self._stuck = self._stuck, deque()
            for deliver, message, size in stuck:
                self.send(deliver, *message, size=size)

    def _give_up(self, since_s: float) -> None:
        if self._stuck and self._stuck_s == since_s:
            self._given_up()


class Connection:
    """A connection of `node` to the storage; `lost` is called once when it dies without being closed.

    `ended` is what its end is delivered to. It is `severed` once the storage's process is gone: what still
    comes to it is nobody's.
    """

    def __init__(
        self,
        node: str,
        number: int,
        lines: tuple[Line, Line],
        lost: Callable[[Connection], None],
        ended: Callable[[Connection], None],
    ) -> None:
        self.node, self.number = node, number
        self.alive = True
        self.severed = False
        self._line = lines[0]
        self.out, self.in_ = (Flow(line, self.give_up) for line in lines)
        self._lost, self._ended = lost, ended

    @property
    def clear(self) -> bool:
        """Tell whether it lives and carries nothing, either way."""
        return self.alive and self.out.clear and self.in_.clear

    def close(self) -> None:
        """End it, as with its process: what was sent is still delivered, and then the end."""
        if self.alive:
            self.alive = False
            self.out.send(self._ended, self)

    def reset(self) -> None:
        """Kill it: what was swallowed is gone, and the end may be swallowed too."""
        self.out.forget()
        if not self._line.cut:
            self.out.send(self._ended, self)
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

    def healed(self) -> None:
        """Send again what was swallowed either way, but for what a dead process left too long ago."""
        orphaned = not self.alive and self.out.stuck_bytes
        if orphaned and asyncio.get_running_loop().time() - self.out.stuck_since_s > _ORPHAN_S:
            self.out.forget()
        self.out.healed()
        self.in_.healed()
