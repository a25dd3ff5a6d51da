"""The life of a fault: setup, its cue if it has one, inject, prove, dwell, heal, prove healed.

No fault counts until it has been seen to work, and every fault is healed whatever happens: an error
in any step, or a cancelled test, still runs `heal`, under a bound of its own. A hand-over or a failover that
has begun is taken to its end too: a guest between two nodes could not be healed, and one that was let run
without the handoff policy's steps would show damage that is not the policy's. A fault speaks to the
lab's seams alone, so it is one piece of code on every lab.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar

from jepsen_blk.errors import LabError
from jepsen_blk.handoff import Handoff, run_handoff
from jepsen_blk.history.events import EventLog
from jepsen_blk.lab.seams import Guest, GuestState, Lab, Migration
from jepsen_blk.spec import HandoffSpec

_HEAL_TIMEOUT_S = 30.0
_WORK_TIMEOUT_S = 10.0
_QUIESCE_TIMEOUT_S = 10.0
_READ_ALL_TIMEOUT_S = 30.0
_POLL_S = 0.01
CUT_OFF = "it was cut off"
"""What went wrong with a fault that was cancelled, or ended by an error that is not the lab's."""

T = TypeVar("T")


class NotProven(LabError):
    """The fault was injected and its effect was not seen, or what it waited for was not."""


class LeftOut(LabError):
    """The time in which the fault could have begun was over before what it waited for was seen."""


class End(StrEnum):
    """What became of a fault: one that was left out never began, which is no doubt."""

    PROVEN = "proven"
    UNPROVEN = "not proven"
    LEFT_OUT = "left out"


@dataclass(slots=True)
class Stage:
    """What a fault acts on, and where the guest is now."""

    lab: Lab
    guest: Guest
    events: EventLog
    handoff: HandoffSpec
    workload: dict[str, Any]
    operations: Callable[[], int]
    guest_node: str
    other_node: str

    async def hand_over(self, mode: str = "precopy") -> Migration:
        """Migrate the guest to the other node under the test's handoff policy and let it run there."""

        async def whole() -> Migration:
            await self._begin_hand_over(mode, pause=False)
            return await self._finish_hand_over()

        migration = await _finish(whole())
        _raise_if_cancelled()
        return migration

    async def begin_hand_over(self, mode: str = "precopy", *, pause: bool = False) -> None:
        """Begin to migrate the guest; with `pause` it waits for the hypervisor's `continue_migration`.

        Whoever begins has to finish, whatever happens: a cancellation comes only once it has begun.
        """
        await _finish(self._begin_hand_over(mode, pause=pause))
        _raise_if_cancelled()

    async def finish_hand_over(self) -> Migration:
        """Wait for the guest at the other node and let it run there under the test's handoff policy."""
        migration = await _finish(self._finish_hand_over())
        _raise_if_cancelled()
        return migration

    async def _begin_hand_over(self, mode: str, *, pause: bool) -> None:
        source, destination = self.guest_node, self.other_node
        self.events.emit("migration", mode, "begin", node=source, destination=destination)
        await self.lab.hypervisor.begin_migration(source, destination, mode, pause=pause)

    async def _finish_hand_over(self) -> Migration:
        source, destination = self.guest_node, self.other_node
        migration = await self.lab.hypervisor.finish_migration(source)
        mode = migration.mode
        self.events.emit("migration", mode, "stop", node=source, time_ns=migration.stopped_ns)
        self.events.emit(
            "migration", mode, "end", node=destination, time_ns=migration.end_ns, **asdict(migration)
        )
        self.guest_node, self.other_node = destination, source
        await run_handoff(Handoff(self.handoff, self.lab.storage, self.lab.hypervisor, source, destination))
        self.events.emit("handoff", self.handoff.policy.value, "done", node=destination)
        await self.lab.hypervisor.resume(destination)
        self.events.emit("migration", mode, "resume", node=destination)
        return migration

    async def fail_over(self) -> None:
        """Start the guest again on the other node, as a cluster does that has lost a node.

        The handoff policy's steps come first. Whatever they are, the cluster takes the old guest for stopped
        from then on, so the history has a fence there: what lands of it later is the policy's failure.
        """
        await _finish(self._fail_over())
        _raise_if_cancelled()

    async def _fail_over(self) -> None:
        source, destination = self.guest_node, self.other_node
        policy = self.handoff.policy.value
        self.events.emit("failover", policy, "begin", node=source, destination=destination)
        await run_handoff(Handoff(self.handoff, self.lab.storage, self.lab.hypervisor, source, destination))
        self.events.emit("failover", policy, "fence", node=source, boot=self.guest.give_up())
        await self.lab.hypervisor.start(destination)
        self.guest_node, self.other_node = destination, source
        boot = await self.guest.boot_again()
        await self.guest.run(self.workload)
        self.events.emit("failover", policy, "end", node=destination, boot=boot)

    async def work_on(self, settle_s: float) -> None:
        """Let the guest work for `settle_s`, and at least until it has completed operations here.

        A guest that a migration has stopped completes nothing, and nothing is asked of it.
        """
        before = self.operations()
        try:
            async with asyncio.timeout(_WORK_TIMEOUT_S + settle_s):
                await asyncio.sleep(settle_s)
                while self.operations() == before and not await self.waits_to_move():
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise NotProven(
                f"the guest completed nothing on {self.guest_node} within {_WORK_TIMEOUT_S + settle_s:g} s"
            ) from error

    async def require_alive(self) -> GuestState:
        """Return the guest's state; raise LabError with its last words if it ended where it should run."""
        state = await self.lab.hypervisor.state(self.guest_node)
        if state is GuestState.ABSENT:
            said = await self.lab.hypervisor.last_words(self.guest_node)
            raise LabError(f"the guest on {self.guest_node} has ended{': ' + said if said else ''}")
        return state

    async def waits_to_move(self) -> bool:
        """Tell whether a migration has stopped the guest for its switch-over; raise LabError if it ended."""
        return await self.require_alive() is GuestState.SWITCHING

    async def quiesce(self) -> None:
        """Let everything in flight finish and issue nothing more; `guest.run` goes on."""
        if not await self.guest.quiesce(_QUIESCE_TIMEOUT_S):
            raise LabError(f"the guest still has operations in flight after {_QUIESCE_TIMEOUT_S:g} s")

    async def read_all(self) -> None:
        """Read every block of the quiesced guest."""
        await self.guest.read_all(_READ_ALL_TIMEOUT_S)
        self.events.emit("workload", "read-all", "done", node=self.guest_node)


