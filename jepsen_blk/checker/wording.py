"""Anomalies in words: what the guest was told, and what it saw later that contradicts it."""

from __future__ import annotations

import numpy as np

from jepsen_blk.checker.classify import ZOMBIES, Conflict
from jepsen_blk.checker.clusters import NO_ROW, BlockClusters, Cluster
from jepsen_blk.history.record import INITIAL, PENDING, Crash


def tell_conflict(block: BlockClusters, conflict: Conflict, severity_ms: float) -> str:
    """Say in one sentence how the conflict showed."""
    a, b = conflict.older, conflict.newer
    if conflict.late:
        return _late(block, conflict, severity_ms)
    returned = "still returned" if conflict.kind == "lost-write" else "returned"
    again = "" if conflict.kind in ("lost-write", *ZOMBIES) else " again"
    later = f"{show_ms(severity_ms)} later a read {returned} {_name(a)}{again}"
    return f"{_older(block, a, conflict.kind)}{_newer(block, a, b)}; {later}{_ending(block, conflict)}"


def tell_undetermined(could_be: tuple[str, ...]) -> str:
    """Say what else an anomaly may be, or nothing where it is certain."""
    return f"; undetermined, may also be {' or '.join(could_be)}: no later read tells" if could_be else ""


def show_ms(ms: float) -> str:
    """Show a duration: 0.4 ms, 1200 ms, 3.1 s."""
    return f"{ms / 1000:.1f} s" if ms >= 10_000 else f"{ms:.3g} ms" if ms < 100 else f"{ms:.0f} ms"


def _late(block: BlockClusters, conflict: Conflict, severity_ms: float) -> str:
    """Tell of a newer write that nobody had seen: it was closed, A was read, and it was read."""
    a, b = conflict.older, conflict.newer
    after = np.any(block.starts(b.reads) > block.history.finish[conflict.bad_read])
    then = "and then one" if after else "and one at the same time"
    return (
        f"write {b.value} to block {block.block} {_open_end(block, b, conflict.kind)}; "
        f"{show_ms(severity_ms)} later a read returned {_name(a)}, {then} returned {b.value}"
    )


def _name(a: Cluster) -> str:
    return "the initial value" if a.value == INITIAL else str(a.value)


def _older(block: BlockClusters, a: Cluster, kind: str) -> str:
    if a.write == NO_ROW:
        return f"block {block.block} was never written before; "
    subject = f"write {a.value} to block {block.block}"
    if _survived(block, a):
        return f"{subject} survived a power loss, "
    if a.acked:
        return f"{subject} was acknowledged, "
    return f"{subject} {_open_end(block, a, kind)}, "


def _open_end(block: BlockClusters, a: Cluster, kind: str) -> str:
    """Say how an indeterminate write ended, if it did."""
    line = block.history.line
    if line is not None and line[a.write] < 0:
        how = "was never reported by its guest, which died"
    elif block.history.finish[a.write] == PENDING:
        how = "was never completed"
    else:
        how = "ended in an error"
    fenced = {"fenced-zombie": " and was fenced off", "resurrected-write": ", but was seen"}
    return f"{how}{fenced.get(kind, '')}"


def _newer(block: BlockClusters, a: Cluster, b: Cluster) -> str:
    link = (
        "then "
        if b.start > a.finish or (len(a.reads) and b.start > block.finishes(a.reads).min())
        else "and "
    )
    read = bool(np.any(block.finishes(b.reads) <= block.maxs[a.order]))
    if _survived(block, b):
        how = "survived a power loss"
    elif not b.acked:
        how = "was seen though not acknowledged"
    else:
        how = "was acknowledged and read" if read else "was acknowledged"
    to = f" to block {block.block}" if a.write == NO_ROW else ""
    return f"{link if a.write != NO_ROW else ''}write {b.value}{to} {how}"


def _survived(block: BlockClusters, a: Cluster) -> bool:
    """Tell whether this is what the block held after the crash that began its era (see eras.py)."""
    return block.history.crashes == (Crash(a.start, a.start),) and a.start == a.finish


def _ending(block: BlockClusters, conflict: Conflict) -> str:
    b = conflict.newer
    if conflict.kind == "split-brain":
        return f", then {b.value}, and the two took turns"
    if conflict.kind == "stale-read":
        return f", though {b.value} was seen again" if len(b.reads) else ""
    if len(b.reads):
        return f", and nothing has seen {b.value} since"
    if conflict.proof != NO_ROW:
        seen = int(block.history.value[conflict.proof])
        before = "the initial value" if seen == INITIAL else str(seen)
        return f" where one before it had returned {before}, and nothing has ever seen {b.value}"
    return f", and nothing has ever seen {b.value}"
