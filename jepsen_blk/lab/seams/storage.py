"""The storage under test, and the programs that serve it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from jepsen_blk.storage.holds import InFlight
from jepsen_blk.storage.misbehaviour import Misbehaved, Misbehaviour


class Storage(Protocol):
    """The shared storage: what is in flight, which write is held, who is fenced out."""

    async def in_flight(self, node: str) -> Sequence[InFlight]:
        """Return the node's writes in flight."""

    async def wait_in_flight(
        self, node: str, blocks: Sequence[int], count: int, timeout_s: float
    ) -> Sequence[InFlight]:
        """Return the writes that were in flight once `node` had `count` (to one of `blocks`, if given).

        The storage sees every write, however soon it ends, so they may have ended when this returns.
        """

    async def hold(self, node: str, blocks: Sequence[int] = ()) -> int:
        """Arm a hold on the next write of `node` (to one of `blocks`, if given); return its id."""

    async def wait_held(self, hold: int, timeout_s: float) -> InFlight:
        """Return the write that the hold caught."""

    async def wait_writes(self, node: str, block: int, count: int, timeout_s: float) -> None:
        """Return once `node` has had `count` writes to `block` completed since the hold caught its write."""

    async def reissues(self, node: str) -> int:
        """Return how many writes `node` has sent again, because it never learned of their end."""

    async def wait_reissues(self, node: str, count: int, timeout_s: float) -> None:
        """Return once `node` has sent `count` writes again."""

    async def release(self, hold: int) -> None:
        """Let the held write go on; an armed hold that caught nothing is disarmed."""

    async def wait_landed(self, hold: int, timeout_s: float) -> None:
        """Return once the released write has been applied, ignored or refused."""

    async def fence(self, node: str, *, abort: bool) -> None:
        """Refuse new commands of `node`; with `abort` also end the accepted ones, and confirm both."""

    async def raise_epoch(self, node: str) -> None:
        """Make `node` the holder of a new epoch: writes of older ones are refused when applied."""

    async def admit_single_writer(self, node: str) -> None:
        """Make `node` the one active writer once every other node's writes are flushed."""

    async def unfence(self, node: str) -> None:
        """Admit the node again."""

    async def misbehave(self, what: Misbehaviour) -> int:
        """Answer requests late or with an error from now on; return the id of the misbehaviour."""

    async def wait_misbehaved(self, misbehaviour: int, count: int, timeout_s: float) -> Misbehaved:
        """Return once `count` requests have been answered as the misbehaviour says."""

    async def behave(self, misbehaviour: int) -> None:
        """End a misbehaviour, also for the requests that it delays; no error if it has ended."""

    async def stats(self) -> dict[str, Any]:
        """Return counters: writes received, applied, ignored, refused, held."""


class StorageServers(Protocol):
    """The programs that serve the storage. Their content outlives them where it is not in memory."""

    async def stop(self) -> None:
        """End them at once, with all that they have in flight; no error if they have ended."""

    async def unflushed(self) -> int:
        """Return how many blocks a loss of their volatile cache would take now; they may be frozen."""

    async def lose_cache(self) -> int:
        """Lose what a volatile cache of theirs held, after `stop`; return how many blocks it took along."""

    async def throttle(self, node: str, bytes_per_s: int) -> None:
        """Limit what the node may write, 0: no longer; raises LabError where they have no throttle."""

    async def start(self) -> None:
        """Start what has ended, as it was started first, and return once it answers; no error if it runs."""
