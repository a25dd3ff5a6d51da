"""The target's control requests: holds, fences and epochs, and what is asked of the writes in flight.

Standard library only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jepsen_blk.storage.ends import tally
from jepsen_blk.storage.log import TargetLog
from jepsen_blk.storage.sightings import Sighting
from jepsen_blk.storage.target.flights import Flights

FENCE_TIMEOUT_S = 10.0
"""How long a fence may wait for the writes it aborts; they end at once unless the backing hangs."""


class Steering:
    """Steers the writes in flight.

    Called by the control socket's threads; names and fields are those of the control protocol.
    """

    def __init__(self, flights: Flights, log: TargetLog) -> None:
        self._flights = flights
        self._log = log

    def handlers(self) -> dict[str, Callable[..., dict[str, Any]]]:
        """Return what answers each control request."""
        return {
            "hold": self.hold,
            "wait_held": self.wait_held,
            "wait_writes": self.wait_writes,
            "reissues": self.reissues,
            "wait_reissues": self.wait_reissues,
            "release": self.release,
            "wait_landed": self.wait_landed,
            "in_flight": self.in_flight,
            "wait_in_flight": self.wait_in_flight,
            "fence": self.fence,
            "raise_epoch": self.raise_epoch,
            "single_writer": self.single_writer,
            "unfence": self.unfence,
        }

    def hold(self, node: str, blocks: list[int]) -> dict[str, Any]:
        """Arm a hold."""
        with self._flights.lock:
            return {"hold": self._flights.holds.arm(node, blocks).id}

    def wait_held(self, hold: int, timeout_s: float) -> dict[str, Any]:
        """Wait until the hold has caught a write, and describe it."""
        with self._flights.lock:
            self._flights.wait_for(lambda: self._flights.holds.is_caught(hold), timeout_s)
            return {"write": self._flights.holds.get(hold).caught}

    def wait_writes(self, node: str, block: int, count: int, timeout_s: float) -> dict[str, Any]:
        """Wait until `node` has had `count` writes to `block` completed since the hold caught its write."""
        with self._flights.lock:
            self._flights.wait_for(lambda: self._flights.holds.count(node, block) >= count, timeout_s)
        return {}

    def reissues(self, node: str) -> dict[str, Any]:
        """Count the writes that `node` has sent again."""
        with self._flights.lock:
            return {"count": self._flights.reissues.count(node)}

    def wait_reissues(self, node: str, count: int, timeout_s: float) -> dict[str, Any]:
        """Wait until `node` has sent `count` writes again."""
        with self._flights.lock:
            self._flights.wait_for(lambda: self._flights.reissues.count(node) >= count, timeout_s)
        return {}

    def release(self, hold: int) -> dict[str, Any]:
        """Let the held write go on, or disarm the hold."""
        with self._flights.lock:
            released = self._flights.holds.release(hold)
            self._flights.notify()
            if released is None or released.caught is None:
                return {}
            number = released.caught["id"]
            pending = self._flights.pending.get(number)
            self._log.event("released", hold=hold, id=number, time=time.monotonic_ns())
            if pending is not None:
                self._flights.wake([pending.write])
        return {}

    def wait_landed(self, hold: int, timeout_s: float) -> dict[str, Any]:
        """Wait until the hold's write has ended."""
        with self._flights.lock:
            self._flights.wait_for(lambda: self._flights.holds.get(hold).landed, timeout_s)
        return {}

    def in_flight(self, node: str) -> dict[str, Any]:
        """Describe the node's writes in flight."""
        with self._flights.lock:
            return {"writes": [pending.describe() for pending in self._flights.of(node)]}

    def wait_in_flight(self, node: str, blocks: list[int], count: int, timeout_s: float) -> dict[str, Any]:
        """Wait until `node` has had `count` writes in flight to `blocks`, and describe them."""
        sighting = Sighting(node, frozenset(blocks), count)
        with self._flights.lock:
            self._flights.sightings.look_out(sighting, self._flights.of(node))
            try:
                self._flights.wait_for(lambda: sighting.seen is not None, timeout_s)
            finally:
                self._flights.sightings.end(sighting)
        return {"writes": sighting.seen}

    def fence(self, node: str, abort: bool) -> dict[str, Any]:
        """Refuse new commands of `node`; with `abort`, answer once its accepted ones have ended."""
        with self._flights.lock:
            self._flights.wake(self._flights.arbiter.fence(node, abort=abort))
            if abort:
                self._flights.wait_for(lambda: not self._flights.arbiter.in_flight(node), FENCE_TIMEOUT_S)
            self._log.event("fence", node=node, abort=abort, time=time.monotonic_ns())
        return {}

    def raise_epoch(self, node: str) -> dict[str, Any]:
        """Give `node` a new epoch; older ones are refused when applied."""
        with self._flights.lock:
            epoch = self._flights.arbiter.raise_epoch(node)
            self._log.event("epoch", node=node, epoch=epoch, time=time.monotonic_ns())
        return {"epoch": epoch}

    def single_writer(self, node: str) -> dict[str, Any]:
        """Refuse the other nodes; writes of `node` wait until what those have in flight has ended."""
        with self._flights.lock:
            self._flights.arbiter.single_writer(node)
            self._log.event("single_writer", node=node, time=time.monotonic_ns())
        return {}

    def unfence(self, node: str) -> dict[str, Any]:
        """Admit the node again."""
        with self._flights.lock:
            self._flights.arbiter.unfence(node)
            self._log.event("unfence", node=node, time=time.monotonic_ns())
        return {}

    def stats(self) -> dict[str, int]:
        """Count the writes of the target's life by how they ended."""
        with self._flights.lock:
            return tally(self._flights.received, self._flights.counts, len(self._flights.pending))
