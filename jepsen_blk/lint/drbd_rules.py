"""The rules about DRBD resources."""

from __future__ import annotations

from collections.abc import Iterator

from jepsen_blk.lint.facts import Facts
from jepsen_blk.lint.findings import Hit, Level, NoLab, Options, Rule, Scenario

_UNSEEN = "no common section in another file says it"
_ASYNCHRONOUS = {
    "A": "acknowledges a write when it is in the local send buffer",
    "B": "acknowledges a write when it is in the peer's memory",
}


def _two_primaries(facts: Facts) -> Iterator[Hit]:
    for replica in facts.replicas:
        if replica.two_primaries:
            said = f"{replica.name}: allow-two-primaries is left on: at any time both nodes may write"
            assumed = "no cluster file system is on it, and nothing turns it on for a migration only"
            yield Hit(replica.two_primaries.line, said, assumed)


def _no_fencing(facts: Facts) -> Iterator[Hit]:
    for replica in facts.replicas:
        if replica.quorum and replica.quorum.value not in ("off", ""):
            continue
        if replica.fencing is None:
            assumed, level = ("", None) if replica.whole else (_UNSEEN, Level.NOTE)
            said = "no fencing is set, and its default is dont-care"
            yield Hit(replica.line, f"{replica.name}: {said}", assumed, level)
        elif replica.fencing.value == "dont-care":
            yield Hit(
                replica.fencing.line,
                f"{replica.name}: fencing dont-care: a node whose peer is silent goes on writing",
            )


def _asynchronous(facts: Facts) -> Iterator[Hit]:
    for replica in facts.replicas:
        how = _ASYNCHRONOUS.get(replica.protocol.value.upper()) if replica.protocol else None
        if replica.protocol and how:
            yield Hit(replica.protocol.line, f"{replica.name}: protocol {replica.protocol.value} {how}")


def _discards(facts: Facts) -> Iterator[Hit]:
    for replica in facts.replicas:
        for said in replica.discards:
            yield Hit(
                said.line,
                f"{replica.name}: {said.value}: after a split brain DRBD drops one side's writes by itself",
            )


DRBD_RULES = (
    Rule(
        id="drbd-two-primaries",
        level=Level.ERROR,
        title="two primaries left on",
        looks_at="allow-two-primaries",
        kinds=("lost-write", "stale-overwrite"),
        how=(
            "The guest runs on both nodes, or the source's last write meets the destination's. DRBD 8 "
            "resolves concurrent writes by "
            "discarding one that was acknowledged; DRBD 9 answers -EBUSY."
        ),
        shown=Scenario("ignored-while-concurrent"),
        remedy=(
            "turn it on for the migration only: drbdadm net-options --allow-two-primaries=yes RES, and =no "
            "after it"
        ),
        source=(
            "drbd.conf(5), allow-two-primaries: never with a file system that is not made for it; LINSTOR "
            "leaves it on"
        ),
        check=_two_primaries,
    ),
    Rule(
        id="drbd-no-fencing",
        level=Level.WARNING,
        title="no fencing and no quorum",
        looks_at="fencing, quorum",
        kinds=("fenced-zombie", "lost-write"),
        how=(
            "The link between the nodes is cut and both become primary. What one of them acknowledged is "
            "dropped when they meet."
        ),
        shown=Options(("--lab", "sim", "--nemesis", "failover:by=cut")),
        remedy="fencing resource-and-stonith with a fence-peer handler, or quorum majority with a third node",
        source=(
            "drbd.conf(5), fencing; ocf_linbit_drbd(7): to avoid data divergence, quorum or proper fencing "
            "in DRBD and Pacemaker"
        ),
        check=_no_fencing,
    ),
    Rule(
        id="drbd-asynchronous",
        level=Level.WARNING,
        title="writes acknowledged before the peer has them on its disk",
        looks_at="protocol A or B",
        kinds=("lost-write", "durability-loss"),
        how=(
            "The node dies, the peer becomes primary, and what was on the way (A) or in its memory (B) is "
            "not there."
        ),
        shown=NoLab("the labs have one storage, not two that are replicated"),
        remedy="protocol C",
        source="drbd.conf(5), protocol",
        check=_asynchronous,
    ),
    Rule(
        id="drbd-discards",
        level=Level.WARNING,
        title="a split brain that is resolved by dropping writes",
        looks_at="after-sb-0pri, after-sb-1pri, after-sb-2pri",
        kinds=("lost-write",),
        how=(
            "Both nodes acknowledged writes while they were apart. One node's are thrown away, and its "
            "guests are not told."
        ),
        shown=NoLab("the labs have one storage, not two that are replicated"),
        remedy=(
            "after-sb-0pri discard-zero-changes or disconnect; after-sb-1pri consensus or disconnect; "
            "after-sb-2pri disconnect"
        ),
        source=(
            "drbd.conf(5), after-sb-*; DRBD User's Guide, automatic split brain recovery: potential "
            "automatic data loss"
        ),
        check=_discards,
    ),
)
