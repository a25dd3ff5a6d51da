"""The matrix file of a comparison: TOML in, a validated model out; all mistakes at once, each with its place.

name = "mine"
seeds = 20
lab = ["sim"]
frontend = ["qemu", "blkfront"]
storage = ["ignore-second", "nbdkit-memory"]
policy = ["requeue", "preempt-abort"]
nemesis = ["lost-path-migration", "twice"]

[base.workload]                                   # a specification that lies under every cell
queue_depth = 4

[nemeses]
twice.nemesis = [{ fault = "migrate", repeat = 2 }]   # or twice.schedule, as in a specification
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, get_args

import tomli_w
from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from jepsen_blk.errors import SpecError, UserError
from jepsen_blk.mistakes import mistakes, unknown_name
from jepsen_blk.schedule_spec import Schedule, faults_of
from jepsen_blk.spec import HandoffPolicy, NemesisSpec, Spec, StorageSpec
from jepsen_blk.storage.conflict import ConflictModel
from jepsen_blk.table import Table
from nemesis.catalogue import CATALOGUE, fault_class, make_fault

_HERE = Path(__file__).parent / "matrices"
BUILT_IN_MATRICES = ("truth-table", "lab-table", "stock-table")
POLICY_TARGET = "policy"
RECONNECT = "qemu-reconnect"
FRONTENDS = ("qemu", RECONNECT, "blkfront")
"""qemu-reconnect is QEMU that tries again itself, by guest.reconnect_delay_s."""
CONFLICTS = tuple(model.value for model in ConflictModel)
POLICIES = tuple(policy.value for policy in HandoffPolicy)
LABS: tuple[str, ...] = get_args(Spec.model_fields["lab"].annotation)
STORAGES = (
    *CONFLICTS,
    *(kind for kind in get_args(StorageSpec.model_fields["kind"].annotation) if kind != POLICY_TARGET),
)
"""The policy target by its conflict models, then the stock targets."""
NEMESES: dict[str, dict[str, Any]] = {
    "lost-path-migration-healed": {
        "nemesis": [{"fault": "lost-path-migration", "options": {"heal_before_migration": True}}]
    },
    "failover-kill": {"nemesis": [{"fault": "failover", "options": {"by": "kill"}}]},
    "failover-stop": {"nemesis": [{"fault": "failover", "options": {"by": "stop"}}]},
    "failover-cut": {"nemesis": [{"fault": "failover", "options": {"by": "cut"}}]},
}
"""Schedules that need not be written down; the name of a fault is one too: that fault with its defaults."""
_CHOICES = {"lab": LABS, "frontend": FRONTENDS, "storage": STORAGES, "policy": POLICIES}
_OWN = "own"
"""In the context of a validation: the names that the file has schedules for, whole or with mistakes."""
_OF_AXES = {
    "lab": "lab",
    "guest.frontend": "frontend",
    "storage.kind": "storage",
    "storage.conflict": "storage",
    "handoff.policy": "policy",
    "nemesis": "nemesis",
    "schedule": "nemesis",
    "seed": "seeds",
}
"""What an axis says, and a specification under all cells may not."""


def _distinct(words: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({word for word in words if words.count(word) > 1})
    if twice:
        raise ValueError(f"given twice: {', '.join(twice)}")
    return words


_Words = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]


class Schedules(Table):
    """What goes wrong, under one name: a list of faults, or a schedule, as a specification has them."""

    nemesis: tuple[NemesisSpec, ...] = ()
    schedule: Schedule | None = None

    @model_validator(mode="after")
    def _is_one_of_faults(self) -> Schedules:
        if bool(self.nemesis) == (self.schedule is not None):
            raise ValueError("give it either nemesis = [...] or schedule = {...}")
        try:
            for step in self.nemesis:
                make_fault(step.fault, step.options)
            for item in faults_of(self.schedule) if self.schedule else ():
                fault_class(item.fault)  # its options may be drawn: each cell tries their ends
        except UserError as error:
            raise ValueError(str(error)) from error
        return self


class Stopping(Table):
    """When a cell has had runs enough."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 3
    """So many failed runs make it unsafe."""
    unknowns: Annotated[int, Field(ge=1, le=1000)] = 5
    """So many runs of which none could be judged, and it is given up."""
    early: bool = True
    """False: every cell has all its runs, whatever they find."""


