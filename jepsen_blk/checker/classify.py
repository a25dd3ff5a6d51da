"""What kind of damage a conflict is: an older write A came back although a newer one B must follow it.

Lost, stale and overwritten differ only by later evidence, so a kind is claimed only where the
history proves it. docs/anomalies.md has the kinds one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jepsen_blk.checker.clusters import NO_ROW, BlockClusters, Cluster
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import Int64s

_MOST_OLDER = 64
_MOST_NEWER = 8

ZOMBIES = ("fenced-zombie", "zombie-write")
"""Kinds of a conflict that is none but for the closing of one of its writes."""
RANKS = (
    *ZOMBIES,
    "resurrected-write",
    "stale-overwrite",
    "split-brain",
    "reverted-to-initial",
    "lost-write",
    "stale-read",
)
"""Kinds of a conflict, the most telling first."""

_LATER_READS_MAY_SHOW = {
    "resurrected-write": ("stale-read",),
    "stale-overwrite": ("stale-read",),
    "reverted-to-initial": ("stale-read",),
    "lost-write": ("stale-read", "stale-overwrite"),
    "stale-read": ("stale-overwrite",),
}
"""What a conflict may turn out to be once reads after the bad one tell more: B alone, or B and then A.

The other kinds already stand on a read that came later, or do not depend on one.
"""


@dataclass(frozen=True, slots=True)
class Conflict:
    """`older` was read by row `bad_read`, which began after `newer` was acknowledged or seen, at `since_ns`.

    `proof`: if no read ever saw `newer`, the row of one before `bad_read` that saw neither, or NO_ROW.
    `zombie` is the one of the two that nothing but its closing puts before the other, or None: without the
    closing they are no conflict. If it is `newer`, it had only been closed at `since_ns`.
    """

    kind: str
    older: Cluster
    newer: Cluster
    bad_read: int
    proof: int
    since_ns: int
    zombie: Cluster | None = None

    @property
    def late(self) -> bool:
        """Tell whether `newer` took effect after its closing: nobody had seen it when `older` was read."""
        return self.zombie is self.newer


def most_telling(block: BlockClusters, deadline: Deadline) -> Conflict | None:
    """Return the block's conflict of the most telling kind, with the newest write that proves it."""
    conflicts = [_classify(block, a, b, deadline) for a, b in _pairs(block)]

    def telling(conflict: Conflict) -> tuple[bool, bool, int, bool, int, int]:
        kind, unseen = conflict.kind, not len(conflict.newer.reads)
        # A newer zombie undid nothing that had come after it: only a stale read tells less.
        rank = kind == "stale-read", conflict.late, RANKS.index(kind)
        return *rank, unseen, conflict.older.order, -conflict.newer.order

    return min(conflicts, key=telling, default=None)


def could_be(block: BlockClusters, conflict: Conflict) -> tuple[str, ...]:
    """Return the other kinds that the conflict may still be, because no later read of A or B tells.

    A read of another value tells nothing: once the block was overwritten, what it held is gone.
    """
    a, b = conflict.older, conflict.newer
    over = block.history.finish[conflict.bad_read]
    if any((block.starts(cluster.reads) > over).any() for cluster in (a, b)):
        return ()
    others = _LATER_READS_MAY_SHOW.get(conflict.kind, ())
    if conflict.late and not _only_closed(block, a, b):
        others = ("stale-overwrite",)
    return tuple(_overwritten(block, a, b) if kind == "stale-overwrite" else kind for kind in others)


def _pairs(block: BlockClusters) -> Iterator[tuple[Cluster, Cluster]]:
    """Yield conflicting (older, newer): for each older one the newest, the newest seen, the newest proven."""
    highs = np.searchsorted(block.minf, block.maxs)
    olders = 0
    for place in np.flatnonzero(highs > np.arange(1, len(highs) + 1)).tolist():
        low, high = place + 1, int(highs[place])
        newer = np.flatnonzero(block.maxs[low:high] > block.minf[place]) + low
        if not len(newer):
            continue
        olders += 1
        if olders > _MOST_OLDER:
            return
        a = block.cluster(place)
        seen = newer[block.high[newer] > block.low[newer]]
        proof = _last_other(block, a)
        proven = newer if proof == NO_ROW else newer[block.minf[newer] < block.history.start[proof]]
        chosen = {
            *newer[-_MOST_NEWER:].tolist(),
            *seen[-_MOST_NEWER:].tolist(),
            *proven[-_MOST_NEWER:].tolist(),
        }
        for other in sorted(chosen):
            yield a, block.cluster(other)


