"""The hypervisors of the nodes, and the one guest that they share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class GuestState(StrEnum):
    """What a node's hypervisor says of the guest."""

    ABSENT = "absent"
    INCOMING = "incoming"
    RUNNING = "running"
    PAUSED = "paused"
    IO_ERROR = "io-error"
    MIGRATED = "migrated"
    FROZEN = "frozen"
    SWITCHING = "stopped for its switch-over"
    """By a migration, which alone can let it run on."""


@dataclass(frozen=True, slots=True)
class Migration:
    """How a migration went; times are ns of the controller's monotonic clock."""

    source: str
    destination: str
    mode: str
    begin_ns: int
    stopped_ns: int
    end_ns: int
    total_ms: float
    downtime_ms: float
    transferred_bytes: int


class MigrationPhase(StrEnum):
    """Where one side of a migration is."""

    NONE = "not begun"
    COPYING = "copying"
    STOPPED = "stopping the guest"
    """Its processors have stopped; what it has in flight may be waited for. It is waited for, never told."""
    SWITCHOVER = "at the switch-over"
    POSTCOPY = "in post-copy"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a migration is: `copied` is a part of the guest's memory; pages are requested in post-copy."""

    phase: MigrationPhase
    copied: float
    page_requests: int


class Hypervisor(Protocol):
    """Starts, moves, pauses and kills the guest."""

    async def start(self, node: str) -> None:
        """Start the guest on `node` from its beginning, another boot, and let it run; it waits for work.

        What runs there of an earlier one is killed. The guest may still run on another node.
        """

    async def state(self, node: str) -> GuestState:
        """Ask the node for the guest's state."""

    async def begin_migration(
        self, source: str, destination: str, mode: str = "precopy", *, pause: bool = False
    ) -> None:
        """Begin to move the guest; with `pause`, wait before the switch-over for `continue_migration`.

        Mode "unending" goes on until it is broken off: it takes longer than the guest lets it.
        """

    async def continue_migration(self, source: str) -> None:
        """Let a migration that waits at MigrationPhase.SWITCHOVER switch over."""

    async def finish_migration(self, source: str) -> Migration:
        """Return once the destination holds the guest (running, or stopped as it was).

        With mode "postcopy" the destination may still lack pages then: `wait_migration` tells their end.
        """

    async def cancel_migration(self, source: str) -> None:
        """Cancel the migration, and return once the source says so."""

    async def recover_migration(self, source: str) -> None:
        """Take up an interrupted post-copy migration again."""

    async def wait_migration(self, node: str, phase: MigrationPhase, timeout_s: float) -> None:
        """Return once the last migration is in `phase` as `node` sees it; raise LabError for another end."""

    async def progress(self, source: str) -> Progress:
        """Ask the source how far its last migration is."""

    async def pause(self, node: str) -> None:
        """Stop the guest's processors."""

    async def resume(self, node: str) -> None:
        """Let the guest run, and return once it does; failed requests are re-issued by the frontend."""

    def stops_at(self, error: str) -> bool:
        """Tell whether a disk error of that name (EIO, ENOSPC) stops the guest, or is told to it."""

    def reconnects_s(self) -> float:
        """Tell for how long a lost connection to the storage is tried again, to send there what had no
        answer, before that fails; 0 where it fails at once."""

    def requeues(self) -> bool:
        """Tell whether a guest moves with its requests in flight, which are sent again where it goes on.

        Else a migration waits for them, and only those that had failed are sent again.
        """

    async def wait_state(self, node: str, state: GuestState, timeout_s: float) -> None:
        """Return once the guest on `node` is in `state`; raise LabError where there is none that could be."""

    async def wait_disk(self, node: str, timeout_s: float) -> None:
        """Return once the node's hypervisor reads the guest's disk again, as after a healed path."""

    async def kill(self, node: str) -> None:
        """Kill the hypervisor process of the node at once."""

    async def last_words(self, node: str) -> str:
        """Return one line that the guest's console says of its end, or nothing."""

    async def disconnect(self, node: str) -> None:
        """Cancel at the initiator: drop the node's storage connections from its own side."""