class Fault(Protocol):
    """One fault of the catalogue; its dataclass fields are its options in the specification.

    The first line of its docstring says what it does; `needs`, if it has one, what not every lab or storage
    offers. Both are for people: checked are those of demands.py and `storage_fault.NeedsStorage`.
    """

    name: ClassVar[str]

    async def setup(self, stage: Stage) -> None:
        """Get ready; nothing is wrong yet."""

    async def inject(self, stage: Stage) -> None:
        """Make it go wrong."""

    async def prove(self, stage: Stage) -> str:
        """Say what was seen that proves the effect; raise NotProven if it was not seen."""

    async def dwell(self, stage: Stage) -> None:
        """Let the fault stand, or play out what happens under it."""

    async def heal(self, stage: Stage) -> None:
        """Undo it; must be safe when `inject` did nothing or half."""

    async def prove_healed(self, stage: Stage) -> str:
        """Say what was seen that proves the healing; raise NotProven if it was not seen."""


class Cue(Protocol):
    """What a fault waits for when all is ready for it; written out, it says what that is."""

    async def wait(self, stage: Stage) -> str:
        """Say what was seen; raise NotProven if it did not come, LeftOut if the fault's time is over."""


async def run_fault(
    fault: Fault,
    stage: Stage,
    during: Callable[[], Awaitable[None]] | None = None,
    cue: Cue | None = None,
) -> End:
    """Take a fault through its life; what the fault or the lab did is in the events, never raised.

    It is injected at its `cue`. What comes `during` it begins once it is proven, and it stands until that is
    over. The last event, `over`, says whether it was proven, which is returned too, and healed, and what went
    wrong. A cancellation goes on once that is said.
    """
    with stage.events.of_next_fault() as around:
        end = await _live(fault, stage, during, cue, around)
    _raise_if_cancelled()
    return end


async def _live(
    fault: Fault,
    stage: Stage,
    during: Callable[[], Awaitable[None]] | None,
    cue: Cue | None,
    around: int,
) -> End:
    end = End.UNPROVEN
    trouble: list[str] = []
    try:
        data: dict[str, Any] = {"during": around} if around else {}
        stage.events.emit("fault", fault.name, "setup", **data)
        await fault.setup(stage)
        if cue is not None:  # as late as can be: what it tells of is over soon
            stage.events.emit("fault", fault.name, "waits", node=stage.guest_node, cue=str(cue))
            saw = await cue.wait(stage)
            stage.events.emit("fault", fault.name, "cued", node=stage.guest_node, saw=saw)
        stage.events.emit("fault", fault.name, "inject", node=stage.guest_node)
        await fault.inject(stage)
        proof = await fault.prove(stage)
        stage.events.emit("fault", fault.name, "proven", node=stage.guest_node, proof=proof)
        end = End.PROVEN
        await (_stand(fault, stage, during) if during else fault.dwell(stage))
    except LeftOut as error:
        end = End.LEFT_OUT
        trouble.append(str(error))
    except LabError as error:
        end = End.UNPROVEN if isinstance(error, NotProven) else end
        trouble.append(str(error))
        stage.events.emit("fault", fault.name, "failed", why=str(error))
    except BaseException:
        trouble.append(CUT_OFF)
        raise
    finally:
        healed, why = await _finish(_heal(fault, stage))
        if not healed:
            trouble.append(why)
        left_out: dict[str, Any] = {"left_out": True} if end is End.LEFT_OUT else {}
        proven, why = end is End.PROVEN, "; ".join(trouble)
        stage.events.emit("fault", fault.name, "over", proven=proven, healed=healed, why=why, **left_out)
    return end


async def _stand(fault: Fault, stage: Stage, during: Callable[[], Awaitable[None]]) -> None:
    """Let the fault stand while the others come, and not less than its own time."""
    standing = asyncio.create_task(fault.dwell(stage))
    try:
        await during()
        await standing
    finally:
        standing.cancel()
        await asyncio.wait({standing})


async def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Do the work to its end, whoever cancels meanwhile; it has a bound of its own."""
    task = asyncio.create_task(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    return task.result()


def _raise_if_cancelled() -> None:
    """Let a cancellation go on that came during `_finish`."""
    current = asyncio.current_task()
    if current is not None and current.cancelling():
        raise asyncio.CancelledError


async def _heal(fault: Fault, stage: Stage) -> tuple[bool, str]:
    """Heal and see that it is healed, under a bound; return why it is not."""
    try:
        async with asyncio.timeout(_HEAL_TIMEOUT_S):
            stage.events.emit("fault", fault.name, "heal")
            await fault.heal(stage)
            proof = await fault.prove_healed(stage)
    except (LabError, TimeoutError) as error:
        why = f"healing: {error or f'not done after {_HEAL_TIMEOUT_S:g} s'}"
        stage.events.emit("fault", fault.name, "failed", why=why)
        return False, why
    stage.events.emit("fault", fault.name, "healed", proof=proof)
    return True, ""
