"""The storage seam of the simulator: holds, fences, epochs and misbehaviours of its target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from jepsen_blk import clock
from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import InFlight, Misbehaved, Misbehaviour
from jepsen_blk.lab.sim.target import SimTarget
from jepsen_blk.storage.holds import HoldError
from jepsen_blk.storage.misbehaviour import MisbehaviourError
from jepsen_blk.storage.sightings import Sighting

T = TypeVar("T")
_FENCE_TIMEOUT_S = 10.0
NO_SERVERS = "the simulator does not yet end its storage or take its power away"


class SimStorage:
    """Implements lab.seams.Storage."""

    def __init__(self, target: SimTarget) -> None:
        self._target = target

    async def in_flight(self, node: str) -> Sequence[InFlight]:
        """Return the node's writes in flight."""
        return [InFlight(**pending.describe()) for pending in self._target.of(node)]

    async def wait_in_flight(
        self, node: str, blocks: Sequence[int], count: int, timeout_s: float
    ) -> Sequence[InFlight]:
        """Return the writes that were in flight once there were so many."""
        sighting = Sighting(node, frozenset(blocks), count)
        self._target.sightings.look_out(sighting, self._target.of(node))
        try:
            await self._until(
                lambda: sighting.seen is not None, timeout_s, f"{node} had no {count} writes in flight"
            )
        finally:
            self._target.sightings.end(sighting)
        return [InFlight(**write) for write in sighting.seen or ()]

    async def hold(self, node: str, blocks: Sequence[int] = ()) -> int:
        """Arm a hold."""
        return self._target.holds.arm(node, blocks).id

    async def wait_held(self, hold: int, timeout_s: float) -> InFlight:
        """Return the write that the hold caught."""
        holds = self._target.holds
        await self._until(lambda: holds.is_caught(hold), timeout_s, f"hold {hold} caught no write")
        return InFlight(**(holds.get(hold).caught or {}))

    async def wait_writes(self, node: str, block: int, count: int, timeout_s: float) -> None:
        """Return once the node has had so many writes to the block completed."""
        what = f"{node} had no {count} writes to block {block} completed"
        await self._until(lambda: self._target.holds.count(node, block) >= count, timeout_s, what)

    async def reissues(self, node: str) -> int:
        """Return how many writes the node has sent again."""
        return self._target.reissues.count(node)

    async def wait_reissues(self, node: str, count: int, timeout_s: float) -> None:
        """Return once the node has sent so many writes again."""
        what = f"{node} sent no {count} writes again"
        await self._until(lambda: self._target.reissues.count(node) >= count, timeout_s, what)

    async def release(self, hold: int) -> None:
        """Let the held write go on, or disarm the hold."""
        released = _known(lambda: self._target.holds.release(hold))
        if released is not None and released.caught is not None:
            number = released.caught["id"]
            self._target.log.event("released", hold=hold, id=number, time=clock.monotonic_ns())
            pending = self._target.pending.get(number)
            if pending is not None:
                self._target.wake([pending.write])
        self._target.bell.ring()

    async def wait_landed(self, hold: int, timeout_s: float) -> None:
        """Return once the released write has ended."""
        holds = self._target.holds
        await self._until(lambda: holds.get(hold).landed, timeout_s, f"the write of hold {hold} did not land")

    async def fence(self, node: str, *, abort: bool) -> None:
        """Refuse new commands of the node; with `abort` also end the accepted ones."""
        arbiter = self._target.arbiter
        self._target.wake(arbiter.fence(node, abort=abort))
        if abort:
            what = f"{node} still has writes in flight: the fence was not confirmed"
            await self._until(lambda: not arbiter.in_flight(node), _FENCE_TIMEOUT_S, what)
        self._target.log.event("fence", node=node, abort=abort, time=clock.monotonic_ns())

    async def raise_epoch(self, node: str) -> None:
        """Make the node the holder of a new epoch."""
        epoch = self._target.arbiter.raise_epoch(node)
        self._target.log.event("epoch", node=node, epoch=epoch, time=clock.monotonic_ns())

    async def admit_single_writer(self, node: str) -> None:
        """Make the node the one active writer once every other node's writes are flushed."""
        self._target.arbiter.single_writer(node)
        self._target.log.event("single_writer", node=node, time=clock.monotonic_ns())

    async def unfence(self, node: str) -> None:
        """Admit the node again."""
        self._target.arbiter.unfence(node)
        self._target.log.event("unfence", node=node, time=clock.monotonic_ns())

    async def misbehave(self, what: Misbehaviour) -> int:
        """Answer requests so from now on."""
        begun = self._target.misbehaviours.begin(what)
        now_ns = clock.monotonic_ns()
        self._target.log.event("misbehave", misbehaviour=begun.id, **asdict(what), time=now_ns)
        return begun.id

    async def wait_misbehaved(self, misbehaviour: int, count: int, timeout_s: float) -> Misbehaved:
        """Return once so many requests have been answered so."""
        active = _known(lambda: self._target.misbehaviours.get(misbehaviour))
        what = f"the storage answered fewer than {count} requests so"
        await self._until(lambda: active.answered >= count, timeout_s, what)
        return Misbehaved(**active.describe())

    async def behave(self, misbehaviour: int) -> None:
        """End it, also for the writes that it delays."""
        _known(lambda: self._target.misbehaviours.end(misbehaviour))
        self._target.hurry()
        self._target.log.event("behave", misbehaviour=misbehaviour, time=clock.monotonic_ns())

    async def stats(self) -> dict[str, Any]:
        """Count writes by how they ended."""
        counts = self._target.counts
        return {
            "received": self._target.received,
            "applied": counts["apply"] + counts["wait"],
            "ignored": counts["ignore"],
            "refused": counts["refused"],
            "aborted": counts["aborted"],
            "errors": counts["error"],
            "held": counts["held"],
            "in_flight": len(self._target.pending),
            "cached": 0,
            "cached_at_start": 0,
        }

    async def _until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        await self._target.bell.until(lambda: _known(condition), timeout_s, what)


class SimServers:
    """Implements lab.seams.StorageServers: they always run."""

    async def stop(self) -> None:
        """Raise LabError."""
        raise LabError(NO_SERVERS)

    async def unflushed(self) -> int:
        """Nothing is lost with a cache that there is not."""
        return 0

    async def lose_cache(self) -> int:
        """Raise LabError."""
        raise LabError(NO_SERVERS)

    async def throttle(self, node: str, bytes_per_s: int) -> None:
        """Raise LabError."""
        raise LabError("the simulator's storage has no throttle")

    async def start(self) -> None:
        """They run."""


def _known(ask: Callable[[], T]) -> T:
    """Ask one of the storage's books; raises LabError for a number that it does not know."""
    try:
        return ask()
    except (HoldError, MisbehaviourError) as error:
        raise LabError(str(error)) from error
