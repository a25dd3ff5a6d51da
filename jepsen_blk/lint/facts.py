"""The facts that rules look at, whatever file they were read from.

Small and neutral on purpose: a rule is written once, and says the same of a libvirt domain, an xl
configuration and a specification of ours. What a file says has its line; what it leaves out is None, and
the rule knows the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from jepsen_blk.spec import HandoffPolicy
from jepsen_blk.storage.conflict import ConflictModel

T = TypeVar("T")
NOWHERE = 0
"""The line of what a file does not say, and a default does."""


class Format(StrEnum):
    """What a file is written in."""

    SPEC = "spec"
    LIBVIRT = "libvirt"
    XL = "xl"
    DRBD = "drbd"


class Sharing(StrEnum):
    """Whether a second host can reach what a disk is stored on, as far as its name tells."""

    SHARED = "shared"
    UNKNOWN = "unknown"
    LOCAL = "local"


class Hypervisor(StrEnum):
    """What stands between the guest and its disks: it decides what becomes of a write at a migration."""

    QEMU = "qemu"
    XEN = "xen"


@dataclass(frozen=True, slots=True)
class Said(Generic[T]):
    """Something that a file says, and in which line (from 1, or NOWHERE)."""

    value: T
    line: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where a disk's data is: its name for people, and what the name tells of who can reach it.

    `why` says what it was told by. `host_cached` is whether the host's page cache can stand between the
    guest and the data.
    """

    name: str
    sharing: Sharing
    why: str
    host_cached: bool = True


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that a guest writes to.

    `errors` is what a failed write does: stop, enospace, report or ignore. `resends` is how long, in
    seconds, the hypervisor tries to send again what a lost connection did not answer. `two_writers` is what
    lets a second writer in, as it is written, and `reserved` that the guest may use persistent
    reservations.
    """

    name: str
    line: int
    source: Source
    cache: Said[str] | None = None
    errors: Said[str] | None = None
    resends: Said[int] | None = None
    two_writers: Said[str] | None = None
    reserved: Said[str] | None = None

    @property
    def about(self) -> str:
        """Say which disk it is, and what its source was taken for."""
        return f"{self.name} ({self.source.name}, {self.source.why})"


@dataclass(frozen=True, slots=True)
class Guard:
    """What keeps a second host from starting the same guest, as far as its own configuration says."""

    leases: int = 0
    on_lock_failure: Said[str] | None = None


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a specification of ours says of the storage and of the handoff; `simulated`: the simulator can
    play it.
    """

    policy: Said[HandoffPolicy]
    conflict: Said[ConflictModel]
    overlapping_writes: Said[bool]
    ignores_flush: Said[bool]
    simulated: bool


@dataclass(frozen=True, slots=True)
class Replica:
    """A DRBD resource. `whole` is false where what applies to every resource stands in another file.

    `discards` are the settings that resolve a split brain by throwing away writes of one side.
    """

    name: str
    line: int
    whole: bool
    two_primaries: Said[str] | None = None
    protocol: Said[str] | None = None
    fencing: Said[str] | None = None
    quorum: Said[str] | None = None
    discards: tuple[Said[str], ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was read from one file; `unread` is what it says that no rule looks at, though it could
    matter.
    """

    format: Format
    hypervisor: Hypervisor | None = None
    disks: tuple[Disk, ...] = ()
    guard: Guard | None = None
    recovery: Recovery | None = None
    replicas: tuple[Replica, ...] = ()
    unread: tuple[Said[str], ...] = ()
