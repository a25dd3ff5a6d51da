"""The policy target: a block store whose conflict model, holds and fences are ours to decide.

nbdkit speaks NBD and calls `write` from as many threads as there are requests in flight; a request
that must wait (held, serialized, behind a flush, latency) waits in its own thread, and its decision
is taken when it is to be applied, not when it arrived. Decisions come from the arbiter, which the
simulator uses too; this module adds the lock, the clock, the data and the log.

Standard library only: this runs inside nbdkit under the system's Python.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jepsen_blk.storage.conflict import Arbiter, ConflictModel, Decision, Write
from jepsen_blk.storage.holds import Hold, HoldBook, blocks_of, stamp_of
from jepsen_blk.storage.log import TargetLog, WriteLine
from jepsen_blk.storage.misbehaviour import Caught
from jepsen_blk.storage.target.backing import Backing, part_in_block
from jepsen_blk.storage.target.misbehaving import Misbehaving, failure

FENCE_TIMEOUT_S = 10.0
"""How long a fence may wait for the writes it aborts; they end at once unless the backing hangs."""

_ENDS: dict[Decision, tuple[str, str, int]] = {
    Decision.APPLY: ("apply", "ok", 0),
    Decision.IGNORE: ("ignore", "ok", 0),
    # NBD has no busy error, so a busy device is an I/O error on the wire.
    Decision.BUSY: ("refuse", "error", errno.EIO),
    Decision.REFUSE: ("refuse", "refused", errno.EPERM),
    Decision.ABORT: ("abort", "aborted", errno.EIO),
}
"""What a write's last decision means: action and outcome in the log, errno of the reply."""


class CommandError(OSError):
    """A command that is answered with an error; `errno` is what the client gets."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's connection; its node is the export that it asked for."""

    id: int
    node: str


@dataclass(slots=True, eq=False)
class _Pending:
    """A write in flight, as the target knows it; `gate` wakes the thread that waits with it."""

    write: Write
    value: int
    process: int
    received_ns: int
    hold: Hold | None = None
    gate: threading.Condition | None = None
    met: Caught | None = None

    @property
    def held(self) -> bool:
        return self.hold is not None and not self.hold.released


def _spread(number: int) -> float:
    """Return a factor from 1 up to 2 for the latency of write `number`, evenly spread and repeatable.

    With the same latency for all, writes that were issued together complete together: the queue fills and
    drains in step, and a migration may find it empty under full load.
    """
    return 1 + (number * 0x9E3779B1 >> 16 & 0xFFFF) / 0x10000


