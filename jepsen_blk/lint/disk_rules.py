"""The rules about what becomes of a guest's writes: caches, errors, and what is sent again."""

from __future__ import annotations

from collections.abc import Iterator

from jepsen_blk.lint.facts import Disk, Facts, Hypervisor, Sharing
from jepsen_blk.lint.findings import Hit, Level, NoLab, Rule, Scenario, Specification
from jepsen_blk.spec import HandoffPolicy
from jepsen_blk.storage.conflict import ConflictModel

_KEPT = "QEMU is too old to drop the cache at a migration"
_SENT_TWICE = (ConflictModel.ARRIVAL_ORDER, ConflictModel.IGNORE_SECOND)
"""Where a write that is sent again is done or acknowledged while its first copy is in flight, also on a new
connection.
"""
_WAIT_OR_END = (
    *(HandoffPolicy.DRAIN, HandoffPolicy.PREEMPT_ABORT, HandoffPolicy.EPOCH, HandoffPolicy.SINGLE_WRITER),
)


def _on_shared(facts: Facts, *, cached: bool = False) -> Iterator[tuple[Disk, str]]:
    """Yield the disks that another host can reach, or may, and what is assumed then."""
    for disk in facts.disks:
        if disk.source.sharing is Sharing.LOCAL or (cached and not disk.source.host_cached):
            continue
        known = disk.source.sharing is Sharing.SHARED
        yield disk, "" if known else "another host can reach it"


def _lowered(assumed: str) -> Level | None:
    return Level.NOTE if assumed else None


def _host_cache(facts: Facts) -> Iterator[Hit]:
    for disk, assumed in _on_shared(facts, cached=True):
        if disk.cache and disk.cache.value == "writeback":
            said = "cache 'writeback' leaves its writes in the host's page cache"
            yield Hit(disk.cache.line, f"{disk.about}: {said}", assumed, _lowered(assumed))
        elif disk.cache and disk.cache.value == "writethrough":
            said = "cache 'writethrough' reads it from the host's page cache"
            yield Hit(disk.cache.line, f"{disk.about}: {said}", assumed or _KEPT, Level.NOTE)
        elif disk.cache is None and facts.hypervisor is Hypervisor.QEMU and not assumed:
            said = "no cache mode is given, and QEMU's own default, writeback, uses the host's page cache"
            yield Hit(disk.line, f"{disk.about}: {said}")


def _flush_ignored(facts: Facts) -> Iterator[Hit]:
    for disk in facts.disks:
        if disk.cache and disk.cache.value == "unsafe":
            local = disk.source.sharing is Sharing.LOCAL
            said = "cache 'unsafe' acknowledges the guest's flushes and does nothing"
            assumed = "it holds data that has to outlive this host's next crash" if local else ""
            yield Hit(disk.cache.line, f"{disk.about}: {said}", assumed, Level.WARNING if local else None)
    if facts.recovery and facts.recovery.ignores_flush.value:
        yield Hit(
            facts.recovery.ignores_flush.line,
            "storage.ignore_flush: the storage acknowledges each flush and does nothing",
        )


def _reconnect(facts: Facts) -> Iterator[Hit]:
    if facts.recovery and facts.recovery.conflict.value not in _SENT_TWICE:
        return
    for disk in facts.disks:
        if disk.resends and disk.resends.value > 0:
            said = (
                f"after a lost connection QEMU sends again, for {disk.resends.value} s, what was not answered"
            )
            if disk.errors and disk.errors.value == "stop":
                said += "; what is left then stops the guest and is sent once more when it is let run"
            yield Hit(disk.resends.line, f"{disk.about}: {said}")


def _stop_and_resend(facts: Facts) -> Iterator[Hit]:
    if facts.recovery:
        return  # there the handoff policy says what becomes of the first copy
    for disk, assumed in _on_shared(facts):
        if disk.errors and disk.errors.value == "stop":
            said = (
                "error_policy 'stop' keeps a failed write, and sends it again when the guest is let "
                "run, here or elsewhere"
            )
            yield Hit(disk.errors.line, f"{disk.about}: {said}", assumed, _lowered(assumed))


def _errors_ignored(facts: Facts) -> Iterator[Hit]:
    for disk in facts.disks:
        if disk.errors and disk.errors.value == "ignore":
            yield Hit(
                disk.errors.line,
                f"{disk.about}: error_policy 'ignore' tells the guest that a failed write succeeded",
            )


def _errors_reported(facts: Facts) -> Iterator[Hit]:
    for disk, assumed in _on_shared(facts):
        if disk.errors and disk.errors.value == "report" and facts.hypervisor is Hypervisor.QEMU:
            said = "the guest is told that a write failed, and the storage may still do it"
            yield Hit(disk.errors.line, f"{disk.about}: {said}", assumed)


def _xen_requeue(facts: Facts) -> Iterator[Hit]:
    if facts.hypervisor is not Hypervisor.XEN:
        return
    if facts.recovery and facts.recovery.policy.value in _WAIT_OR_END:
        return
    for disk, assumed in _on_shared(facts):
        said = "a migration does not wait for what is in flight; blkfront sends it again at the destination"
        yield Hit(disk.line, f"{disk.about}: {said}", assumed, _lowered(assumed))


