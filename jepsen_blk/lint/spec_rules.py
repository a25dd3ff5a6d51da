"""The rules about a specification of ours: handoff policies that leave something behind. Each was seen in a
run.
"""

from __future__ import annotations

from collections.abc import Iterator

from jepsen_blk.lint.facts import Facts, Recovery
from jepsen_blk.lint.findings import Hit, Level, Options, Rule, Scenario
from jepsen_blk.spec import HandoffPolicy
from jepsen_blk.storage.conflict import ConflictModel

_LOST_PATH = Options(("--nemesis", "lost-path-migration"), over_file=True)
_LEFT_BEHIND = {
    HandoffPolicy.REQUEUE: "does nothing about what the source has in flight",
    HandoffPolicy.CANCEL_INITIATOR: "drops the source's connections, and not what is on the wire or accepted",
    HandoffPolicy.QUIESCE: "waits for a time, and what is in flight may take longer",
    HandoffPolicy.PREEMPT: "refuses new commands of the source, and accepted ones go on",
    HandoffPolicy.STONITH: "kills the source's hypervisor, and not what it has sent",
}
_NO_FENCE = {
    HandoffPolicy.REQUEUE: "shuts nobody out",
    HandoffPolicy.DRAIN: "waits for what is in flight, and refuses nothing that comes later",
    HandoffPolicy.CANCEL_INITIATOR: "drops connections, and a node can make new ones",
    HandoffPolicy.QUIESCE: "waits, and refuses nothing that comes later",
    HandoffPolicy.PREEMPT: "refuses new commands of the node, and what was accepted lands later",
    HandoffPolicy.STONITH: "kills the node's hypervisor, and what that has sent lands later",
}
_IN_ORDER = (ConflictModel.SERIALIZE, ConflictModel.REJECT_BUSY)
"""Where the second write to a block waits for the first, or is refused."""


def _named(recovery: Recovery) -> str:
    default = "" if recovery.policy.line else " (the default)"
    return f"handoff.policy {recovery.policy.value.value!r}{default}"


def _leaves_writes(facts: Facts) -> Iterator[Hit]:
    recovery = facts.recovery
    if recovery and recovery.policy.value in _LEFT_BEHIND and recovery.conflict.value not in _IN_ORDER:
        policy = recovery.policy.value
        said = f"{_named(recovery)} {_LEFT_BEHIND[policy]}"
        yield Hit(recovery.policy.line, f"{said}; storage.conflict is {recovery.conflict.value.value!r}")


def _fences_nothing(facts: Facts) -> Iterator[Hit]:
    recovery = facts.recovery
    if not recovery or recovery.policy.value not in _NO_FENCE:
        return
    if recovery.conflict.value is not ConflictModel.REJECT_BUSY:  # there no run has shown it
        policy = recovery.policy.value
        said = f"{_named(recovery)} {_NO_FENCE[policy]}"
        yield Hit(
            recovery.policy.line,
            said,
            "the guest is restarted elsewhere when its node is lost, and not only migrated",
        )


def _epoch(facts: Facts) -> Iterator[Hit]:
    recovery = facts.recovery
    if not recovery or recovery.policy.value is not HandoffPolicy.EPOCH:
        return
    if recovery.conflict.value is ConflictModel.IGNORE_SECOND:
        said = (
            "a copy is acknowledged since an older one is in flight, and that one is refused when "
            "it is applied"
        )
        yield Hit(
            recovery.policy.line, f"handoff.policy 'epoch' with storage.conflict 'ignore-second': {said}"
        )


def _overlap(facts: Facts) -> Iterator[Hit]:
    recovery = facts.recovery
    if not recovery or not recovery.overlapping_writes.value:
        return
    if recovery.conflict.value is ConflictModel.IGNORE_SECOND:
        said = "of two concurrent writes to a block one is acknowledged and not done"
        yield Hit(
            recovery.overlapping_writes.line,
            f"workload.overlapping_writes with storage.conflict 'ignore-second': {said}",
        )


SPEC_RULES = (
    Rule(
        id="handoff-leaves-writes",
        level=Level.ERROR,
        title="a handoff that leaves the source's writes in flight",
        looks_at="handoff.policy, storage.conflict",
        kinds=("stale-overwrite",),
        how=(
            "The destination sends a write again and overwrites it, while the first copy is in flight "
            "somewhere. Then that lands."
        ),
        shown=_LOST_PATH,
        remedy=(
            "handoff.policy 'drain', 'preempt-abort' or 'single-writer' ('epoch' too, but not with "
            "ignore-second); "
            "or a storage that serializes"
        ),
        source=(
            "xen-devel, August 2006, and runs of ours on QEMU and in the simulator; ceph-nvmeof #193 for "
            "fencing alone"
        ),
        check=_leaves_writes,
    ),
    Rule(
        id="handoff-no-fence",
        level=Level.WARNING,
        title="a handoff after which the lost node still writes",
        looks_at="handoff.policy",
        kinds=("fenced-zombie",),
        how="The node was only cut off. Its path comes back, and its writes land among the new guest's.",
        shown=Options(("--nemesis", "failover:by=cut"), over_file=True),
        remedy="handoff.policy 'preempt-abort', 'epoch' or 'single-writer'",
        source=(
            "runs of ours in the simulator, and on QEMU with SIGSTOP and SIGKILL; ceph #54671: an epoch "
            "barrier is needed"
        ),
        check=_fences_nothing,
    ),
    Rule(
        id="epoch-ignore-second",
        level=Level.ERROR,
        title="an epoch on a storage that ignores second writes",
        looks_at="handoff.policy, storage.conflict",
        kinds=("lost-write",),
        how=(
            "The destination's copy is acknowledged and dropped, because the source's is in flight; the "
            "source's is of an old "
            "epoch and refused when it is applied. Both are gone."
        ),
        shown=_LOST_PATH,
        remedy="handoff.policy 'drain', 'preempt-abort' or 'single-writer'",
        source="runs of ours in the simulator",
        check=_epoch,
    ),
    Rule(
        id="ignored-overlap",
        level=Level.ERROR,
        title="concurrent writes to a block on a storage that ignores the second",
        looks_at="workload.overlapping_writes, storage.conflict",
        kinds=("lost-write",),
        how=(
            "The guest is told of a write that never was. No migration and no fault is needed, so a run says "
            "nothing of either."
        ),
        shown=Scenario("ignored-while-concurrent"),
        remedy="workload.overlapping_writes = false, as a page cache writes; or another storage.conflict",
        source="runs of ours on QEMU and in the simulator",
        check=_overlap,
    ),
)