class Target:
    """Serves reads and writes of `backing`, and the control requests that steer them."""

    def __init__(self, backing: Backing, model: ConflictModel, latency_ms: float, log: TargetLog) -> None:
        self._backing = backing
        self._latency_ns = int(latency_ms * 1e6)
        self._log = log
        self._arbiter = Arbiter(model)
        self._holds = HoldBook()
        self._pending: dict[int, _Pending] = {}
        self._last_id = 0
        self._last_connection = 0
        self._open: set[int] = set()
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._watchers = 0
        self._misbehaving = Misbehaving(log, self._wake_all)
        self._misbehaviours = self._misbehaving.active

    # Called by nbdkit's threads.

    def connect(self, node: str) -> Connection:
        """Note a new connection of `node`."""
        with self._lock:
            self._last_connection += 1
            connection = Connection(self._last_connection, node)
            self._open.add(connection.id)
        self._log.event("connect", node=node, time=time.monotonic_ns())
        return connection

    def disconnect(self, connection: Connection) -> None:
        """Note a closed connection, once; what it has in flight goes on unless the model drops it."""
        with self._lock:
            if connection.id not in self._open:
                return
            self._open.discard(connection.id)
            self._wake(self._arbiter.disconnect(connection.id))
        self._log.event("disconnect", node=connection.node, time=time.monotonic_ns())

    def read(self, connection: Connection, buffer: memoryview, offset: int) -> None:
        """Fill `buffer`; raises CommandError when the node is fenced, OSError when it fails."""
        self._check_admitted(connection)
        if self._misbehaviours:
            self._misbehaving.serve(connection.node, "read", partial(self._backing.read, buffer, offset))
        else:
            self._backing.read(buffer, offset)

    def flush(self, connection: Connection) -> None:
        """Make all completed writes durable."""
        self._check_admitted(connection)
        self._misbehaving.serve(connection.node, "flush", self._backing.flush)

    def write(self, connection: Connection, data: memoryview, offset: int, *, durable: bool = False) -> None:
        """Carry a write through arrival, waiting and end; raises CommandError unless it is acknowledged."""
        received_ns = time.monotonic_ns()
        value, process = stamp_of(data)
        blocks = blocks_of(offset, len(data))
        with self._lock:
            self._last_id += 1
            write = Write(self._last_id, connection.node, connection.id, blocks)
            pending = _Pending(write, value, process, received_ns)
            self._pending[write.id] = pending
            decision = self._arbiter.arrive(write)
            lingers = False
            if decision is Decision.APPLY or decision is Decision.WAIT:
                self._catch(pending)
                lingers = pending.hold is not None or decision is Decision.WAIT or self._latency_ns > 0
                if self._misbehaviours:
                    pending.met = self._misbehaving.catch(write.node, "write", *["flush"] * durable)
                    lingers = True
        if lingers:
            self._linger(pending)
        with self._lock:
            decision = self._arbiter.begin(write)
        applied_ns = None
        failed: OSError | None = None
        if decision is Decision.APPLY:
            error = pending.met.error if pending.met else None
            try:
                if error is None or error.applied:
                    self._apply(write, data, offset)
                    if durable:
                        self._backing.flush()
                    applied_ns = time.monotonic_ns()
                if error is not None:
                    raise failure(error)
            except OSError as why:
                failed = why
        self._end(pending, applied_ns, failed)

    def _check_admitted(self, connection: Connection) -> None:
        if not self._arbiter.admits(connection.node):
            raise CommandError(errno.EPERM, f"{connection.node} is fenced")

    def _catch(self, pending: _Pending) -> None:
        write = pending.write
        hold = self._holds.match(write.node, write.blocks)
        if hold is None:
            return
        pending.hold = hold
        self._holds.catch(hold, write.blocks, _describe(pending))
        self._counts["held"] += 1
        self._log.event(
            "held",
            id=write.id,
            hold=hold.id,
            node=write.node,
            block=write.blocks[0],
            value=pending.value,
            time=time.monotonic_ns(),
        )
        self._notify()

    def _linger(self, pending: _Pending) -> None:
        """Wait until the write is due, admitted and let go, or until its fate is another one."""
        write = pending.write
        due_ns = pending.received_ns + int(self._latency_ns * _spread(write.id))
        with self._lock:
            pending.gate = threading.Condition(self._lock)
            while write.decision is Decision.APPLY or write.decision is Decision.WAIT:
                if pending.held or write.decision is Decision.WAIT:
                    pending.gate.wait()
                    continue
                left_ns = due_ns + (pending.met.delay_ns if pending.met else 0) - time.monotonic_ns()
                if left_ns <= 0:
                    return
                pending.gate.wait(left_ns / 1e9)

    def _apply(self, write: Write, data: memoryview, offset: int) -> None:
        if not write.skipped:
            self._backing.write(data, offset)
            return
        for block in write.blocks:
            if block not in write.skipped:
                part = part_in_block(block, offset, len(data))
                self._backing.write(data[part.start - offset : part.stop - offset], part.start)

    def _end(self, pending: _Pending, applied_ns: int | None, failed: OSError | None) -> None:
        write = pending.write
        action, outcome, code = _ENDS[write.decision]
        why = write.why
        if write.waited and action == "apply":
            action = "wait"
        if failed is not None:
            outcome, code, why = "error", failed.errno or errno.EIO, str(failed)
        done_ns = time.monotonic_ns()
        with self._lock:
            del self._pending[write.id]
            self._wake(self._arbiter.finish(write))
            self._counts[outcome if code else action] += 1
            self._log.write(
                WriteLine(
                    write.id,
                    write.node,
                    write.blocks[0],
                    pending.value,
                    pending.process,
                    pending.received_ns,
                    applied_ns,
                    done_ns,
                    action,
                    outcome,
                    why,
                )
            )
            if pending.hold is not None:
                pending.hold.landed = True
                self._log.flush()
            elif not code:
                self._holds.completed(write.node, write.blocks)
            self._notify()
        if pending.met and write.decision is Decision.APPLY:
            self._misbehaving.answered(pending.met, done_ns - pending.received_ns)
        if code:
            raise CommandError(code, f"write {write.id} of {write.node}: {why}")

    def _wake(self, writes: Iterable[Write]) -> None:
        for write in writes:
            gate = self._pending[write.id].gate
            if gate is not None:
                gate.notify_all()

    def _wake_all(self) -> None:
        with self._lock:
            self._wake([pending.write for pending in self._pending.values()])

    def _notify(self) -> None:
        if self._watchers:
            self._changed.notify_all()

    # Called by the control socket's threads; names and fields are those of the control protocol.

    def handlers(self) -> dict[str, Callable[..., dict[str, Any]]]:
        """Return what answers each control request."""
        return {
            "hold": self.hold,
            "wait_held": self.wait_held,
            "wait_writes": self.wait_writes,
            "release": self.release,
            "wait_landed": self.wait_landed,
            "in_flight": self.in_flight,
            "fence": self.fence,
            "raise_epoch": self.raise_epoch,
            "single_writer": self.single_writer,
            "unfence": self.unfence,
            "stats": self.stats,
            **self._misbehaving.handlers(),
        }

    def hold(self, node: str, blocks: list[int]) -> dict[str, Any]:
        """Arm a hold."""
        with self._lock:
            return {"hold": self._holds.arm(node, blocks).id}

    def wait_held(self, hold: int, timeout_s: float) -> dict[str, Any]:
        """Wait until the hold has caught a write, and describe it."""
        with self._lock:
            self._await(lambda: self._holds.is_caught(hold), timeout_s)
            return {"write": self._holds.get(hold).caught}

    def wait_writes(self, node: str, block: int, count: int, timeout_s: float) -> dict[str, Any]:
        """Wait until `node` has had `count` writes to `block` completed since the hold caught its write."""
        with self._lock:
            self._await(lambda: self._holds.count(node, block) >= count, timeout_s)
        return {}

    def release(self, hold: int) -> dict[str, Any]:
        """Let the held write go on, or disarm the hold."""
        with self._lock:
            released = self._holds.release(hold)
            self._notify()
            if released is None or released.caught is None:
                return {}
            number = released.caught["id"]
            pending = self._pending.get(number)
            self._log.event("released", hold=hold, id=number, time=time.monotonic_ns())
            if pending is not None:
                self._wake([pending.write])
        return {}

    def wait_landed(self, hold: int, timeout_s: float) -> dict[str, Any]:
        """Wait until the hold's write has ended."""
        with self._lock:
            self._await(lambda: self._holds.get(hold).landed, timeout_s)
        return {}

    def in_flight(self, node: str) -> dict[str, Any]:
        """Describe the node's writes in flight."""
        with self._lock:
            writes = [_describe(self._pending[write.id]) for write in self._arbiter.in_flight(node)]
        return {"writes": writes}

    def fence(self, node: str, abort: bool) -> dict[str, Any]:
        """Refuse new commands of `node`; with `abort`, answer once its accepted ones have ended."""
        with self._lock:
            self._wake(self._arbiter.fence(node, abort=abort))
            if abort:
                self._await(lambda: not self._arbiter.in_flight(node), FENCE_TIMEOUT_S)
            self._log.event("fence", node=node, abort=abort, time=time.monotonic_ns())
        return {}

    def raise_epoch(self, node: str) -> dict[str, Any]:
        """Give `node` a new epoch; older ones are refused when applied."""
        with self._lock:
            epoch = self._arbiter.raise_epoch(node)
            self._log.event("epoch", node=node, epoch=epoch, time=time.monotonic_ns())
        return {"epoch": epoch}

    def single_writer(self, node: str) -> dict[str, Any]:
        """Refuse the other nodes; writes of `node` wait until what those have in flight has ended."""
        with self._lock:
            self._arbiter.single_writer(node)
            self._log.event("single_writer", node=node, time=time.monotonic_ns())
        return {}

    def unfence(self, node: str) -> dict[str, Any]:
        """Admit the node again."""
        with self._lock:
            self._arbiter.unfence(node)
            self._log.event("unfence", node=node, time=time.monotonic_ns())
        return {}

    def stats(self) -> dict[str, Any]:
        """Count the writes of the target's life by how they ended."""
        with self._lock:
            counts = self._counts
            return {
                "stats": {
                    "received": self._last_id,
                    "applied": counts["apply"] + counts["wait"],
                    "ignored": counts["ignore"],
                    "refused": counts["refused"],
                    "aborted": counts["aborted"],
                    "errors": counts["error"],
                    "held": counts["held"],
                    "in_flight": len(self._pending),
                }
            }

    def _await(self, condition: Callable[[], bool], timeout_s: float) -> None:
        self._watchers += 1
        try:
            if not self._changed.wait_for(condition, timeout_s):
                raise TimeoutError
        finally:
            self._watchers -= 1


def _describe(pending: _Pending) -> dict[str, Any]:
    write = pending.write
    return {
        "id": write.id,
        "node": write.node,
        "block": write.blocks[0],
        "value": pending.value,
        "received_ns": pending.received_ns,
        "held": pending.held,
    }