DISK_RULES = (
    Rule(
        id="host-cache",
        level=Level.WARNING,
        title="the host's page cache on shared storage",
        looks_at="libvirt: cache of <driver>; xl: qdisk without direct-io-safe",
        kinds=("fenced-zombie", "stale-read"),
        how=(
            "The guest is started again on another host, and the kernel of the first one writes back pages "
            "that it still had. Or the guest moves and reads pages that the destination had read before the "
            "source wrote; newer QEMUs drop those."
        ),
        shown=Scenario("dead-hypervisor"),
        remedy=(
            "cache='none' (or 'directsync'); with xl a block device by phy, which has no host page cache"
        ),
        source=(
            "runs of ours: what a killed QEMU has given to its kernel is written later; libvirt refuses to "
            "migrate where QEMU cannot drop the cache (qemuMigrationSrcIsSafe); xl-disk-configuration(5), "
            "direct-io-safe"
        ),
        check=_host_cache,
    ),
    Rule(
        id="flush-ignored",
        level=Level.ERROR,
        title="flushes that do nothing",
        looks_at="libvirt: cache='unsafe'; specification: storage.ignore_flush",
        kinds=("durability-loss",),
        how=(
            "The guest flushes and is told that its writes are safe. The host or the storage loses power, "
            "and they are gone."
        ),
        shown=Specification("lying-flush"),
        remedy="any other cache mode; a storage that honours flushes, or has a cache that outlives power",
        source=(
            "libvirt formatdomain, cache: with 'unsafe' sync requests of the guest are ignored; flag "
            "BDRV_O_NO_FLUSH of QEMU"
        ),
        check=_flush_ignored,
    ),
    Rule(
        id="reconnect-resend",
        level=Level.ERROR,
        title="a hypervisor that sends again what a lost connection did not answer",
        looks_at="libvirt: <reconnect delay> of an NBD source; specification: guest.reconnect_delay_s",
        kinds=("stale-overwrite",),
        how=(
            "The server still has the first copy of a write in flight. The second one is answered, the guest "
            "overwrites the "
            "block, and then the first copy lands. No migration is needed."
        ),
        shown=Scenario("resend-on-reconnect"),
        remedy=(
            "no reconnect delay, unless the server ends what a lost connection had in flight before it takes "
            "a new one"
        ),
        source=(
            "runs of ours on QEMU 7.2, stale in every one; the same as the ghost writes of NVMe/TCP (TP4129, "
            "TP8028)"
        ),
        check=_reconnect,
    ),
    Rule(
        id="stop-resend",
        level=Level.WARNING,
        title="a failed write that is kept, and sent again later",
        looks_at="libvirt: error_policy='stop' on shared storage",
        kinds=("stale-overwrite",),
        how=(
            "A connection dies with a write in flight at the storage. The guest stops, moves or is let run, "
            "and the write is sent "
            "again and answered. The guest overwrites the block, and then the first copy lands."
        ),
        shown=Scenario("requeue-path-healed"),
        remedy=(
            "before the guest is let run, have the storage abort what it has accepted (PREEMPT AND ABORT), "
            "or wait until it has "
            "nothing of this node in flight"
        ),
        source="runs of ours on QEMU 7.2 with werror=stop: stale in 12 of 12",
        check=_stop_and_resend,
    ),
    Rule(
        id="errors-ignored",
        level=Level.ERROR,
        title="failed writes that the guest is told succeeded",
        looks_at="libvirt: error_policy='ignore'",
        kinds=("lost-write",),
        how=(
            "The storage refuses a write, the guest is told that it is on the disk, and reads what was there "
            "before."
        ),
        shown=NoLab("the labs' QEMU stops at errors or reports them"),
        remedy="error_policy='stop' or 'report'",
        source="libvirt formatdomain, error_policy; qemu(1), werror=ignore: go on as if it had not failed",
        check=_errors_ignored,
    ),
    Rule(
        id="errors-reported",
        level=Level.NOTE,
        title="an error that is not the end of the write",
        looks_at="libvirt: error_policy='report' on shared storage; specification: guest.disk_errors",
        kinds=("zombie-write",),
        how=(
            "The connection dies, the guest is told that the write failed, and writes something else there. "
            "Then the storage does "
            "the first one after all. It is an anomaly only where an error is taken as final (deadline "
            "`error`)."
        ),
        shown=Specification("late-after-error"),
        remedy=(
            "treat such an error as 'may have happened, or may happen yet'; a storage that aborts what a "
            "lost connection had in flight"
        ),
        source="runs of ours in the simulator",
        check=_errors_reported,
    ),
    Rule(
        id="xen-requeue",
        level=Level.WARNING,
        title="a Xen guest that moves with writes in flight",
        looks_at="xl: a writable disk on shared storage; specification: guest.frontend = 'blkfront'",
        kinds=("stale-overwrite",),
        how=(
            "The guest resumes at the destination and blkfront sends what was not answered again, while the "
            "source's backend "
            "still works on it. The guest overwrites the block, and then the source's copy lands."
        ),
        shown=Specification("blkfront-migration"),
        remedy=(
            "hold the receiver until the source has nothing in flight (`xl migrate -s`, which takes a "
            "stand-in for ssh), or have "
            "the storage abort it"
        ),
        source=(
            "xen-devel, August 2006: Shared disk corruption caused by migration; runs of ours on Xen 4.17 "
            "and Linux 6.1: stale"
        ),
        check=_xen_requeue,
    ),
)
