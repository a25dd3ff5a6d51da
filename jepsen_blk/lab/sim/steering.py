"""The storage seam of the simulator: holds, fences, epochs and misbehaviours of its target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from jepsen_blk import clock
from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import InFlight, Misbehaved, Misbehaviour
from jepsen_blk.lab.sim.target import SimTarget
from jepsen_blk.storage.ends import tally
from jepsen_blk.storage.holds import HoldError
from jepsen_blk.storage.misbehaviour import MisbehaviourError
from jepsen_blk.storage.sightings import Sighting

T = TypeVar("T")
_FENCE_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 10.0


class SimStorage:
    """Implements lab.seams.Storage."""

    def __init__(self, target: SimTarget) -> None:
        self._target = target

    async def in_flight(self, node: str) -> Sequence[InFlight]:
        """Return the node's writes in flight."""
        target = await self._answering()
        return [InFlight(**pending.describe()) for pending in target.of(node)]

    async def wait_in_flight(
        self, node: str, blocks: Sequence[int], count: int, timeout_s: float
    ) -> Sequence[InFlight]:
        """Return the writes that were in flight once there were so many."""
        target = await self._answering()
        sighting = Sighting(node, frozenset(blocks), count)
        target.sightings.look_out(sighting, target.of(node))
        try:
            await self._until(
                lambda: sighting.seen is not None, timeout_s, f"{node} had no {count} writes in flight"
            )
        finally:
            target.sightings.end(sighting)
        return [InFlight(**write) for write in sighting.seen or ()]

    async def hold(self, node: str, blocks: Sequence[int] = ()) -> int:
        """Arm a hold."""
        target = await self._answering()
        return target.holds.arm(node, blocks).id

    async def wait_held(self, hold: int, timeout_s: float) -> InFlight:
        """Return the write that the hold caught."""
        target = await self._answering()
        holds = target.holds
        await self._until(lambda: holds.is_caught(hold), timeout_s, f"hold {hold} caught no write")
        return InFlight(**(holds.get(hold).caught or {}))

    async def wait_writes(self, node: str, block: int, count: int, timeout_s: float) -> None:
        """Return once the node has had so many writes to the block completed."""
        target = await self._answering()
        what = f"{node} had no {count} writes to block {block} completed"
        await self._until(lambda: target.holds.count(node, block) >= count, timeout_s, what)

    async def reissues(self, node: str) -> int:
        """Return how many writes the node has sent again."""
        target = await self._answering()
        return target.reissues.count(node)

    async def wait_reissues(self, node: str, count: int, timeout_s: float) -> None:
        """Return once the node has sent so many writes again."""
        target = await self._answering()
        what = f"{node} sent no {count} writes again"
        await self._until(lambda: target.reissues.count(node) >= count, timeout_s, what)

    async def release(self, hold: int) -> None:
        """Let the held write go on, or disarm the hold."""
        target = await self._answering()
        released = _known(lambda: target.holds.release(hold))
        if released is not None and released.caught is not None:
            number = released.caught["id"]
            target.log.event("released", hold=hold, id=number, time=clock.monotonic_ns())
            pending = target.pending.get(number)
            if pending is not None:
                target.wake([pending.write])
        target.bell.ring()

    async def wait_landed(self, hold: int, timeout_s: float) -> None:
        """Return once the released write has ended."""
        target = await self._answering()
        holds = target.holds
        await self._until(lambda: holds.get(hold).landed, timeout_s, f"the write of hold {hold} did not land")

    async def fence(self, node: str, *, abort: bool) -> None:
        """Refuse new commands of the node; with `abort` also end the accepted ones."""
        target = await self._answering()
        arbiter = target.arbiter
        target.wake(arbiter.fence(node, abort=abort))
        if abort:
            what = f"{node} still has writes in flight: the fence was not confirmed"
            await self._until(lambda: not arbiter.in_flight(node), _FENCE_TIMEOUT_S, what)
        target.log.event("fence", node=node, abort=abort, time=clock.monotonic_ns())

    async def raise_epoch(self, node: str) -> None:
        """Make the node the holder of a new epoch."""
        target = await self._answering()
        epoch = target.arbiter.raise_epoch(node)
        target.log.event("epoch", node=node, epoch=epoch, time=clock.monotonic_ns())

    async def admit_single_writer(self, node: str) -> None:
        """Make the node the one active writer once every other node's writes are flushed."""
        target = await self._answering()
        target.arbiter.single_writer(node)
        target.log.event("single_writer", node=node, time=clock.monotonic_ns())

    async def unfence(self, node: str) -> None:
        """Admit the node again."""
        target = await self._answering()
        target.arbiter.unfence(node)
        target.log.event("unfence", node=node, time=clock.monotonic_ns())

    async def misbehave(self, what: Misbehaviour) -> int:
        """Answer requests so from now on."""
        target = await self._answering()
        begun = target.misbehaviours.begin(what)
        now_ns = clock.monotonic_ns()
        target.log.event("misbehave", misbehaviour=begun.id, **asdict(what), time=now_ns)
        return begun.id

    async def wait_misbehaved(self, misbehaviour: int, count: int, timeout_s: float) -> Misbehaved:
        """Return once so many requests have been answered so."""
        target = await self._answering()
        active = _known(lambda: target.misbehaviours.get(misbehaviour))
        what = f"the storage answered fewer than {count} requests so"
        await self._until(lambda: active.answered >= count, timeout_s, what)
        return Misbehaved(**active.describe())

    async def behave(self, misbehaviour: int) -> None:
        """End it, also for the writes that it delays."""
        target = await self._answering()
        _known(lambda: target.misbehaviours.end(misbehaviour))
        target.hurry()
        target.log.event("behave", misbehaviour=misbehaviour, time=clock.monotonic_ns())

    async def stats(self) -> dict[str, Any]:
        """Count writes by how they ended."""
        target = await self._answering()
        cached = {"cached": target.backing.cached, "cached_at_start": target.found_cached}
        return {**tally(target.received, target.counts, len(target.pending)), **cached}

    async def _answering(self) -> SimTarget:
        """Return the target once it answers: a frozen one when it goes on, one that has ended never."""
        target = self._target
        frozen = target.process
        await target.bell.until(lambda: not frozen.frozen, _ANSWER_TIMEOUT_S, "the storage did not answer")
        self._require()
        return target

    async def _until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        def met() -> bool:
            self._require()
            return _known(condition)

        await self._target.bell.until(met, timeout_s, what)

    def _require(self) -> None:
        if not self._target.serving:
            raise LabError("the storage does not answer: its server does not run")


def _known(ask: Callable[[], T]) -> T:
    """Ask one of the storage's books; raises LabError for a number that it does not know."""
    try:
        return ask()
    except (HoldError, MisbehaviourError) as error:
        raise LabError(str(error)) from error
