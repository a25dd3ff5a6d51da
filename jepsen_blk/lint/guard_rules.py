"""The rules about what keeps a second writer away from a guest's disks."""

from __future__ import annotations

from collections.abc import Iterator

from jepsen_blk.lint.facts import Facts, Format, Sharing
from jepsen_blk.lint.findings import Hit, Level, Options, Rule, Scenario

_CUT_OFF = Options(("--lab", "sim", "--nemesis", "failover:by=cut"))


def _two_writers(facts: Facts) -> Iterator[Hit]:
    for disk in facts.disks:
        if disk.two_writers:
            said = "lets several domains write to it"
            if facts.format is Format.XL:
                said += " unchecked (xl itself refuses it, xend and other toolstacks take it)"
            assumed = "what is on it is no cluster file system and no database that is made for it"
            yield Hit(disk.two_writers.line, f"{disk.about}: {disk.two_writers.value} {said}", assumed)


def _no_lock(facts: Facts) -> Iterator[Hit]:
    if facts.guard is None or facts.guard.leases:
        return
    xl = facts.format is Format.XL
    unseen = (
        "a cluster manager that fences"
        if xl
        else "a lock_manager in qemu.conf, a cluster manager that fences"
    )
    for disk in facts.disks:
        if disk.source.sharing is Sharing.SHARED and not disk.reserved:
            said = "nothing here keeps a second host from writing to it while this one still can"
            yield Hit(disk.line, f"{disk.about}: {said}", f"there is none elsewhere ({unseen})")


def _lock_failure(facts: Facts) -> Iterator[Hit]:
    failure = facts.guard.on_lock_failure if facts.guard else None
    if failure and failure.value == "ignore":
        yield Hit(
            failure.line,
            "<on_lockfailure> 'ignore': the guest runs on when its lease is lost, as another host takes it",
        )


def _reservations(facts: Facts) -> Iterator[Hit]:
    for disk in facts.disks:
        if disk.reserved:
            said = "a reservation that moves by PREEMPT refuses new commands, and accepted ones go on"
            yield Hit(
                disk.reserved.line,
                f"{disk.about}: {said}",
                "the guest's reservations are moved with it (migrate-pr)",
            )


GUARD_RULES = (
    Rule(
        id="two-writers",
        level=Level.WARNING,
        title="a disk that several domains may write to",
        looks_at="libvirt: <shareable/>; xl and xend: access w! or !",
        kinds=("fenced-zombie", "lost-write"),
        how=(
            "Two guests, or one that runs on two hosts, overwrite each other's acknowledged writes; neither "
            "is told."
        ),
        shown=_CUT_OFF,
        remedy=(
            "one writer a disk; for a cluster in the guests, persistent reservations (<reservations>), and "
            "fencing in it"
        ),
        source=(
            "libvirt formatdomain, shareable; its lock managers take a shared lock then. Xen "
            "tools/hotplug/Linux/block: "
            "mode ! skips check_sharing. KubeVirt #15373, #16622: two running instances of one guest"
        ),
        check=_two_writers,
    ),
    Rule(
        id="no-lock",
        level=Level.WARNING,
        title="no lease and no fencing on shared storage",
        looks_at="libvirt: <lease>, <reservations>; xl has neither",
        kinds=("fenced-zombie",),
        how=(
            "A host hangs or loses its network. The guest is started again on another one. The first host "
            "comes back and writes "
            "over what the new guest was told is safe."
        ),
        shown=Scenario("frozen-node"),
        remedy=(
            "libvirt: a <lease> with sanlock, or lock_manager = 'lockd'; with xl, and for every cluster "
            "manager: "
            "fencing that has to succeed before the guest is started elsewhere"
        ),
        source=(
            "libvirt, Virtual machine lock manager: the default plugin, nop, does nothing. Xen "
            "tools/hotplug/Linux/block: "
            "check_sharing knows its own host only. Longhorn #6642, KubeVirt #15711"
        ),
        check=_no_lock,
    ),
    Rule(
        id="lock-failure-ignored",
        level=Level.ERROR,
        title="a guest that runs on without its lease",
        looks_at="libvirt: <on_lockfailure>ignore",
        kinds=("fenced-zombie",),
        how="The lease expires and another host takes it and starts the guest. This one goes on writing.",
        shown=_CUT_OFF,
        remedy="<on_lockfailure>poweroff</on_lockfailure>, or pause",
        source="libvirt formatdomain, on_lockfailure: with ignore the domain simply runs on",
        check=_lock_failure,
    ),
    Rule(
        id="reservations-preempt",
        level=Level.NOTE,
        title="reservations that move without an abort",
        looks_at="libvirt: <reservations>",
        kinds=("stale-overwrite",),
        how=(
            "The source is shut out, yet a write that the storage had accepted from it lands after the "
            "destination's newer one."
        ),
        shown=Options(("--lab", "sim", "--handoff", "preempt", "--nemesis", "lost-path-migration")),
        remedy="PREEMPT AND ABORT where the storage has it, before the destination runs",
        source="QEMU 11, scsi-block migrate-pr: the destination takes them by PREEMPT; runs of ours",
        check=_reservations,
    ),
)
