"""What the agent needs of the machine that it runs on: a disk, a clock, a wall clock.

A seam, so that the same agent works in a guest under QEMU and in a simulated one.
"""

from collections.abc import Sequence
from time import monotonic_ns
from typing import Any, Protocol

from workloads.agent.wall_clock import set_wall_ahead, wall_ahead_ns


class Disk(Protocol):
    """Many requests in flight from one thread; the numbers and the memory are those of `aio.Aio`."""

    @property
    def buffers(self) -> Any:
        """The memory: slot i reads into and writes from block i of it."""

    @property
    def offsets(self) -> Any:
        """Where on the disk each request is, in bytes."""

    @property
    def pointers(self) -> Sequence[int]:
        """What `queue` is given for each request."""

    @property
    def queue(self) -> Any:
        """What `submit` takes."""

    @property
    def ring(self) -> Any:
        """Two counters, which differ while `reap` would not wait."""

    def limit(self, count: int) -> None:
        """Reap at most `count` requests at a time."""

    def submit(self, count: int) -> int:
        """Send the first `count` of the queue; return how many there is no room for yet."""

    def reap(self) -> Sequence[tuple[int, int]]:
        """Return (request, bytes done or negative errno) of what has completed."""

    def close(self, in_flight: int) -> None:
        """Give the disk back; what is in flight there goes on."""


class Port(Protocol):
    """The way to the host; never blocks."""

    def read_lines(self) -> list[bytes]:
        """Return the complete lines that have come."""

    def write(self, outbox: Any, now_ns: int) -> None:
        """Write what the `link.Outbox` has to send, as far as the port takes it."""

    def wait(self, timeout_s: float, writing: bool) -> None:
        """Wait until there is something to read (or room to write), at most `timeout_s`."""


class Machine(Protocol):
    """The machine."""

    def open_disk(self, slots: int) -> Disk:
        """Open the disk under test for so many slots of requests; raises OSError."""

    def monotonic_ns(self) -> int:
        """The clock that the history is of."""

    def wall_ahead_ns(self) -> int:
        """How far the wall clock is ahead of it."""

    def set_wall_ahead(self, ahead_ns: int) -> None:
        """Set the wall clock; raises OSError where the agent may not."""


class LinuxMachine:
    """Implements Machine over the kernel's AIO on `device`, past the page cache."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.monotonic_ns = monotonic_ns
        self.wall_ahead_ns = wall_ahead_ns
        self.set_wall_ahead = set_wall_ahead

    def open_disk(self, slots: int) -> Disk:
        """Open the device; raises OSError if it cannot be opened without the page cache."""
        from workloads.agent.aio import Aio  # whose system calls are Linux's alone

        return Aio.open(self._device, slots)
