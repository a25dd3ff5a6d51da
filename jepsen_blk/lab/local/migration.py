"""A live migration between two QEMUs, over their monitors: how it begins, where it is, how it ends.

Where it is comes from the events of both sides, counted from the migration's beginning: the monitor of a
destination in post-copy can hang on a page that is still on its way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from jepsen_blk.errors import LabError
from jepsen_blk.lab.local.qemu import Qemu, QmpEvent
from jepsen_blk.lab.seams import MigrationPhase, Progress

_PORT = 4444
_STATISTICS_TIMEOUT_S = 1.0
_RECOVER_TIMEOUT_S = 10.0
_SWITCHOVER_TIMEOUT_S = 10.0
_POLL_S = 0.01
_POSTCOPY_REMEDY = (
    "post-copy needs userfaultfd: set `sysctl -w vm.unprivileged_userfaultfd=1`, or test as root"
)
_PHASES = {
    "setup": MigrationPhase.COPYING,
    "active": MigrationPhase.COPYING,
    "pre-switchover": MigrationPhase.SWITCHOVER,
    "device": MigrationPhase.COPYING,
    "postcopy-active": MigrationPhase.POSTCOPY,
    "postcopy-paused": MigrationPhase.INTERRUPTED,
    "postcopy-recover": MigrationPhase.INTERRUPTED,
    "completed": MigrationPhase.COMPLETED,
    "cancelled": MigrationPhase.CANCELLED,
    "failed": MigrationPhase.FAILED,
}
_FINAL = frozenset((MigrationPhase.COMPLETED, MigrationPhase.CANCELLED, MigrationPhase.FAILED))


@dataclass(frozen=True, slots=True)
class Manner:
    """How a migration is done. All is stated before each: what QEMU was told for one holds for the next."""

    max_bandwidth: int
    downtime_limit_ms: int
    postcopy: bool = False
    postcopy_bandwidth: int = 0


PRECOPY = Manner(max_bandwidth=1 << 40, downtime_limit_ms=10_000)
"""So that what is found dirty while the guest runs is sent once, after it has stopped. TCG marks a page dirty
before it stores to it; a page that is sent between the two is stale on the destination, and the guest crashes
there (seen once in 40 migrations on a busy machine)."""
POSTCOPY = Manner(max_bandwidth=1 << 20, downtime_limit_ms=1, postcopy=True, postcopy_bandwidth=32 << 20)
"""So that hardly a page is sent before the switch-over, and the guest then works for seconds while many pages
are still at the source."""
UNENDING = Manner(max_bandwidth=32 << 20, downtime_limit_ms=0)
"""So that there is time to break it off: it would end once a working guest has not one dirty page."""

MANNERS = {"precopy": PRECOPY, "postcopy": POSTCOPY, "unending": UNENDING}


class MigrationRun:
    """One migration of the guest of `old` to `new`, which waits with `-incoming defer`."""

    def __init__(self, old: Qemu, new: Qemu, address: str, mode: str, begin_ns: int) -> None:
        self.old = old
        self.new = new
        self.mode = mode
        self.begin_ns = begin_ns
        self._address = address
        self._port = _PORT
        self._after = {old: len(old.events), new: len(new.events)}

    async def begin(self, *, pause: bool) -> None:
        """Configure both sides and start; in post-copy the switch-over comes as soon as it can."""
        manner = MANNERS[self.mode]
        await _configure(self.old, manner, pause=pause)
        try:
            await _configure(self.new, manner, pause=pause)
        except LabError as error:
            raise LabError(f"{error}; {_POSTCOPY_REMEDY}" if manner.postcopy else str(error)) from error
        await self.new.execute("migrate-incoming", {"uri": self._uri})
        await self.old.execute("migrate", {"uri": self._uri})
        if manner.postcopy:
            await self.old.execute("migrate-start-postcopy")

    async def go_on(self) -> None:
        """Let it switch over, where it waits for that."""
        await self.wait(self.old, {MigrationPhase.SWITCHOVER}, _SWITCHOVER_TIMEOUT_S)
        await self.old.execute("migrate-continue", {"state": "pre-switchover"})

    def phase(self, qemu: Qemu) -> MigrationPhase:
        """Return what the side's last event says."""
        phases = [phase for event in qemu.events[self._after[qemu] :] if (phase := _phase(event))]
        return phases[-1] if phases else MigrationPhase.NONE

    async def wait(self, qemu: Qemu, wanted: Collection[MigrationPhase], timeout_s: float) -> None:
        """Return once the side was in one of the phases `wanted`; raise LabError for another end."""
        event = await qemu.wait_event(
            lambda event: _told(event) in _FINAL.union(wanted),
            after=self._after[qemu],
            timeout_s=timeout_s,
            what=f"a migration that is {' or '.join(wanted)}",
        )
        phase = _told(event)
        if phase is not None and phase not in wanted:
            info = await qemu.execute("query-migrate")
            why = info.get("error-desc", "no reason given")
            raise LabError(f"the migration {phase.value} on {qemu.name}: {why}")

    async def cancel(self, timeout_s: float) -> None:
        """Cancel it, and return once the source says so."""
        await self.old.execute("migrate_cancel")
        await self.wait(self.old, {MigrationPhase.CANCELLED}, timeout_s)

    async def recover(self) -> None:
        """Take up an interrupted post-copy again over a new connection."""
        for qemu in (self.old, self.new):
            await self.wait(qemu, {MigrationPhase.INTERRUPTED}, _RECOVER_TIMEOUT_S)
        self._port += 1  # the destination may still listen on the old one
        # Out of band: the destination's main loop may itself wait for a page.
        await self.new.execute("migrate-recover", {"uri": self._uri}, out_of_band=True)
        await self.old.execute("migrate", {"uri": self._uri, "resume": True})

    @property
    def _uri(self) -> str:
        return f"tcp:{self._address}:{self._port}"

    async def progress(self) -> Progress:
        """Ask the source how far it is."""
        memory = (await self.old.execute("query-migrate")).get("ram", {})
        total = int(memory.get("total", 0))
        return Progress(
            phase=self.phase(self.old),
            copied=1 - int(memory["remaining"]) / total if total else 0.0,
            page_requests=int(memory.get("postcopy-requests", 0)),
        )

    async def statistics(self) -> dict[str, Any]:
        """Return query-migrate's answer once it is final, which is a moment after the event."""
        deadline = time.monotonic() + _STATISTICS_TIMEOUT_S
        while True:
            info: dict[str, Any] = await self.old.execute("query-migrate")
            if info.get("total-time") or time.monotonic() > deadline:
                return info
            await asyncio.sleep(_POLL_S)


def _phase(event: QmpEvent) -> MigrationPhase | None:
    return _PHASES.get(event.data["status"]) if event.name == "MIGRATION" else None


def _told(event: QmpEvent) -> MigrationPhase | None:
    """Where the event says that the migration is; an event of the guest says that it stops."""
    return MigrationPhase.STOPPED if event.name == "STOP" else _phase(event)


async def _configure(qemu: Qemu, manner: Manner, *, pause: bool) -> None:
    capabilities = {"events": True, "postcopy-ram": manner.postcopy, "pause-before-switchover": pause}
    states = [{"capability": name, "state": on} for name, on in capabilities.items()]
    await qemu.execute("migrate-set-capabilities", {"capabilities": states})
    parameters = {
        "max-bandwidth": manner.max_bandwidth,
        "downtime-limit": manner.downtime_limit_ms,
        "max-postcopy-bandwidth": manner.postcopy_bandwidth,
    }
    await qemu.execute("migrate-set-parameters", parameters)