def _last_other(block: BlockClusters, a: Cluster) -> int:
    """Return the read that began last among those of other values that ended before A was last read."""
    rows = block.reads
    before = rows[block.finishes(rows) < block.history.start[a.reads[-1]]]
    others = before[block.history.value[before] != a.value]
    return int(others[-1]) if len(others) else NO_ROW


def _classify(block: BlockClusters, a: Cluster, b: Cluster, deadline: Deadline) -> Conflict:
    zombie = b if _only_closed(block, b, a) else a if _only_closed(block, a, b) else None
    since = b.finish if zombie is b else _seen(block, b)
    bad = a.reads[block.starts(a.reads) > since]
    first, last = _first_done(block, bad), int(bad[-1])
    if zombie is not None:
        return Conflict(_kind_of_zombie(block, zombie, deadline), a, b, first, NO_ROW, since, zombie)
    again = b.reads[block.starts(b.reads) > block.history.finish[last]]
    if len(again):
        return _seen_again(block, a, b, bad, since)
    if len(b.reads):
        return _seen_before(block, a, b, bad, since)
    others = block.reads[
        (block.starts(block.reads) > since)
        & (block.finishes(block.reads) < block.history.start[last])
        & (block.history.value[block.reads] != a.value)
    ]
    if len(others):
        proof = _first_done(block, others)
        after = bad[block.starts(bad) > block.history.finish[proof]]
        return Conflict(_overwritten(block, a, b), a, b, _first_done(block, after), proof, since)
    return Conflict("lost-write" if a.write != NO_ROW else "reverted-to-initial", a, b, first, NO_ROW, since)


def _only_closed(block: BlockClusters, cluster: Cluster, other: Cluster) -> bool:
    """Tell whether nothing but its closing puts a cluster before another one that it is in conflict with."""
    return _seen(block, cluster) >= int(block.maxs[other.order])


def _seen(block: BlockClusters, cluster: Cluster) -> int:
    """Return when a cluster is first known to have taken effect, in ns: its minf, but for a closing."""
    return int(block.minf[cluster.order] if cluster.acked else block.finishes(cluster.reads).min())


def _seen_again(block: BlockClusters, a: Cluster, b: Cluster, bad: Int64s, since: int) -> Conflict:
    """B was seen after the last read of A: a stale answer, or two contents that take turns."""
    first = _first_done(block, bad)
    between = b.reads[block.starts(b.reads) > block.history.finish[first]]
    turn = _first_done(block, between)
    back = bad[block.starts(bad) > block.history.finish[turn]]
    return Conflict("split-brain" if len(back) else "stale-read", a, b, first, NO_ROW, since)


def _seen_before(block: BlockClusters, a: Cluster, b: Cluster, bad: Int64s, since: int) -> Conflict:
    """B was read, and not after the last read of A; whether A replaced it depends on their order."""
    end = int(block.finishes(b.reads).max())
    after = bad[block.starts(bad) > end]
    if len(after):
        return Conflict(_overwritten(block, a, b), a, b, _first_done(block, after), NO_ROW, since)
    return Conflict("stale-read", a, b, _first_done(block, bad), NO_ROW, since)


def _overwritten(block: BlockClusters, a: Cluster, b: Cluster) -> str:
    if a.write == NO_ROW:
        return "reverted-to-initial"
    if not a.acked and len(_ended_before(block, a.reads, b.start)):
        return "resurrected-write"
    return "stale-overwrite"


def _kind_of_zombie(block: BlockClusters, zombie: Cluster, deadline: Deadline) -> str:
    """Name a zombie by what closed it first: a fence, or its own error."""
    history = block.history
    fences = {fence.time_ns for fence in history.fences if fence.boot == history.boot[zombie.write]}
    fenced = deadline is Deadline.FENCE or zombie.finish in fences
    return "fenced-zombie" if fenced else "zombie-write"


def _ended_before(block: BlockClusters, rows: Int64s, moment: int) -> Int64s:
    return rows[block.finishes(rows) < moment]


def _first_done(block: BlockClusters, rows: Int64s) -> int:
    return int(rows[block.finishes(rows).argmin()])
