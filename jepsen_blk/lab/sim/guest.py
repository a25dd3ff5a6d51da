"""The simulated guest: the agent of the real one, on a machine whose clock and disk are simulated.

Engine, workload and link are the very code that runs inside QEMU. What is here is the machine: a disk that
hands requests to the frontend of the node where the guest is, a port to the host, a clock that stands still
while the guest does, and the turns of the agent, each of which takes some time.
"""

from __future__ import annotations

import asyncio
import copy
import copyreg
import mmap
from _random import Random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from jepsen_blk.errors import InternalError
from jepsen_blk.stamp import BLOCK_BYTES
from workloads.agent.link import Outbox
from workloads.agent.machine import Disk
from workloads.agent.operations import FLUSH, READ, REQUESTS
from workloads.agent.service import Agent

_BOOTED_NS = 1_000_000_000
"""What the guest's clock shows when it is started: it was booted before."""
_TURN_S = 5e-6
"""What a turn takes at least, so that nothing begins the moment at which something else has ended."""
_TICK_S = 0.02
_WALL_AHEAD_NS = 1_700_000_000 * 10**9


class Completes(Protocol):
    """Who has issued a request, and is told of its end."""

    def complete(self, request: Request, result: int, data: bytes) -> None:
        """Have the guest find the request completed."""


class Booted(Protocol):
    """A guest as its hypervisor knows it; see SimGuest."""

    def run(self) -> None:
        """Let it run on."""

    def stop(self) -> None:
        """Stop its processors."""

    def hang(self) -> None:
        """Do nothing."""

    def go_on(self) -> None:
        """Do something again."""

    def plug(self, submitted: Callable[[Request], None], say: Callable[[bytes], None]) -> None:
        """Connect it to a disk and a host."""

    def twin(self) -> Booted:
        """Return a copy of it; raises TypeError where it cannot be copied."""

    def moved(self, request: Request) -> Request:
        """Return a request of the guest that this one is the copy of, as its own."""

    def receive(self, data: bytes) -> None:
        """Take in what the host says."""


@dataclass(slots=True, eq=False)
class Request:
    """A request of the guest's disk, of one block or none; it is the same one when it is sent again."""

    disk: Completes
    number: int
    kind: int
    block: int
    data: bytes

    def done(self, result: int, data: bytes = b"") -> None:
        """Complete it with the number of bytes or a negative errno."""
        self.disk.complete(self, result, data)