class Matrix(Table):
    """A whole comparison: every combination of the words of its axes is a cell, and has `seeds` runs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = "comparison"
    about: Annotated[str, Field(max_length=300)] = ""
    seeds: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """Runs a cell; one that is undecided then has up to as many again, of those that others did not need."""
    runs: Annotated[int, Field(ge=1)] | None = None
    """Runs in all, which is `seeds` a cell where it is not given."""
    run_limit_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """A run that takes longer by the wall clock is given up."""
    stop: Stopping = Stopping()
    lab: _Words = ("local",)
    frontend: _Words = ("qemu",)
    storage: _Words = CONFLICTS
    policy: _Words = POLICIES
    nemeses: dict[str, Schedules] = Field(default_factory=dict)
    nemesis: _Words = ("lost-path-migration",)
    base: dict[str, Any] = Field(default_factory=dict)
    """A specification, or a part of one, that lies under every cell."""

    @model_validator(mode="before")
    @classmethod
    def _write_out_nemeses(cls, data: Any) -> Any:
        """Add the schedules of the names that need none, so that the model has every one in full."""
        if not isinstance(data, dict):
            return data
        words, own = data.get("nemesis", cls.model_fields["nemesis"].default), data.get("nemeses", {})
        if not (isinstance(words, list | tuple) and isinstance(own, dict)):
            return data
        known = {word: _built_in(word) for word in words if isinstance(word, str) and word not in own}
        return data | {"nemeses": own | {word: found for word, found in known.items() if found}}

    @field_validator("lab", "frontend", "storage", "policy", "nemesis", mode="after")
    @classmethod
    def _words_are_known(cls, words: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        axis = str(info.field_name)
        own = (info.context or {}).get(_OWN, ())
        choices = (*own, *NEMESES, *CATALOGUE.names()) if axis == "nemesis" else _CHOICES[axis]
        wrong = [word for word in words if word not in choices]
        if axis == "lab" and "ssh" in wrong:
            raise ValueError(f"hosts over SSH cannot run tests yet; there are {', '.join(choices)}")
        if wrong:
            raise ValueError("; ".join(unknown_name(axis, word, dict.fromkeys(choices)) for word in wrong))
        return words

    @field_validator("base", mode="after")
    @classmethod
    def _base_is_a_specification(cls, base: dict[str, Any]) -> dict[str, Any]:
        for key, axis in _OF_AXES.items():
            if _has(base, key):
                raise ValueError(f"{key}: the matrix says it: use its own {axis}")
        Spec.model_validate(base)
        return base


def load_matrix(path: Path, changes: dict[str, Any] | None = None) -> Matrix:
    """Read a matrix from a TOML file, with `changes` instead of its own keys; SpecError has every mistake."""
    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except OSError as error:
        raise SpecError(f"{path}: cannot read the matrix: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not valid TOML: {error}") from error
    return make_matrix(data | (changes or {}), str(path))


def make_matrix(data: dict[str, Any], origin: str = "matrix") -> Matrix:
    """Validate `data`; SpecError names `origin` and every mistake."""
    try:
        own = data.get("nemeses")
        return Matrix.model_validate(data, context={_OWN: tuple(own) if isinstance(own, dict) else ()})
    except ValidationError as error:
        raise SpecError(f"{origin}: {mistakes(error)}") from error


def built_in_matrix(name: str) -> Path:
    """Return the file of a matrix that comes with the tester; UserError has the choices."""
    if name not in BUILT_IN_MATRICES:
        raise UserError(unknown_name("matrix", name, BUILT_IN_MATRICES))
    return _HERE / f"{name}.toml"


def dump_matrix(matrix: Matrix) -> str:
    """Write the complete matrix as TOML, defaults and all schedules included."""
    return tomli_w.dumps(matrix.model_dump(mode="json", exclude_none=True))


def _built_in(word: str) -> dict[str, Any] | None:
    """Return the schedule behind a name that the file does not explain, if there is one."""
    alone = {"nemesis": [{"fault": word}]}
    return NEMESES.get(word) or (alone if word in CATALOGUE.names() else None)


def _has(table: dict[str, Any], key: str) -> bool:
    *tables, name = key.split(".")
    for part in tables:
        inner = table.get(part)
        if not isinstance(inner, dict):
            return False
        table = inner
    return name in table
