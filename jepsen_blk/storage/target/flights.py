"""What the target knows of its writes in flight, under one lock.

The threads that carry the writes (server.py) and those that steer them (steering.py) share this: the
arbiter that decides, the holds, the writes themselves, and the waking of whoever waits for a change.

Standard library only.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from jepsen_blk.storage.conflict import Arbiter, ConflictModel, Write
from jepsen_blk.storage.holds import HoldBook
from jepsen_blk.storage.pending import Pending
from jepsen_blk.storage.reissues import Reissues
from jepsen_blk.storage.sightings import Sightings


@dataclass(slots=True, eq=False)
class Gated(Pending):
    """A write in flight; `gate` wakes the thread that waits with it."""

    gate: threading.Condition | None = None


class Flights:
    """The writes in flight and what decides their fate; everything here is used under `lock`.

    `received` counts the writes of the target's life, `counts` how those ended that have. Their ids come
    after `last_id`.
    """

    def __init__(self, model: ConflictModel, last_id: int) -> None:
        self.lock = threading.Lock()
        self.arbiter = Arbiter(model)
        self.holds = HoldBook()
        self.reissues = Reissues()
        self.sightings = Sightings()
        self.pending: dict[int, Gated] = {}
        self.received = 0
        self._last_id = last_id
        self.counts: Counter[str] = Counter()
        self._changed = threading.Condition(self.lock)
        self._watchers = 0

    def next_id(self) -> int:
        """Count a write that was received, and return its id."""
        self.received += 1
        self._last_id += 1
        return self._last_id

    def of(self, node: str) -> list[Gated]:
        """Return the writes that the node has in flight, in order of arrival."""
        return [self.pending[write.id] for write in self.arbiter.in_flight(node)]

    def wake(self, writes: Iterable[Write]) -> None:
        """Have the threads of these writes look at what has become of them."""
        for write in writes:
            gate = self.pending[write.id].gate
            if gate is not None:
                gate.notify_all()

    def notify(self) -> None:
        """Have those who wait for a condition look again."""
        if self._watchers:
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> None:
        """Wait for a condition, letting the lock go meanwhile; raises TimeoutError."""
        self._watchers += 1
        try:
            if not self._changed.wait_for(condition, timeout_s):
                raise TimeoutError
        finally:
            self._watchers -= 1
