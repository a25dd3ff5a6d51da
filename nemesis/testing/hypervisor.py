"""The hypervisors of the scripted lab: one guest, which is started, moved, stopped and killed as told."""

from __future__ import annotations

from dataclasses import dataclass

from jepsen_blk.errors import LabError
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.seams import GuestState, Migration, MigrationPhase, Progress
from nemesis.testing.situation import Situation, now_s, until

_COPY_S = 1.0
_FOREVER_COPIED = 0.9
_SWITCHOVER_TIMEOUT_S = 30.0


@dataclass(slots=True)
class _Moving:
    """The last migration that was begun."""

    source: str
    destination: str
    mode: str
    pause: bool
    begin_s: float
    phase: MigrationPhase = MigrationPhase.COPYING

    @property
    def copied(self) -> float:
        """The part of the guest's memory that is copied by now."""
        return min((now_s() - self.begin_s) / _COPY_S, _FOREVER_COPIED if self.mode == "unending" else 1.0)


class ScriptedHypervisor:
    """Implements lab.seams.Hypervisor, but for post-copy, of which it raises LabError."""

    def __init__(self, situation: Situation) -> None:
        self._now = situation
        self._moving: _Moving | None = None
        self._last_words = dict.fromkeys(situation.guest, "")

    def end(self, node: str, last_words: str) -> None:
        """Have the guest end by itself, as in a panic."""
        self._become(node, GuestState.ABSENT)
        self._last_words[node] = last_words

    async def start(self, node: str) -> None:
        """Start the guest on the node; one on another node runs on."""
        self._become(node, GuestState.RUNNING)

    async def state(self, node: str) -> GuestState:
        """Return the state of the node's guest; a frozen node's is told by nobody."""
        self._now.settle()
        state = self._now.guest[node]
        return GuestState.FROZEN if node in self._now.frozen and state is not GuestState.ABSENT else state

    async def begin_migration(
        self, source: str, destination: str, mode: str = "precopy", *, pause: bool = False
    ) -> None:
        """Begin to copy the guest's memory, which takes a second; mode "unending" is never done."""
        self._now.settle()
        if mode == "postcopy":
            raise LabError("the scripted lab has no post-copy; try it on a real one")
        if self._now.guest[source] not in (GuestState.RUNNING, GuestState.PAUSED, GuestState.IO_ERROR):
            raise LabError(f"the guest on {source} is {self._now.guest[source].value} and cannot be moved")
        self._now.guest[destination] = GuestState.INCOMING
        self._moving = _Moving(source, destination, mode, pause, now_s())

    async def continue_migration(self, source: str) -> None:
        """Let the migration switch over."""
        self._of(source).pause = False

    async def finish_migration(self, source: str) -> Migration:
        """Copy the rest and switch over; the destination holds the guest, stopped."""
        moving = self._of(source)
        await until(
            lambda: self._copied_or_ended(moving), _SWITCHOVER_TIMEOUT_S, "the migration does not switch over"
        )
        if moving.phase is not MigrationPhase.SWITCHOVER:
            raise LabError(f"the migration {moving.phase.value} on {source}")
        self._now.settle()
        moving.phase = MigrationPhase.COMPLETED
        if self._now.guest[source] is GuestState.IO_ERROR:
            self._now.reissues[moving.destination] += 1
        self._now.guest[moving.destination] = GuestState.PAUSED
        self._become(source, GuestState.MIGRATED)
        begin_ns, end_ns = int(moving.begin_s * 1e9), int(now_s() * 1e9)
        took_ms = (end_ns - begin_ns) / 1e6
        return Migration(
            source, moving.destination, moving.mode, begin_ns, end_ns, end_ns, took_ms, 0.0, 256 << 20
        )

    async def cancel_migration(self, source: str) -> None:
        """Cancel it; the destination hears of it where its link is whole."""
        moving = self._of(source)
        moving.phase = MigrationPhase.CANCELLED
        if (source, Path_.MIGRATION) not in self._now.cut:
            self._become(moving.destination, GuestState.ABSENT)

    async def recover_migration(self, source: str) -> None:
        """Raise LabError: there is no post-copy here that could be interrupted."""
        raise LabError("the scripted lab has no post-copy; try it on a real one")

    async def wait_migration(self, node: str, phase: MigrationPhase, timeout_s: float) -> None:
        """Return once the migration is in that phase."""
        moving = self._of(node)
        await until(lambda: moving.phase is phase, timeout_s, f"the migration is not {phase.value}")

    async def progress(self, source: str) -> Progress:
        """Return how far the last migration is."""
        moving = self._of(source)
        return Progress(moving.phase, moving.copied, 0)

    async def pause(self, node: str) -> None:
        """Stop the guest."""
        if self._now.guest[node] is GuestState.RUNNING:
            self._become(node, GuestState.PAUSED)

    async def resume(self, node: str) -> None:
        """Let a stopped guest run: it sends again what had failed, which fails again where the disk does."""
        self._now.settle()
        state = self._now.guest[node]
        if state not in (GuestState.PAUSED, GuestState.IO_ERROR, GuestState.RUNNING):
            raise LabError(f"the guest on {node} is {state.value} and cannot be let run")
        if state is GuestState.IO_ERROR:
            self._now.reissues[node] += 1
        self._become(node, GuestState.RUNNING)

    def stops_at(self, error: str) -> bool:
        """Every disk error stops the guest."""
        return True

    def reconnects_s(self) -> float:
        """A lost connection fails what is in flight at once."""
        return 0.0

    def requeues(self) -> bool:
        """A migration waits for what is in flight."""
        return False

    async def wait_state(self, node: str, state: GuestState, timeout_s: float) -> None:
        """Return once the node's guest is in that state."""

        def reached() -> bool:
            self._now.settle()
            return self._now.guest[node] is state

        await until(reached, timeout_s, f"the guest on {node} is not {state.value}")

    async def wait_disk(self, node: str, timeout_s: float) -> None:
        """Return once the storage answers the node."""
        await until(lambda: self._now.has_disk(node), timeout_s, f"{node} does not reach its disk")

    async def kill(self, node: str) -> None:
        """End the node's guest, and a migration of it."""
        self._become(node, GuestState.ABSENT)
        moving = self._moving
        if moving is not None and moving.phase is MigrationPhase.COPYING:
            moving.phase = MigrationPhase.FAILED

    async def last_words(self, node: str) -> str:
        """Return what `end` was told."""
        return self._last_words[node]

    async def disconnect(self, node: str) -> None:
        """Drop the node's connections, which fails what its guest had sent."""
        self._now.settle()
        self._now.fail(node)

    def _become(self, node: str, state: GuestState) -> None:
        self._now.settle()
        self._now.guest[node] = state
        self._now.disk_changed()

    def _of(self, node: str) -> _Moving:
        moving = self._moving
        if moving is None or node not in (moving.source, moving.destination):
            raise LabError(f"there was no migration of the guest on {node}")
        return moving

    def _copied_or_ended(self, moving: _Moving) -> bool:
        if moving.phase is MigrationPhase.COPYING:
            if (moving.source, Path_.MIGRATION) in self._now.cut:
                moving.phase = MigrationPhase.FAILED
            elif moving.copied >= 1:
                moving.phase = MigrationPhase.SWITCHOVER
        return moving.phase is not MigrationPhase.COPYING and not (
            moving.pause and moving.phase is MigrationPhase.SWITCHOVER
        )
