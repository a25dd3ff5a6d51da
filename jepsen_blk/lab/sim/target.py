"""The policy target of the simulator: the same decisions as the real one, with timers in place of threads.

The arbiter, the holds, the misbehaviours, the ends of writes, the backing and the log are those of the real
target; what is here is the order in which it asks them. What it knows dies with its process, what it stores
does not.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from jepsen_blk import clock
from jepsen_blk.lab.sim.bell import Bell
from jepsen_blk.lab.sim.process import Process
from jepsen_blk.stamp import BLOCK_BYTES
from jepsen_blk.storage.conflict import Arbiter, ConflictModel, Decision, Write
from jepsen_blk.storage.ends import ENDS, spread
from jepsen_blk.storage.holds import HoldBook, stamp_of
from jepsen_blk.storage.log import WriteLine
from jepsen_blk.storage.misbehaviour import ERRORS, Caught, MisbehaviourBook
from jepsen_blk.storage.pending import Pending
from jepsen_blk.storage.reissues import Reissues
from jepsen_blk.storage.sightings import Sightings
from jepsen_blk.storage.target.backing import Backing

Reply = Callable[[int, bytes], None]
"""Called with 0 or an errno, and the data of a read."""


@dataclass(slots=True, eq=False)
class Carried(Pending):
    """A write in flight with its data, and who is told of its end; `timer` says when it is due."""

    data: bytes = b""
    reply: Reply = lambda code, data: None
    timer: asyncio.TimerHandle | None = None


class Log(Protocol):
    """What the storage tells of itself, as storage.log.TargetLog keeps it."""

    def event(self, kind: str, **fields: Any) -> None:
        """Take in an event."""

    @property
    def write(self) -> Callable[[WriteLine], None]:
        """What takes in the line of an ended write."""


class SimTarget:
    """Serves reads, writes and flushes of single blocks of `backing`; steering.py steers them.

    With `durable`, each write that it is sent is to be on stable media when it is acknowledged (FUA).
    """

    def __init__(
        self,
        model: ConflictModel,
        latency_ms: float,
        log: Log,
        backing: Backing,
        *,
        durable: bool = False,
    ) -> None:
        self.process = Process()
        self.bell = Bell()
        self.log = log
        self._loop = asyncio.get_running_loop()
        self._model = model
        self._latency_s = latency_ms / 1000
        self._durable = durable
        self._requests = ("write", "flush") if durable else ("write",)
        self._last_id = self._last_connection = self._life = 0
        self.start(backing)

    def start(self, backing: Backing) -> None:
        """Begin to serve, knowing nothing of what was before; ids go on."""
        self.serving = True
        self._life += 1
        self.backing = backing
        self.arbiter = Arbiter(self._model)
        self.holds = HoldBook()
        self.reissues = Reissues()
        self.sightings = Sightings()
        self.misbehaviours = MisbehaviourBook()
        self.counts: Counter[str] = Counter()
        self.pending: dict[int, Carried] = {}
        self.received = 0
        self.found_cached = backing.cached
        self._nodes: dict[int, str] = {}
        self.log.event("start", cached=self.found_cached, time=clock.monotonic_ns())

    def stop(self) -> None:
        """Die, frozen or not, with all that is in flight; those who wait for it learn of that."""
        self.serving = False
        self.process.end()
        for pending in self.pending.values():
            if pending.timer is not None:
                pending.timer.cancel()
        self.pending.clear()
        self.bell.ring()

    def thaw(self) -> None:
        """Go on after a freeze, and with those who wait for an answer to a control request."""
        self.process.thaw()
        self.bell.ring()

    def connect(self, node: str) -> int:
        """Have the kernel take a new connection of the node, and return its number."""
        self._last_connection += 1
        self._accept(self._last_connection, node)
        return self._last_connection

    def disconnect(self, connection: int) -> None:
        """Note the end of a connection; what it has in flight goes on unless the model drops it."""
        if self.process.frozen:
            self.process.keep(self.disconnect, connection)
            return
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
        if self.process.frozen:
            self.process.keep(self.read, node, block, reply)
            return
        self._serve(node, "read", reply, partial(self._read, block))

    def flush(self, node: str, reply: Reply) -> None:
        """Make all completed writes durable, and acknowledge that."""
        if self.process.frozen:
            self.process.keep(self.flush, node, reply)
            return
        self._serve(node, "flush", reply, self._flush)

    def write(self, node: str, connection: int, block: int, data: bytes, reply: Reply) -> None:
        """Carry a write through arrival, waiting and end."""
        if self.process.frozen:
            self.process.keep(self.write, node, connection, block, data, reply)
            return
        value, process = stamp_of(data)
        self.received += 1
        self._last_id += 1
        write = Write(self._last_id, node, connection, (block,))
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
            pending.met = self.misbehaviours.catch(node, *self._requests)
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

    def _accept(self, connection: int, node: str) -> None:
        if self.process.frozen:
            self.process.keep(self._accept, connection, node)
            return
        self._nodes[connection] = node
        self.log.event("connect", node=node, time=clock.monotonic_ns())

    def _read(self, block: int) -> bytes:
        data = bytearray(BLOCK_BYTES)
        self.backing.read(memoryview(data), block * BLOCK_BYTES)
        return bytes(data)

    def _flush(self) -> bytes:
        self.backing.flush()
        return b""

    def _serve(self, node: str, request: str, reply: Reply, serve: Callable[[], bytes]) -> None:
        if not self.arbiter.admits(node):
            reply(errno.EPERM, b"")
        elif not self.misbehaviours.active:
            reply(0, serve())
        else:
            caught = self.misbehaviours.catch(node, request)
            now_ns = clock.monotonic_ns()
            served = (self._life, caught, now_ns, reply, serve)
            self._loop.call_later(caught.delay_ns / 1e9, self._served, *served)

    def _served(
        self, life: int, caught: Caught, received_ns: int, reply: Reply, serve: Callable[[], bytes]
    ) -> None:
        if life != self._life or not self.serving:
            return  # the process that took it in is dead
        if self.process.frozen:
            self.process.keep(self._served, life, caught, received_ns, reply, serve)
            return
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
        if self.process.frozen:
            self.process.keep(self._due, pending)
            return
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
                data, offset = memoryview(pending.data), write.blocks[0] * BLOCK_BYTES
                self.backing.write(data, offset, durable=self._durable)
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
