"""One direction of a node's path in the simulator: what a message meets on it, and what a stream makes of it.

A message is a whole request or reply, of as many packets as its bytes need. A packet that is lost is sent
again after 10, 20, 40 ... ms, and the message has come when its last packet has.
"""

from __future__ import annotations

import math
from random import Random

from jepsen_blk.lab.paths import Impairment, Latency, Loss, RateLimit

DELAY_S = 0.00005
"""Of every packet, one way, where nothing is impaired."""
GIVES_UP_S = 3.0
"""After so long without a sign of life a client takes its connection for dead."""
BITS_PER_S = 10e9
PACKET_BYTES = 1448
HEADER_BYTES = 80
_RESENT_S = 0.01
_WINDOW_BYTES = 4 << 20
_MATHIS = 1.22
"""A stream that loses a share p of its packets has 1.22 / sqrt(p) of them on their way at most."""


class Line:
    """Whole, cut or impaired; `dropped` counts the packets that have not come through.

    Of the impairments, loss goes with any other; a rate limit and a latency take each other's place.
    """

    def __init__(self, random: Random) -> None:
        self.cut = False
        self.impaired = False
        self.dropped = 0
        self._random = random
        self._loss = 0.0
        self._queue: RateLimit | Latency | None = None
        self._free_s = 0.0

    def impair(self, impairment: Impairment) -> None:
        """Make it worse from now on."""
        self.impaired = True
        if isinstance(impairment, Loss):
            self._loss = impairment.percent / 100
        else:
            self._queue = impairment

    def mend(self) -> None:
        """Make it whole, and count from 0 again."""
        self.cut = self.impaired = False
        self.dropped = 0
        self._loss, self._queue, self._free_s = 0.0, None, 0.0

    def message_s(self, now_s: float, size_bytes: int) -> float | None:
        """Return how long a message takes that is sent now, its packets sent again as often as needed.

        None if that is longer than a client waits for a sign of life.
        """
        delay_s = DELAY_S + self._queued_s(now_s, size_bytes + HEADER_BYTES)
        left, lost_s, again_s = 1 + size_bytes // PACKET_BYTES, 0.0, _RESENT_S
        while self._loss and (left := sum(self._random.random() < self._loss for _ in range(left))):
            self.dropped += left
            lost_s += again_s
            again_s *= 2
            if lost_s > GIVES_UP_S:
                return None
        return delay_s + lost_s

    def probe(self, now_s: float, size_bytes: int) -> tuple[float, ...]:
        """Send a packet that nobody sends again; return how late it comes, nothing if it is lost.

        It may come twice.
        """
        if self.cut or self._random.random() < self._loss:
            self.dropped += 1
            return ()
        queue, copies = self._queue, 1
        if isinstance(queue, Latency):
            if self._random.random() < queue.reorder_percent / 100:
                return (DELAY_S,)  # ahead of those that wait
            copies += self._random.random() < queue.duplicate_percent / 100
        return (DELAY_S + self._queued_s(now_s, size_bytes),) * copies

    def stream_s(self, size_bytes: int) -> float:
        """Return how long a stream of so many bytes takes, much longer than its packets do."""
        round_trip_s = 2 * DELAY_S
        bits_per_s = BITS_PER_S
        if isinstance(self._queue, RateLimit):
            bits_per_s = self._queue.mbit_per_s * 1e6
        elif self._queue is not None:
            round_trip_s += self._queue.delay_ms / 1000
        window_bytes: float = _WINDOW_BYTES
        if self._loss:
            window_bytes = min(window_bytes, PACKET_BYTES * _MATHIS / math.sqrt(self._loss))
        return size_bytes / min(bits_per_s / 8, window_bytes / round_trip_s)

    def _queued_s(self, now_s: float, size_bytes: int) -> float:
        """Return how long so many bytes wait before they are sent."""
        match self._queue:
            case RateLimit(mbit_per_s):
                self._free_s = max(now_s, self._free_s) + size_bytes * 8 / (mbit_per_s * 1e6)
                return self._free_s - now_s
            case Latency(delay_ms, jitter_ms):
                return max(0.0, delay_ms + jitter_ms * self._random.uniform(-1, 1)) / 1000
        return 0.0
