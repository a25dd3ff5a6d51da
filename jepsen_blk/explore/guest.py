"""The guest that is explored: it writes one value after the other, each once the one before has ended.

It is a guest of the simulator's hypervisor like the other one (lab/sim/guest.py), with the explorer in place
of the agent: when it issues its next write is a choice.
"""

from __future__ import annotations

from collections.abc import Callable

from jepsen_blk.explore.case import BLOCK
from jepsen_blk.lab.sim.guest import Request
from jepsen_blk.stamp import SEQUENCE_BITS, Stamp, encode

_WRITE = 1
_RUN = 1


def stamp(boot: int, sequence: int) -> tuple[int, bytes]:
    """Return the value of a boot's write, and its data."""
    return boot << SEQUENCE_BITS | sequence, encode(Stamp(_RUN, BLOCK, boot, 0, sequence))


class ScriptedGuest:
    """One boot that writes `writes`, each as (name, data); `ended` hears of each, and whether it is done.

    It hears of what ends while it stands still when it is let run.
    """

    def __init__(
        self, writes: tuple[tuple[int, bytes], ...], ended: Callable[[ScriptedGuest, int, bool], None]
    ) -> None:
        self._submitted: Callable[[Request], None] = lambda request: None
        self.running = False
        self.waits = False
        self.told = False
        self._left = list(writes)
        self._ended = ended
        self._untold: list[tuple[int, bool]] = []

    @property
    def next(self) -> int | None:
        """Which write it would issue now."""
        return self._left[0][0] if self.running and self._left and not self.waits else None

    def issue(self) -> None:
        """Issue the next write."""
        name, data = self._left.pop(0)
        self.waits = True
        self._submitted(Request(self, name, _WRITE, BLOCK, data))

    def run(self) -> None:
        """Let it run, and hear of what has ended."""
        self.running = True
        untold, self._untold = self._untold, []
        for name, done in untold:
            self._hear(name, done)

    def stop(self) -> None:
        """Stop it."""
        self.running = False

    def hang(self) -> None:
        """Nothing of what is explored hangs."""

    def go_on(self) -> None:
        """It did not hang."""

    def plug(self, submitted: Callable[[Request], None], say: Callable[[bytes], None]) -> None:
        """Connect it to a disk; it says nothing."""
        self._submitted = submitted

    def twin(self) -> ScriptedGuest:
        """Raise TypeError: none is left behind."""
        raise TypeError("the explored guest is one")

    def moved(self, request: Request) -> Request:
        """Return the request."""
        return request

    def receive(self, data: bytes) -> None:
        """Nobody speaks with it."""

    def complete(self, request: Request, result: int, data: bytes) -> None:
        """Take in the end of a write."""
        if self.running:
            self._hear(request.number, result > 0)
        else:
            self._untold.append((request.number, result > 0))

    def _hear(self, name: int, done: bool) -> None:
        self.waits = False
        self.told |= done
        self._ended(self, name, done)
