"""What a step of a script needs of a lab that not every one can do."""

from __future__ import annotations

from collections.abc import Iterator

from jepsen_blk.lab.abilities import Ability
from nemesis.steps.machine import Freeze
from nemesis.steps.migration import AwaitMigration, BeginMigration, Migrate
from nemesis.steps.script import Step


def abilities_of(step: Step) -> Iterator[Ability]:
    """Yield them; a step that lets a moved guest run again is only known when it is played."""
    if isinstance(step, Freeze):
        yield Ability.FREEZE
    if isinstance(step, (Migrate, BeginMigration)) and step.mode == "postcopy":
        yield Ability.POSTCOPY
    if isinstance(step, AwaitMigration) and step.phase == "postcopy":
        yield Ability.POSTCOPY
