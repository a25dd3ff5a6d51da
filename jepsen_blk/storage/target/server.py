"""The policy target: a block store whose conflict model, holds and fences are ours to decide.

nbdkit speaks NBD and calls `write` from as many threads as there are requests in flight; a request
that must wait (held, serialized, behind a flush, latency) waits in its own thread, and its decision
is taken when it is to be applied, not when it arrived. Decisions come from the arbiter, which the
simulator uses too; this module adds the clock, the data and the log. What it shares with the control
requests, which steer the writes (steering.py), is in flights.py.

Standard library only: this runs inside nbdkit under the system's Python.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jepsen_blk.storage.conflict import ConflictModel, Decision, Write
from jepsen_blk.storage.ends import ENDS, spread
from jepsen_blk.storage.holds import blocks_of, stamp_of
from jepsen_blk.storage.log import TargetLog, WriteLine
from jepsen_blk.storage.target.backing import Backing, part_in_block
from jepsen_blk.storage.target.flights import Flights, Gated
from jepsen_blk.storage.target.misbehaving import Misbehaving, failure
from jepsen_blk.storage.target.steering import Steering


class CommandError(OSError):
    """A command that is answered with an error; `errno` is what the client gets."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's connection; its node is the export that it asked for."""

    id: int
    node: str


class Target:
    """Serves reads and writes of `backing`, and the control requests that steer them."""

    def __init__(self, backing: Backing, model: ConflictModel, latency_ms: float, log: TargetLog) -> None:
        self._backing = backing
        self._latency_ns = int(latency_ms * 1e6)
        self._log = log
        self._flights = flights = Flights(model, log.last_id)
        self._lock, self._arbiter, self._holds = flights.lock, flights.arbiter, flights.holds
        self._pending, self._counts = flights.pending, flights.counts
        self._last_connection = 0
        self._open: set[int] = set()
        self._found_cached = backing.cached
        self._steering = Steering(flights, log)
        self._misbehaving = Misbehaving(log, self._wake_all)
        self._misbehaviours = self._misbehaving.active

    def start(self) -> None:
        """Say in the log what the target begins with."""
        self._log.event("start", cached=self._found_cached, time=time.monotonic_ns())

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
            for pending in self._pending.values():
                if pending.write.connection == connection.id:
                    self._flights.reissues.expect(pending.value)
            self._flights.wake(self._arbiter.disconnect(connection.id))
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
            write = Write(self._flights.next_id(), connection.node, connection.id, blocks)
            pending = Gated(write, value, process, received_ns)
            self._pending[write.id] = pending
            if self._flights.reissues.arrived(write.node, value):
                self._flights.notify()
            decision = self._arbiter.arrive(write)
            lingers = False
            if decision is Decision.APPLY or decision is Decision.WAIT:
                self._catch(pending)
                lingers = pending.hold is not None or decision is Decision.WAIT or self._latency_ns > 0
                if self._misbehaviours:
                    pending.met = self._misbehaving.catch(write.node, "write", *["flush"] * durable)
                    lingers = True
                if self._flights.sightings.arrived(write.node, partial(self._flights.of, write.node)):
                    self._flights.notify()
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
                    self._apply(write, data, offset, durable)
                    applied_ns = time.monotonic_ns()
                if error is not None:
                    raise failure(error)
            except OSError as why:
                failed = why
        self._end(pending, applied_ns, failed)

    def _check_admitted(self, connection: Connection) -> None:
        if not self._arbiter.admits(connection.node):
            raise CommandError(errno.EPERM, f"{connection.node} is fenced")

    def _catch(self, pending: Gated) -> None:
        write = pending.write
        hold = self._holds.match(write.node, write.blocks)
        if hold is None:
            return
        pending.hold = hold
        self._flights.reissues.expect(pending.value)
        self._holds.catch(hold, write.blocks, pending.describe())
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
        self._flights.notify()

    def _linger(self, pending: Gated) -> None:
        """Wait until the write is due, admitted and let go, or until its fate is another one."""
        write = pending.write
        due_ns = pending.received_ns + int(self._latency_ns * spread(write.id))
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

    def _apply(self, write: Write, data: memoryview, offset: int, durable: bool) -> None:
        if not write.skipped:
            self._backing.write(data, offset, durable=durable)
            return
        for block in write.blocks:
            if block not in write.skipped:
                part = part_in_block(block, offset, len(data))
                view = data[part.start - offset : part.stop - offset]
                self._backing.write(view, part.start, durable=durable)

    def _end(self, pending: Gated, applied_ns: int | None, failed: OSError | None) -> None:
        write = pending.write
        action, outcome, code = ENDS[write.decision]
        why = write.why
        if write.waited and action == "apply":
            action = "wait"
        if failed is not None:
            outcome, code, why = "error", failed.errno or errno.EIO, str(failed)
        done_ns = time.monotonic_ns()
        with self._lock:
            del self._pending[write.id]
            self._flights.reissues.ended(pending.value)
            self._flights.wake(self._arbiter.finish(write))
            self._counts[outcome if code else action] += 1
            if code:
                self._flights.reissues.expect(pending.value)
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
            self._flights.notify()
        if pending.met and write.decision is Decision.APPLY:
            self._misbehaving.answered(pending.met, done_ns - pending.received_ns)
        if code:
            raise CommandError(code, f"write {write.id} of {write.node}: {why}")

    def handlers(self) -> dict[str, Callable[..., dict[str, Any]]]:
        """Return what answers each control request."""
        return {**self._steering.handlers(), **self._misbehaving.handlers(), "stats": self.stats}

    def stats(self) -> dict[str, Any]:
        """Count writes as `Steering.stats`, and blocks in the cache: now, and when this target started."""
        stats = self._steering.stats()
        return {"stats": {**stats, "cached": self._backing.cached, "cached_at_start": self._found_cached}}

    def _wake_all(self) -> None:
        with self._lock:
            self._flights.wake([pending.write for pending in self._pending.values()])
