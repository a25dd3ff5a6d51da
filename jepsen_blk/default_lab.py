"""Which lab a test runs on: the one that its specification names, else real guests where they can be had.

Where they cannot, the test is simulated, and that is said with the reason: a simulation is no word about a
real stack. Too little memory is no such reason, since whoever has it may free some.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal, cast, get_args

from jepsen_blk.errors import UserError
from jepsen_blk.mistakes import unknown_name
from jepsen_blk.spec import Spec

Lab = Literal["local", "sim"]


def parse_lab(name: str | None) -> Lab | None:
    """Return the lab of that name, None for None; raises UserError with the choices."""
    for lab in get_args(Lab):
        if name == lab:
            return cast(Lab, lab)
    if name is not None:
        raise UserError(f"--lab: {unknown_name('lab', name, get_args(Lab))}")
    return None


def settle_lab(spec: Spec, say: Callable[[str], None]) -> Spec:
    """Return the specification with the lab that it runs on here; raises UserError as choose_lab does."""
    named = spec.lab if "lab" in spec.model_fields_set else None
    return spec.model_copy(update={"lab": choose_lab(named, spec.guest.memory_mb, say)})


def choose_lab(named: Lab | None, memory_mb: int, say: Callable[[str], None]) -> Lab:
    """Return `named`, or what can be had here; a lab that nobody named and that is no real one is said.

    Raises UserError for what this machine lacks for the lab that was named, and for too little memory for
    guests of `memory_mb`.
    """
    if named == "sim":
        return named
    why = _why_no_guests()
    if why and named:
        raise UserError(why)
    if why:
        say(f"lab sim, a simulation: there are no real guests here ({why})")
        return "sim"
    from jepsen_blk.doctor import require_memory

    require_memory(memory_mb)
    return "local"


def _why_no_guests() -> str:
    if sys.platform != "linux":
        return "the local lab needs Linux"
    from jepsen_blk.doctor import what_is_missing  # it knows the local lab, which is not for every system

    return what_is_missing()