class SimDisk:
    """Implements workloads.agent.machine.Disk; `submitted` takes each request that the guest issues."""

    def __init__(self, slots: int, submitted: Callable[[Request], None], wake: Callable[[], None]) -> None:
        self.buffers = mmap.mmap(-1, slots * BLOCK_BYTES)
        self.offsets = [0] * (slots * REQUESTS)
        self.pointers: Sequence[int] = range(slots * REQUESTS)
        self.queue = [0] * slots
        self.ring = [0, 0]
        self._submitted = submitted
        self._wake = wake
        self._done: list[tuple[int, int]] = []
        self._most = slots

    def limit(self, count: int) -> None:
        """Reap at most `count` requests at a time."""
        self._most = count

    def submit(self, count: int) -> int:
        """Hand on the first `count` of the queue."""
        for number in self.queue[:count]:
            kind = number % REQUESTS
            data = b""
            if kind == 1:
                at = number // REQUESTS * BLOCK_BYTES
                data = self.buffers[at : at + BLOCK_BYTES]
            self._submitted(Request(self, number, kind, self.offsets[number] // BLOCK_BYTES, data))
        return 0

    def reap(self) -> list[tuple[int, int]]:
        """Return what has completed."""
        done, self._done = self._done[: self._most], self._done[self._most :]
        self.ring[0] += len(done)
        return done

    def complete(self, request: Request, result: int, data: bytes) -> None:
        """Have the guest find the request completed."""
        if request.kind == READ and result > 0:
            at = request.number // REQUESTS * BLOCK_BYTES
            self.buffers[at : at + BLOCK_BYTES] = data
        self._done.append((request.number, result))
        self.ring[1] += 1
        self._wake()

    def close(self, in_flight: int) -> None:
        """What is in flight goes on, into memory that nobody looks at."""

    def __deepcopy__(self, memo: dict[int, Any]) -> SimDisk:
        """Copy it with the memory of its requests, for the copy of its guest."""
        slots = len(self.queue)
        twin = memo[id(self)] = SimDisk(
            slots, copy.deepcopy(self._submitted, memo), copy.deepcopy(self._wake, memo)
        )
        twin.buffers[:] = self.buffers[:]
        twin.offsets, twin.queue, twin.ring = self.offsets[:], self.queue[:], self.ring[:]
        twin._done, twin._most = self._done[:], self._most
        return twin


class SimGuest:
    """One boot of the guest; implements workloads.agent.machine's Machine and Port.

    It runs between `run` and `stop`, on whichever node: `submitted` and `say` are what it is connected to
    there.
    """

    def __init__(self) -> None:
        self.unplug()
        self._loop = asyncio.get_running_loop()
        self._behind_ns = 0
        self._stopped_ns = self._host_ns()
        self._wall_ahead_ns = _WALL_AHEAD_NS
        self._running = self._awake = False
        self._lines: list[bytes] = []
        self._line = b""
        self._next_s = 0.0
        self._turn: asyncio.TimerHandle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._disk: SimDisk | None = None
        self._agent = Agent(self, self, slice_ns=0)

    def run(self) -> None:
        """Let it run on."""
        if not self._running:
            self._running = self._awake = True
            self._behind_ns += self._host_ns() - self._stopped_ns
            self._ticked()

    def stop(self) -> None:
        """Stop its processors, and its clock with them."""
        if self._running:
            self._running = False
            self._stopped_ns = self._host_ns()
            self.hang()

    def hang(self) -> None:
        """Do nothing, as its processors do no more; its clock goes on, if it did."""
        self._awake = False
        for handle in (self._turn, self._tick):
            if handle is not None:
                handle.cancel()
        self._turn = self._tick = None

    def go_on(self) -> None:
        """Do something again after it hung, unless it is stopped."""
        if self._running and not self._awake:
            self._awake = True
            self._ticked()

    def plug(self, submitted: Callable[[Request], None], say: Callable[[bytes], None]) -> None:
        """Connect it to a disk and a host, while it stands still."""
        self._submitted, self._say = submitted, say

    def unplug(self) -> None:
        """Connect it to nothing."""
        self.plug(_to_nobody, _to_nobody)

    def twin(self) -> SimGuest:
        """Return a copy of it, which stands still, with all its memory and connected to nothing.

        The loop is the one thing that both have. Raises TypeError for a workload that cannot be copied.
        """
        memo: dict[int, Any] = {id(self._loop): self._loop}
        memo |= {id(end): _to_nobody for end in (self._submitted, self._say)}
        twin = memo[id(self)] = copy.copy(self)
        for name in ("_submitted", "_say", "_lines", "_disk", "_agent"):
            setattr(twin, name, copy.deepcopy(getattr(self, name), memo))
        return twin

    def moved(self, request: Request) -> Request:
        """Return a request of the guest that this one is the copy of, as its own."""
        disk = self._disk
        if disk is None:
            raise InternalError("a request of a guest without a disk")
        return replace(request, disk=disk)

    def receive(self, data: bytes) -> None:
        """Take in what the host says."""
        *lines, self._line = (self._line + data).split(b"\n")
        self._lines += lines
        self._wake()

    # What the agent asks of its machine.

    def open_disk(self, slots: int) -> Disk:
        """Open the disk."""
        self._disk = SimDisk(slots, self._submit, self._wake)
        return self._disk

    def monotonic_ns(self) -> int:
        """The guest's clock."""
        now_ns = self._host_ns() if self._running else self._stopped_ns
        return _BOOTED_NS + now_ns - self._behind_ns

    def wall_ahead_ns(self) -> int:
        """How far the wall clock is ahead."""
        return self._wall_ahead_ns

    def set_wall_ahead(self, ahead_ns: int) -> None:
        """Set the wall clock."""
        self._wall_ahead_ns = ahead_ns

    def read_lines(self) -> list[bytes]:
        """Return the lines that have come."""
        lines, self._lines = self._lines, []
        return lines

    def write(self, outbox: Outbox, now_ns: int) -> None:
        """Say what the outbox has to send."""
        while chunk := outbox.next_chunk(now_ns):
            self._say(chunk)

    def wait(self, timeout_s: float, writing: bool) -> None:
        """The next turn comes by itself."""

    def _submit(self, request: Request) -> None:
        self._submitted(request)

    def _host_ns(self) -> int:
        return round(self._loop.time() * 1e9)

    def _wake(self) -> None:
        if self._awake and self._turn is None:
            self._turn = self._loop.call_at(max(self._loop.time(), self._next_s), self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        self._next_s = self._loop.time() + _TURN_S
        self._agent.turn()
        disk = self._disk
        if self._lines or self._agent.could_issue or (disk is not None and disk.ring[0] != disk.ring[1]):
            self._wake()

    def _ticked(self) -> None:
        self._tick = self._loop.call_later(_TICK_S, self._ticked)
        self._wake()


def is_write(request: Request) -> bool:
    """Tell whether the request is a write."""
    return request.kind not in (READ, FLUSH)


def whole(request: Request) -> int:
    """Return the result of the request where it succeeds."""
    return 0 if request.kind == FLUSH else BLOCK_BYTES


def _to_nobody(what: object) -> None:
    """Take what nobody receives."""


def _remember(random: Random) -> tuple[Callable[[Any], Random], tuple[Any]]:
    return _recall, (random.getstate(),)


def _recall(state: Any) -> Random:
    random = Random(0)
    random.setstate(state)
    return random


copyreg.pickle(Random, _remember)  # the agent's generator, which cannot be copied by itself
