"""From a matrix to its cells, and from a cell to the specification of its runs.

A cell that makes no sense, a policy that fences on a storage that cannot or blkfront on real QEMU, is no
mistake of whoever wrote the matrix: it is left out, and listed with the reason.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import product
from typing import Any

from jepsen_blk.campaign.matrix import CONFLICTS, POLICY_TARGET, RECONNECT, Matrix
from jepsen_blk.campaign.rows import Cell
from jepsen_blk.controller import refuse_unoffered
from jepsen_blk.errors import SpecError, UserError
from jepsen_blk.lab.choose import prepare_lab, run_in_time_of
from jepsen_blk.spec import Spec, lay_over, make_spec
from nemesis.schedule import check_faults, make_plan

_RECONNECT_S = 30
"""Longer than a fault of the catalogue takes, so that QEMU never gives up."""
_NO_PART = ("seed", "name", "about")
"""What of a specification does not change what a run is."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A cell, the specification of its run with seed 0, and the digest of all but the seed."""

    cell: Cell
    spec: Spec
    digest: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A cell that is left out, and why."""

    cell: Cell
    why: str


def plan_cells(matrix: Matrix) -> tuple[list[Planned], list[Skipped]]:
    """Return the cells that can be run, in the order of the file's words, and those that cannot.

    Raises SpecError where no cell can.
    """
    planned: list[Planned] = []
    skipped: list[Skipped] = []
    for words in product(matrix.lab, matrix.frontend, matrix.storage, matrix.policy, matrix.nemesis):
        cell = Cell(*words)
        try:
            spec = _spec(matrix, cell)
        except UserError as error:
            skipped.append(Skipped(cell, str(error).removeprefix(f"{cell}: ")))
        else:
            planned.append(Planned(cell, spec, digest(spec)))
    if not planned:
        whys = list(dict.fromkeys(item.why for item in skipped))
        raise SpecError(f"{matrix.name}: no cell of the matrix can be run: {'; '.join(whys)}")
    return planned, skipped


def digest(spec: Spec) -> str:
    """Return a short name of a specification, the same for every seed."""
    told = spec.model_dump(mode="json")
    for key in _NO_PART:
        del told[key]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def _spec(matrix: Matrix, cell: Cell) -> Spec:
    """Return the specification of a cell; raises UserError for one that makes no sense."""
    nemesis = matrix.nemeses[cell.nemesis].model_dump(mode="json", exclude_none=True, exclude_unset=True)
    over: dict[str, Any] = {
        "name": matrix.name,
        "lab": cell.lab,
        "guest": _guest(matrix, cell.frontend),
        "storage": _storage(cell.storage),
        "handoff": {"policy": cell.policy},
        **nemesis,
    }
    spec = make_spec(lay_over(matrix.base, over), str(cell))
    check_faults(spec)
    if spec.lab == "sim":  # the others are asked when they are there, which takes its time
        run_in_time_of(spec, _ask_lab(spec))
    return spec


def _guest(matrix: Matrix, frontend: str) -> dict[str, Any]:
    if frontend == RECONNECT:
        base = matrix.base.get("guest", {})
        return {"frontend": "qemu", "reconnect_delay_s": base.get("reconnect_delay_s", _RECONNECT_S)}
    return {"frontend": frontend, "reconnect_delay_s": 0}


def _storage(word: str) -> dict[str, Any]:
    return {"kind": POLICY_TARGET, "conflict": word} if word in CONFLICTS else {"kind": word}


async def _ask_lab(spec: Spec) -> None:
    """Raise UserError for what the lab cannot do."""
    await refuse_unoffered(make_plan(spec), await prepare_lab(spec))
