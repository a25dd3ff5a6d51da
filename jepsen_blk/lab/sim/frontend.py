"""What stands between the guest's disk and the wire: the hypervisor's block layer, or Xen's blkfront.

- qemu: a dead connection fails what is in flight; a failed request is kept, and sent again when the guest is
  let run; before a switch-over what is in flight is waited for.
- qemu with reconnect_delay_s: a dead connection is made again, and what was in flight is sent again on it.
- blkfront: nothing is waited for at a suspend; what is in flight is sent again where the guest resumes, and
  what the old node had sent goes on there. Errors are told to the guest.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from functools import partial

from jepsen_blk.lab.sim.connection import REQUEST_BYTES, Connection
from jepsen_blk.lab.sim.guest import Request, is_write, whole
from jepsen_blk.lab.sim.line import GIVES_UP_S
from jepsen_blk.lab.sim.process import Process
from jepsen_blk.lab.sim.target import SimTarget
from jepsen_blk.lab.sim.wire import SimNetwork
from jepsen_blk.spec import GuestSpec
from jepsen_blk.storage.misbehaviour import ERRORS
from workloads.agent.operations import READ

_RETRY_S = 0.1


class Frontend:
    """The frontend of one node's hypervisor process; while that is frozen its kernel keeps what comes for it.

    `stopped` is called when a request has failed that stops the guest, `changed` when less is in flight.
    """

    def __init__(
        self,
        node: str,
        spec: GuestSpec,
        network: SimNetwork,
        target: SimTarget,
        stopped: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self.process = Process()
        self.in_flight: dict[Request, None] = {}
        self.failed: list[Request] = []
        self._node = node
        self._drains = spec.frontend == "qemu"
        self._errors = spec.disk_errors
        self._waits_s = float(spec.reconnect_delay_s) or GIVES_UP_S
        self._resends = spec.reconnect_delay_s > 0
        self._network, self._target = network, target
        self._stopped, self._changed = stopped, changed
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False
        self._connect()

    def submit(self, request: Request) -> None:
        """Send a request of the guest."""
        self.in_flight[request] = None
        if self._retry is None and (self._connection is not None or self._connect()):
            self._send(request)
        elif self._retry is None:
            self._wait_long()

    def resume(self) -> None:
        """Send again what has failed."""
        failed, self.failed = self.failed, []
        for request in failed:
            self.submit(request)

    @property
    def clear(self) -> bool:
        """Tell whether a request and its reply would go through with nothing before them."""
        return self._connection is not None and self._connection.clear

    @property
    def drained(self) -> bool:
        """Tell whether the guest may leave: nothing is in flight, or nobody waits for it."""
        return not (self._drains and self.in_flight)

    @property
    def unanswered(self) -> list[Request]:
        """What the guest sends again where it goes on; replies find the one that was left behind."""
        return [*self.failed, *self.in_flight]

    def leave(self) -> list[Request]:
        """Return what the guest takes along and sends again where it goes on; replies find nobody."""
        taken = self.unanswered
        self.failed = []
        self.in_flight.clear()
        self._end_retry()
        return taken

    def enter(self, requests: Iterable[Request]) -> None:
        """Take over what the guest has brought; `resume` sends it."""
        self.failed += requests

    def close(self) -> None:
        """End with the process: its kernel sends what it was given."""
        self._closed = True
        self._end_retry()
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> bool:
        if self._closed or not self._network.takes_connection(self._node):
            return False
        number = self._target.connect(self._node)
        connection = self._network.connect(self._node, number, self._lost)
        self._connection = connection
        return True

    def _send(self, request: Request) -> None:
        connection = self._connection
        if connection is not None:
            size = REQUEST_BYTES if is_write(request) else 0
            connection.out.send(self._arrive, connection, request, size=size)

    def _arrive(self, connection: Connection, request: Request) -> None:
        """Hand the request to the storage, which has received it, if its process is still there."""
        if connection.severed:
            return
        reply = partial(self._answer, connection, request)
        if request.kind == READ:
            self._target.read(self._node, request.block, reply)
        elif is_write(request):
            self._target.write(self._node, connection.number, request.block, request.data, reply)
        else:
            self._target.flush(self._node, reply)

    def _answer(self, connection: Connection, request: Request, code: int, data: bytes) -> None:
        if not connection.severed:
            connection.in_.send(self._answered, connection, request, code, data, size=len(data))

    def _answered(self, connection: Connection, request: Request, code: int, data: bytes) -> None:
        """Take in a reply; one for a request that was given up, or that has gone elsewhere, finds nobody."""
        if self.process.frozen:
            self.process.keep(self._answered, connection, request, code, data)
            return
        if connection.alive and connection is self._connection and request in self.in_flight:
            del self.in_flight[request]
            if code:
                self._fail(request, code)
            else:
                request.done(whole(request), data)
            self._changed()

    def _lost(self, connection: Connection) -> None:
        if self.process.frozen:
            self.process.keep(self._lost, connection)
            return
        if connection is not self._connection:
            return
        self._connection = None
        if not self._resends:
            self._fail_all()
        elif self._retry is None:
            self._wait_long()

    def _wait_long(self) -> None:
        """Try again until a path that says nothing is taken for dead; one that refuses is so at once."""
        at_once = self._network.refused and not self._resends
        self._wait(self._loop.time() + (0.0 if at_once else self._waits_s))

    def _wait(self, until_s: float) -> None:
        self._retry = self._loop.call_later(_RETRY_S, self._try_again, until_s)

    def _try_again(self, until_s: float) -> None:
        if self.process.frozen:
            self.process.keep(self._try_again, until_s)
            return
        self._retry = None
        if self._connect():
            for request in list(self.in_flight):
                self._send(request)
        elif self._loop.time() < until_s:
            self._wait(until_s)
        else:
            self._fail_all()

    def _fail_all(self) -> None:
        failed = list(self.in_flight)
        self.in_flight.clear()
        for request in failed:
            self._fail(request, errno.EIO)
        self._changed()

    def _fail(self, request: Request, code: int) -> None:
        stops = {"stop": True, "enospc": code == ERRORS["ENOSPC"], "report": False}[self._errors]
        if stops:
            self.failed.append(request)
            self._stopped()
        else:
            request.done(-code)

    def _end_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
