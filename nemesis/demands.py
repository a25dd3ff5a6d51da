"""What a fault needs of a lab that not every lab can do, so that it is refused before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from jepsen_blk.lab.abilities import Ability
from jepsen_blk.lab.paths import Impairment
from nemesis.fault import Fault


@runtime_checkable
class Impairing(Protocol):
    """A fault that impairs paths: the nodes' kernels have to have what it does that with."""

    def impairment(self) -> Impairment:
        """Say what the lab has to be able to do."""


@runtime_checkable
class Demanding(Protocol):
    """A fault that needs something else."""

    def abilities(self) -> frozenset[Ability]:
        """Say what the lab has to be able to do."""


def demands_of(faults: Iterable[Fault]) -> dict[Impairment | Ability, str]:
    """Return all that the lab has to be able to do, each with the name of the first fault that needs it."""
    demands: dict[Impairment | Ability, str] = {}
    for fault in faults:
        if isinstance(fault, Impairing):
            demands.setdefault(fault.impairment(), fault.name)
        for ability in sorted(fault.abilities()) if isinstance(fault, Demanding) else ():
            demands.setdefault(ability, fault.name)
    return demands
