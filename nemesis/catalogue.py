"""The catalogue: every fault by the name that a specification calls it."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import TypeAdapter, ValidationError

from jepsen_blk.errors import SpecError
from jepsen_blk.spec import StorageSpec
from nemesis.disk_full import DiskFull
from nemesis.failover import Failover
from nemesis.fault import Fault
from nemesis.flapping import Flapping
from nemesis.freeze import Freeze
from nemesis.hold import Hold
from nemesis.io_error import IoError
from nemesis.latency import LatePackets
from nemesis.loss import PacketLoss
from nemesis.lost_path_migration import LostPathMigration
from nemesis.migrate import Migrate
from nemesis.migrate_cancel import MigrateCancel
from nemesis.one_way import OneWay
from nemesis.path_loss import PathLoss
from nemesis.pause import Pause
from nemesis.postcopy_loss import PostcopyLoss
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
        *(Failover, Freeze, Hold, LostPathMigration, Pause),
        *(Migrate, MigrateCancel, PostcopyLoss, SplitBrain),
        *(Flapping, LatePackets, OneWay, PacketLoss, PathLoss, Reset, SlowLink),
        *(DiskFull, IoError, SlowFlush, SlowStorage, StorageRestart),
    )
}


def make_fault(name: str, options: dict[str, Any]) -> Fault:
    """Make a fault with its options; raises SpecError naming the choices or every mistaken option."""
    if name not in FAULTS:
        close = difflib.get_close_matches(name, FAULTS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise SpecError(f"nemesis: no fault {name!r}; there are {', '.join(sorted(FAULTS))}{hint}")
    try:
        fault: Fault = TypeAdapter(FAULTS[name]).validate_python(options)
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise SpecError(f"nemesis {name}: {mistakes}") from error
    return fault


def check_storage(fault: Fault, storage: StorageSpec) -> None:
    """Raise SpecError if the storage does not offer the fault."""
    if isinstance(fault, NeedsStorage):
        fault.check_storage(storage)
