"""A node's hypervisor process in the simulator: the guest in it, its disk's frontend and its port."""

from __future__ import annotations

from collections.abc import Callable

from jepsen_blk.errors import InternalError
from jepsen_blk.lab.seams import GuestState
from jepsen_blk.lab.sim.frontend import Frontend
from jepsen_blk.lab.sim.guest import Booted, Request
from jepsen_blk.lab.sim.target import SimTarget
from jepsen_blk.lab.sim.transport import Serial
from jepsen_blk.lab.sim.wire import SimNetwork
from jepsen_blk.spec import GuestSpec


class Machine:
    """The process; without a guest it waits for one, or is gone. `changed` is called when it has changed."""

    def __init__(
        self,
        node: str,
        spec: GuestSpec,
        network: SimNetwork,
        target: SimTarget,
        serial: Serial,
        changed: Callable[[], None],
    ) -> None:
        self.node = node
        self.state = GuestState.INCOMING
        self.guest: Booted | None = None
        self.frontend = Frontend(node, spec, network, target, stopped=self._failed, changed=changed)
        self._starved = False
        self._serial = serial
        self._changed = changed

    @property
    def frozen(self) -> bool:
        """Tell whether the process stands still."""
        return self.frontend.process.frozen

    @property
    def seen(self) -> GuestState:
        """What the node says of the guest: the monitor of a frozen process says nothing."""
        return GuestState.FROZEN if self.frozen else self.state

    def plug(self, guest: Booted) -> None:
        """Connect a guest, which stands still, to the node's disk and port."""
        self.guest = self._serial.guest = guest
        guest.plug(self.frontend.submit, self._serial.say)

    def give_away(self) -> tuple[Booted, list[Request]]:
        """Return the guest as it goes on elsewhere, and what it sends again there.

        Its twin is left behind, which may be let run too, unless its workload cannot be copied.
        """
        guest = self.guest
        if guest is None:
            raise InternalError(f"there is no guest on {self.node} to give away")
        try:
            twin = guest.twin()
        except TypeError:
            self.guest = None
            return guest, self.frontend.leave()
        return twin, [twin.moved(request) for request in self.frontend.unanswered]

    def run(self) -> None:
        """Let the guest run; what had failed, or came with it, is sent again."""
        self.state = GuestState.RUNNING
        self.frontend.resume()
        if self.guest is not None and self.state is GuestState.RUNNING:
            self.guest.run()
            if self._starved:
                self.guest.hang()
        self._changed()

    def stop(self, state: GuestState) -> None:
        """Stop the guest's processors; it is in that state then."""
        self.state = state
        if self.guest is not None:
            self.guest.stop()
        self._changed()

    def freeze(self) -> None:
        """Let the process stand still; its kernel acknowledges what comes for it."""
        if self.state is not GuestState.ABSENT:
            self.frontend.process.freeze()
            if self.guest is not None:
                self.guest.hang()
            self._changed()

    def thaw(self) -> None:
        """Let it go on, first with what its kernel has kept; no error if it was not frozen."""
        if self.frozen:
            self.frontend.process.thaw()
            self._go_on()
            self._changed()

    def starve(self) -> None:
        """Have the guest wait for memory that does not come; it can be stopped and resumed all the same."""
        self._starved = True
        if self.guest is not None:
            self.guest.hang()

    def feed(self) -> None:
        """Let its memory come again."""
        self._starved = False
        self._go_on()

    def end(self) -> None:
        """Kill it, frozen or not; no error if it is gone."""
        if self.state is not GuestState.ABSENT:
            self.frontend.process.end()
            self.stop(GuestState.ABSENT)
            self.guest = self._serial.guest = None
            self.frontend.close()

    def _go_on(self) -> None:
        if self.guest is not None and not (self.frozen or self._starved):
            self.guest.go_on()

    def _failed(self) -> None:
        """Take in that a request has failed that stops the guest."""
        if self.state is GuestState.RUNNING:
            self.stop(GuestState.IO_ERROR)
