"""The catalogue: every fault by the name that a specification calls it, built in or of another package."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from jepsen_blk.errors import SpecError
from jepsen_blk.mistakes import mistakes
from jepsen_blk.plugins import Catalogue, UnknownName
from jepsen_blk.spec import StorageSpec
from nemesis.choreography import Choreography
from nemesis.clock_jump import ClockJump
from nemesis.disk_full import DiskFull
from nemesis.failover import Failover
from nemesis.fault import Fault
from nemesis.flapping import Flapping
from nemesis.freeze import Freeze
from nemesis.held_bytes import HeldBytes
from nemesis.hold import Hold
from nemesis.io_error import IoError
from nemesis.latency import LatePackets
from nemesis.loss import PacketLoss
from nemesis.lost_path_migration import LostPathMigration
from nemesis.migrate import Migrate
from nemesis.migrate_cancel import MigrateCancel
from nemesis.migrate_pause import MigratePause
from nemesis.one_way import OneWay
from nemesis.orphan import Orphan
from nemesis.path_loss import PathLoss
from nemesis.pause import Pause
from nemesis.postcopy_loss import PostcopyLoss
from nemesis.power_loss import PowerLoss
from nemesis.reset import Reset
from nemesis.slow_flush import SlowFlush
from nemesis.slow_link import SlowLink
from nemesis.slow_storage import SlowStorage
from nemesis.split_brain import SplitBrain
from nemesis.storage_fault import NeedsStorage
from nemesis.storage_restart import StorageRestart

FAULTS: dict[str, type[Any]] = {
    fault.name: fault
    for fault in (
        *(Choreography, ClockJump, Failover, Freeze, HeldBytes, Hold, LostPathMigration, Orphan, Pause),
        *(Migrate, MigrateCancel, MigratePause, PostcopyLoss, SplitBrain),
        *(Flapping, LatePackets, OneWay, PacketLoss, PathLoss, Reset, SlowLink),
        *(DiskFull, IoError, PowerLoss, SlowFlush, SlowStorage, StorageRestart),
    )
}
"""The faults that are built in."""


_STEPS = ("setup", "inject", "prove", "dwell", "heal", "prove_healed")


def why_no_fault(name: str, item: Any) -> str:
    """Say why a class cannot be the fault of that name; nothing if it can."""
    if not (isinstance(item, type) and dataclasses.is_dataclass(item)):
        return "it is no dataclass: a fault is one, and its fields are its options"
    if getattr(item, "name", None) != name:
        return f"its `name` is {getattr(item, 'name', None)!r}, and its entry point is {name!r}"
    missing = [step for step in _STEPS if not _is_step(item, step)]
    if missing or inspect.isabstract(item):
        left = ", ".join(missing or sorted(item.__abstractmethods__))
        return f"it does not implement {left}: each is `async def STEP(self, stage)`, see nemesis.fault.Fault"
    if getattr(item, "__pydantic_config__", {}).get("extra") != "forbid":
        return 'it takes unknown options: give it `__pydantic_config__ = ConfigDict(extra="forbid")`'
    try:
        TypeAdapter(item).json_schema()
    except (PydanticUserError, NameError, TypeError) as error:
        return f"its options cannot be validated: {' '.join(str(error).split())}"
    return ""


def _is_step(item: type[Any], step: str) -> bool:
    """Tell whether a class has a step of its own: one of the Protocol itself would do nothing."""
    method = getattr(item, step, None)
    if not inspect.iscoroutinefunction(method) or method is getattr(Fault, step):
        return False
    try:
        inspect.signature(method).bind("self", "stage")
    except TypeError:
        return False
    return True


CATALOGUE = Catalogue("fault", "jepsen_blk.nemeses", FAULTS, why_no_fault)


def fault_class(name: str) -> type[Any]:
    """Return the class of a fault; raises SpecError naming the choices, PluginError for a broken package."""
    try:
        found: type[Any] = CATALOGUE.get(name)
    except UnknownName as error:
        raise SpecError(f"nemesis: {error}") from error
    return found


def default_options(name: str) -> dict[str, Any]:
    """Return the defaults of the options that need not be given; raises as fault_class does."""
    given = {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(fault_class(name))
        if field.init
    }
    return {option: value for option, value in given.items() if value is not dataclasses.MISSING}


def make_fault(name: str, options: dict[str, Any]) -> Fault:
    """Make a fault with its options; raises SpecError naming the choices or every mistaken option.

    Raises PluginError for a broken package.
    """
    found = fault_class(name)
    try:
        fault: Fault = _adapter(found).validate_python(options)
    except ValidationError as error:
        raise SpecError(f"nemesis {name}: {mistakes(error)}") from error
    return fault


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
"""Each made once, which takes its time: a plan may have many thousand faults."""


def _adapter(fault: type[Any]) -> TypeAdapter[Any]:
    if fault not in _ADAPTERS:
        _ADAPTERS[fault] = TypeAdapter(fault)
    return _ADAPTERS[fault]


def check_storage(fault: Fault, storage: StorageSpec) -> None:
    """Raise SpecError if the storage does not offer the fault."""
    if isinstance(fault, NeedsStorage):
        fault.check_storage(storage)
