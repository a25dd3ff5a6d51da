"""Steps of a live migration: it begins, is waited for by event, is let go on, and ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from jepsen_blk.errors import LabError
from nemesis.cues import PHASES, see_migration
from nemesis.steps.script import MIGRATION, Plain, Script, Timeout


@dataclass(frozen=True, slots=True)
class Migrate(Plain):
    """Migrate the guest to the other node under the test's handoff policy, to the end."""

    do: Literal["migrate"]
    mode: Literal["precopy", "postcopy"] = "precopy"

    async def play(self, script: Script) -> str:
        """Migrate it."""
        await script.stage.hand_over(self.mode)
        return f"the guest runs on {script.stage.guest_node}"


@dataclass(frozen=True, slots=True)
class BeginMigration(Plain):
    """Begin a migration and go on; with `pause` it waits before the switch-over for continue-migration."""

    do: Literal["begin-migration"]
    mode: Literal["precopy", "postcopy", "unending"] = "precopy"
    pause: bool = False

    async def play(self, script: Script) -> str:
        """Begin it."""
        stage, source = script.stage, script.stage.guest_node
        # Before it begins: a script that is cut off meanwhile has begun it all the same.
        script.undo[MIGRATION] = _end(script, paused=self.pause, unending=self.mode == "unending")
        try:
            await stage.begin_hand_over(self.mode, pause=self.pause)
        except LabError:
            del script.undo[MIGRATION]  # refused: there is nothing to end
            raise
        return f"a migration from {source} has begun"


@dataclass(frozen=True, slots=True)
class AwaitMigration(Plain):
    """Wait until the migration that was begun is so far, as its source sees it."""

    do: Literal["await-migration"]
    phase: Literal["stopped", "pre-switchover", "postcopy", "completed", "failed", "cancelled"]
    timeout_s: Timeout = 10.0

    async def play(self, script: Script) -> str:
        """Wait for it; a migration that ended without a switch-over needs no finish."""
        stage = script.stage
        saw = await see_migration(stage.lab, stage.guest_node, PHASES[self.phase], self.timeout_s)
        if self.phase in ("failed", "cancelled"):
            script.undo.pop(MIGRATION, None)
        return saw


@dataclass(frozen=True, slots=True)
class ContinueMigration(Plain):
    """Let a paused migration switch over."""

    do: Literal["continue-migration"]

    async def play(self, script: Script) -> str:
        """Let it; what remains to be undone is its finish."""
        stage = script.stage
        await stage.lab.hypervisor.continue_migration(stage.guest_node)
        if MIGRATION in script.undo:
            script.undo[MIGRATION] = _end(script)
        return "the migration goes on"


@dataclass(frozen=True, slots=True)
class FinishMigration(Plain):
    """Wait for the migration's end and let the guest run there, under the test's handoff policy."""

    do: Literal["finish-migration"]

    async def play(self, script: Script) -> str:
        """Finish it, also when the script is cut off meanwhile: so there is nothing to undo from here on."""
        script.undo.pop(MIGRATION, None)
        await script.stage.finish_hand_over()
        return f"the guest runs on {script.stage.guest_node}"


@dataclass(frozen=True, slots=True)
class CancelMigration(Plain):
    """Cancel the migration that was begun."""

    do: Literal["cancel-migration"]

    async def play(self, script: Script) -> str:
        """Cancel it."""
        stage = script.stage
        await stage.lab.hypervisor.cancel_migration(stage.guest_node)
        script.undo.pop(MIGRATION, None)
        return f"the migration is cancelled; the guest stays on {stage.guest_node}"


def _end(script: Script, *, paused: bool = False, unending: bool = False) -> Callable[[], Awaitable[None]]:
    """Return how to end the migration under way: take it to its end, or break it off if it has none."""
    stage, source = script.stage, script.stage.guest_node

    async def end() -> None:
        if unending:
            await stage.lab.hypervisor.cancel_migration(source)
            return
        if paused:
            await stage.lab.hypervisor.continue_migration(source)
        await stage.finish_hand_over()

    return end


MigrationStep = (
    Migrate | BeginMigration | AwaitMigration | ContinueMigration | FinishMigration | CancelMigration
)
