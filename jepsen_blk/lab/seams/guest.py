"""The guest as the tester speaks with it: the agent inside, and its stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Observer = Callable[[int, npt.NDArray[np.void]], None]
"""Called with the boot and its next rows, shape (n,) of dtype ROW, once they are in the journal."""


class Guest(Protocol):
    """The agent inside the guest, reached without crossing a network that a fault can cut."""

    async def run(self, workload: dict[str, Any]) -> None:
        """Start issuing operations."""

    async def quiesce(self, timeout_s: float) -> bool:
        """Stop issuing and wait until nothing is in flight; False if something still is."""

    async def read_all(self, timeout_s: float) -> None:
        """Read every block once; returns when all reads have completed and been recorded."""

    async def issue(self, block: int, *, write: bool) -> int:
        """Issue one operation of the quiesced guest; return the value of a write once it is in flight."""

    async def wall_ahead(self) -> int:
        """Return by how many ns the guest's wall clock is ahead of its monotonic one."""

    async def set_wall_ahead(self, ahead_ns: int) -> None:
        """Set the guest's wall clock, whatever it shows, to so many ns ahead of its monotonic one."""

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Show `observer` every row from now on; return what ends that."""

    async def abandon(self) -> int:
        """Report everything still in flight as indeterminate; return how many there were."""

    def give_up(self) -> int:
        """Close the boot where it is, as at a fence, and return its number: no more of it is recorded."""

    async def boot_again(self) -> int:
        """Begin the next boot with the guest that was started again; return its number."""

    def power_loss(self) -> AbstractAsyncContextManager[None]:
        """Give the history a power loss of the storage, at some moment while the block ran.

        The block ends the servers, and they are not started again before it is over.
        """

    @property
    def second_versions(self) -> int:
        """How many of the guest's numbered frames came a second time with other operations: a split brain."""


class GuestStream(Protocol):
    """What a lab needs of the link to the agent: where it listens, and whose stream counts."""

    async def listen(self, node: str, path: Path) -> None:
        """Listen for the guest of `node` on a unix socket; its hypervisor connects to it."""

    def accept(self, node: str) -> asyncio.Protocol:
        """Return the host's end of a connection of the guest of `node` that the lab makes itself."""

    async def attach(self, node: str) -> None:
        """Take the guest's stream from `node` from now on, and ask again for what was lost on the way."""
