"""What is so in the scripted lab now: the one state that its seams change, and answer from.

The guest has no operations of its own. What it would have completed is counted from the time for which it
could work: it runs, nothing is frozen, and its disk answers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from jepsen_blk.errors import LabError
from jepsen_blk.lab.paths import Direction, Impairment, Latency, Path_
from jepsen_blk.lab.seams import GuestState, Misbehaviour

GUEST_NODES = ("x", "y")
STORAGE_NODE = "s"
_OPERATION_MS = 10.0
_TCP_GIVES_UP_S = 3.0
"""A silent cut becomes an error after so long."""
_POLL_S = 0.01


@dataclass(slots=True)
class Misbehaving:
    """A misbehaviour that the storage was told, until it is over; `met` are the requests that it failed."""

    what: Misbehaviour
    begun_at: int
    met: int = 0
    over: bool = False


@dataclass
class Situation:
    """The state of guest, paths and storage; `settle` comes before each change of it."""

    guest: dict[str, GuestState] = field(
        default_factory=lambda: dict(zip(GUEST_NODES, (GuestState.RUNNING, GuestState.INCOMING), strict=True))
    )
    cut: dict[tuple[str, Path_], Direction] = field(default_factory=dict)
    impaired: dict[tuple[str, Path_], Impairment] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)
    fenced: set[str] = field(default_factory=set)
    served: bool = True
    issuing: bool = True
    misbehaving: list[Misbehaving] = field(default_factory=list)
    reissues: Counter[str] = field(default_factory=Counter)
    _fails_s: dict[str, float] = field(default_factory=dict)
    _completed: float = 0.0
    _settled_s: float | None = None

    def settle(self) -> None:
        """Take in what has happened by itself until now: operations completed, requests timed out."""
        now = now_s()
        elapsed_s = max(0.0, now - self._settled_s) if self._settled_s is not None else 0.0
        self._settled_s = now
        for node in GUEST_NODES:
            if self.works(node):
                self._completed += elapsed_s * 1000 / self.operation_ms(node)
        for node, at_s in list(self._fails_s.items()):
            if now >= at_s:
                self.fail(node)

    @property
    def operations(self) -> int:
        """How many operations the guest has completed."""
        self.settle()
        return int(self._completed)

    def works(self, node: str) -> bool:
        """Tell whether a guest on the node completes operations."""
        return self.issuing and self.sends(node) and STORAGE_NODE not in self.frozen and self.has_disk(node)

    def sends(self, node: str) -> bool:
        """Tell whether a guest on the node could send a request."""
        return self.guest[node] is GuestState.RUNNING and node not in self.frozen

    def has_disk(self, node: str) -> bool:
        """Tell whether the storage answers the node's requests, however late."""
        answers = self.served and node not in self.fenced and (node, Path_.STORAGE) not in self.cut
        return answers and not any(active.what.error for active in self.met_by(node))

    def operation_ms(self, node: str) -> float:
        """How long an operation of the node takes."""
        late = self.impaired.get((node, Path_.STORAGE))
        link_ms = late.delay_ms if isinstance(late, Latency) else 0.0
        return _OPERATION_MS + link_ms + sum(active.what.delay_ms for active in self.met_by(node))

    def met_by(self, node: str) -> list[Misbehaving]:
        """The misbehaviours that requests of the node meet."""
        return [active for active in self.misbehaving if not active.over and node in active.what.nodes]

    def fail(self, node: str) -> None:
        """Stop the node's guest with an I/O error, if it runs and has sent something that fails now."""
        self._fails_s.pop(node, None)
        if self.issuing and self.guest[node] is GuestState.RUNNING:
            self.guest[node] = GuestState.IO_ERROR

    def disk_changed(self) -> None:
        """Have the requests of running guests fail where the disk does: at once, or after a silent cut."""
        for node in GUEST_NODES:
            if self.has_disk(node) or not (self.issuing and self.sends(node)):
                self._fails_s.pop(node, None)
            elif (node, Path_.STORAGE) in self.cut:
                self._fails_s.setdefault(node, now_s() + _TCP_GIVES_UP_S)
            else:
                self.meet_errors(node)
                self.fail(node)

    def meet_errors(self, node: str) -> None:
        """Count a request of the node that the storage fails."""
        for active in self.met_by(node):
            if active.what.error:
                active.met += 1
                active.over = active.met == active.what.limit


def now_s() -> float:
    """The time of the event loop."""
    return asyncio.get_running_loop().time()


async def until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for a condition; raises LabError saying `what` did not come."""
    end_s = now_s() + timeout_s
    while not condition():
        if now_s() >= end_s:
            raise LabError(f"{what} within {timeout_s:g} s")
        await asyncio.sleep(_POLL_S)
