"""What may come while another fault stands, so that neither undoes the other or proves itself by it.

A fault that can stand says what it rests on, and any fault what it upsets. They go together if they share
nothing. Which node it concerns does not count: the guest, by which nodes are chosen, may move meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol, runtime_checkable

from jepsen_blk.cue_spec import Cue, MigrationCue
from jepsen_blk.errors import SpecError
from jepsen_blk.lab.paths import Path_
from nemesis.fault import Fault


class Ground(StrEnum):
    """What a fault rests on while it stands."""

    STORAGE_PATH = Path_.STORAGE.value
    MIGRATION_PATH = Path_.MIGRATION.value
    SERVER = "server"
    """The storage's server, which knows of the fault."""
    PLACE = "place"
    """The guest stays where it is: it could not move, or not work where it has moved to."""
    MEMORY = "memory"
    """The guest is not started again: it would know nothing of the fault."""


_WHY = {
    Ground.STORAGE_PATH: "both need the storage path to themselves",
    Ground.MIGRATION_PATH: "both need the migration path to themselves",
    Ground.SERVER: "it ends the storage's server, which would forget {}",
    Ground.PLACE: "it moves the guest, which cannot be while {} stands",
    Ground.MEMORY: "it starts the guest again, which would know nothing of {}",
}


@runtime_checkable
class Standing(Protocol):
    """A fault that others may come during: the guest works on under it, and its dwelling is to wait."""

    def rests_on(self) -> frozenset[Ground]:
        """Say what must not be upset while it stands; raise SpecError if so it leaves no guest at work."""


@runtime_checkable
class Upsetting(Protocol):
    """A fault that may come during others."""

    def upsets(self) -> frozenset[Ground]:
        """Say what it acts on or probes alone, ends or moves, from its setup to the proof of its healing."""


@runtime_checkable
class Migrating(Protocol):
    """A fault that others may come during while the guest migrates."""

    def phases(self) -> frozenset[str]:
        """Say which phases the migration comes to while it stands."""


@runtime_checkable
class Unattended(Protocol):
    """A fault that may come while a migration has stopped the guest, or is about to."""

    def needs_guest(self) -> bool:
        """Tell whether a guest at work is needed to prove it or its healing, with these options."""


def check_cue(name: str, cue: Cue | None, around: Iterable[Fault]) -> None:
    """Raise SpecError if the cue of the fault of that name cannot come while those around it stand."""
    if isinstance(cue, MigrationCue) and not any(
        isinstance(outer, Migrating) and cue.phase in outer.phases() for outer in around
    ):
        raise SpecError(
            f"nemesis {name}: its cue can never come: no migration that it comes during is ever "
            f"{cue.phase}; let it be an item of a during whose fault is migrate-pause"
        )


def check_stands(outer: Fault) -> None:
    """Raise SpecError unless others may come during `outer`."""
    if not isinstance(outer, Standing):
        raise SpecError(
            f"nemesis {outer.name}: nothing can come during it, since it leaves no guest at work, or does "
            "not stand; let it be an item of a fault that does"
        )
    outer.rests_on()


def check_during(outer: Fault, inner: Fault) -> None:
    """Raise SpecError unless `inner` may come while `outer` stands."""
    check_stands(outer)
    if not isinstance(inner, Upsetting):
        raise SpecError(
            f"nemesis {inner.name}: it does not say what it upsets, so it cannot come during another fault"
        )
    if isinstance(outer, Migrating) and not (isinstance(inner, Unattended) and not inner.needs_guest()):
        raise SpecError(
            f"nemesis {inner.name}: it cannot come during {outer.name}: it needs a guest at work, which that "
            "stops; play it before or after"
        )
    rests_on = outer.rests_on() if isinstance(outer, Standing) else frozenset()
    upset = [ground for ground in Ground if ground in rests_on & inner.upsets()]
    if upset:
        why = ", and ".join(_WHY[ground].format(outer.name) for ground in upset)
        raise SpecError(
            f"nemesis {inner.name}: it cannot come during {outer.name}: {why}; play one after the other"
        )
