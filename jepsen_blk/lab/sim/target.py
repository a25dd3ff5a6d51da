"""The policy target of the simulator: the same decisions as the real one, with timers in place of threads.

The arbiter, the holds, the misbehaviours, the ends of writes and the log are those of the real target; what
is here is the order in which it asks them, and the blocks.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from jepsen_blk import clock
from jepsen_blk.lab.sim.bell import Bell
from jepsen_blk.stamp import BLOCK_BYTES
from jepsen_blk.storage.conflict import Arbiter, ConflictModel, Decision, Write
from jepsen_blk.storage.ends import ENDS, spread
from jepsen_blk.storage.holds import HoldBook, stamp_of
from jepsen_blk.storage.log import TargetLog, WriteLine
from jepsen_blk.storage.misbehaviour import ERRORS, Caught, MisbehaviourBook
from jepsen_blk.storage.pending import Pending
from jepsen_blk.storage.reissues import Reissues
from jepsen_blk.storage.sightings import Sightings

Reply = Callable[[int, bytes], None]
"""Called with 0 or an errno, and the data of a read."""
_ZEROS = bytes(BLOCK_BYTES)


@dataclass(slots=True, eq=False)
class Carried(Pending):
    """A write in flight with its data, and who is told of its end; `timer` says when it is due."""

    data: bytes = b""
    reply: Reply = lambda code, data: None
    timer: asyncio.TimerHandle | None = None


class SimTarget:
    """Serves reads, writes and flushes of single blocks; steering.py steers them."""

    def __init__(self, model: ConflictModel, latency_ms: float, log: TargetLog) -> None:
        self.arbiter = Arbiter(model)
        self.holds = HoldBook()
        self.reissues = Reissues()
        self.sightings = Sightings()
        self.misbehaviours = MisbehaviourBook()
        self.counts: Counter[str] = Counter()
        self.pending: dict[int, Carried] = {}
        self.received = 0
        self.bell = Bell()
        self.log = log
        self._loop = asyncio.get_running_loop()
        self._latency_s = latency_ms / 1000
        self._blocks: dict[int, bytes] = {}
        self._nodes: dict[int, str] = {}
        self._last_connection = 0
        log.event("start", cached=0, time=clock.monotonic_ns())

    def connect(self, node: str) -> int:
        """Note a new connection of the node, and return its number."""
        self._last_connection += 1
        self._nodes[self._last_connection] = node
        self.log.event("connect", node=node, time=clock.monotonic_ns())
        return self._last_connection

    def disconnect(self, connection: int) -> None:
        """Note the end of a connection; what it has in flight goes on unless the model drops it."""
        node = self._nodes.pop(connection)
        for pending in self.pending.values():
            if pending.write.connection == connection:
                self.reissues.expect(pending.value)
        self.wake(self.arbiter.disconnect(connection))
        self.log.event("disconnect", node=node, time=clock.monotonic_ns())

    def of(self, node: str) -> list[Carried]:
        """Return the writes that the node has in flight, in order of arrival."""
        return [self.pending[write.id] for write in self.arbiter.in_flight(node)]

    def read(self, node: str, block: int, reply: Reply) -> None:
        """Answer a read with what the block holds."""
        self._serve(node, "read", reply, lambda: self._blocks.get(block, _ZEROS))

    def flush(self, node: str, reply: Reply) -> None:
        """Acknowledge a flush: what is completed is durable."""
        self._serve(node, "flush", reply, lambda: b"")

    def write(self, node: str, connection: int, block: int, data: bytes, reply: Reply) -> None:
        """Carry a write through arrival, waiting and end."""
        value, process = stamp_of(data)
        self.received += 1
        write = Write(self.received, node, connection, (block,))
        pending = Carried(write, value, process, clock.monotonic_ns(), data=data, reply=reply)
        self.pending[write.id] = pending
        if self.reissues.arrived(node, value):
            self.bell.ring()
        decision = self.arbiter.arrive(write)
        if decision is not Decision.APPLY and decision is not Decision.WAIT:
            self._end(pending, None)
            return
        self._catch(pending)
        if self.misbehaviours.active:
            pending.met = self.misbehaviours.catch(node, "write")
        if self.sightings.arrived(node, partial(self.of, node)):
            self.bell.ring()
        delay_s = pending.met.delay_ns / 1e9 if pending.met else 0.0
        due_s = self._loop.time() + self._latency_s * spread(write.id) + delay_s
        pending.timer = self._loop.call_at(due_s, self._due, pending)

    def wake(self, writes: Iterable[Write]) -> None:
        """Look at what has become of these writes."""
        for write in writes:
            pending = self.pending.get(write.id)
            if pending is not None:
                self._go_on(pending)

    def hurry(self) -> None:
        """Look at all writes: a misbehaviour that delayed them has ended."""
        for pending in list(self.pending.values()):
            if pending.met is not None and pending.timer is not None:
                pending.timer.cancel()
                due_s = pending.received_ns / 1e9 + self._latency_s * spread(pending.write.id)
                due_s += pending.met.delay_ns / 1e9
                pending.timer = self._loop.call_at(max(due_s, self._loop.time()), self._due, pending)

    def _serve(self, node: str, request: str, reply: Reply, serve: Callable[[], bytes]) -> None:
        if not self.arbiter.admits(node):
            reply(errno.EPERM, b"")
        elif not self.misbehaviours.active:
            reply(0, serve())
        else:
            caught = self.misbehaviours.catch(node, request)
            now_ns = clock.monotonic_ns()
            self._loop.call_later(caught.delay_ns / 1e9, self._served, caught, now_ns, reply, serve)

    def _served(self, caught: Caught, received_ns: int, reply: Reply, serve: Callable[[], bytes]) -> None:
        error = caught.error
        data = b"" if error else serve()
        caught.answered(clock.monotonic_ns() - received_ns)
        self.bell.ring()
        reply(ERRORS[error.error] if error else 0, data)

    def _catch(self, pending: Carried) -> None:
        write = pending.write
        hold = self.holds.match(write.node, write.blocks)
        if hold is None:
            return
        pending.hold = hold
        self.reissues.expect(pending.value)
        self.holds.catch(hold, write.blocks, pending.describe())
        self.counts["held"] += 1
        told = {"id": write.id, "hold": hold.id, "node": write.node, "block": write.blocks[0]}
        self.log.event("held", **told, value=pending.value, time=clock.monotonic_ns())
        self.bell.ring()

    def _due(self, pending: Carried) -> None:
        pending.timer = None
        self._go_on(pending)

    def _go_on(self, pending: Carried) -> None:
        """End the write if it is due, admitted and let go, or if its fate is another one."""
        write = pending.write
        lives = write.decision is Decision.APPLY or write.decision is Decision.WAIT
        if lives and (pending.held or write.decision is Decision.WAIT or pending.timer is not None):
            return
        if pending.timer is not None:
            pending.timer.cancel()
            pending.timer = None
        applied_ns, failed = None, 0
        if self.arbiter.begin(write) is Decision.APPLY:
            error = pending.met.error if pending.met else None
            if error is None or error.applied:
                self._blocks[write.blocks[0]] = pending.data
                applied_ns = clock.monotonic_ns()
            failed = ERRORS[error.error] if error else 0
        self._end(pending, applied_ns, failed)

    def _end(self, pending: Carried, applied_ns: int | None, failed: int = 0) -> None:
        write = pending.write
        action, outcome, code = ENDS[write.decision]
        why = write.why
        if write.waited and action == "apply":
            action = "wait"
        if failed:
            outcome, code, why = "error", failed, "the storage misbehaves"
        done_ns = clock.monotonic_ns()
        del self.pending[write.id]
        self.reissues.ended(pending.value)
        woken = self.arbiter.finish(write)
        self.counts[outcome if code else action] += 1
        if code:
            self.reissues.expect(pending.value)
        block, times = write.blocks[0], (pending.received_ns, applied_ns, done_ns)
        line = WriteLine(
            write.id, write.node, block, pending.value, pending.process, *times, action, outcome, why
        )
        self.log.write(line)
        if pending.hold is not None:
            pending.hold.landed = True
        elif not code:
            self.holds.completed(write.node, write.blocks)
        if pending.met is not None and write.decision is Decision.APPLY:
            pending.met.answered(done_ns - pending.received_ns)
        pending.reply(code, b"")
        self.wake(woken)
        self.bell.ring()
