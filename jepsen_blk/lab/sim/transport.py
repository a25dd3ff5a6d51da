"""A node's end of the link to the guest: what QEMU's serial port is to the real one, in memory."""

from __future__ import annotations

import asyncio

from jepsen_blk.lab.sim.guest import Booted


class Serial(asyncio.Transport):
    """Carries bytes between the host's end and the guest that is on the node; without one they are lost."""

    def __init__(self, host: asyncio.Protocol) -> None:
        super().__init__()
        self.guest: Booted | None = None
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._closed = False
        host.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Carry what the host says to the guest."""
        if self.guest is not None:
            self._loop.call_soon(self.guest.receive, bytes(data))

    def say(self, data: bytes) -> None:
        """Carry what the guest says to the host."""
        if not self._closed:
            self._loop.call_soon(self._host.data_received, data)

    def abort(self) -> None:
        """End it."""
        if not self._closed:
            self._closed = True
            self._loop.call_soon(self._host.connection_lost, None)
