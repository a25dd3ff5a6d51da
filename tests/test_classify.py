"""Which of several conflicts of a block is told, and by which of several reads and writes.

The kinds are held against their definitions in docs/anomalies.md, written down here once more for all reads.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pytest
from brute_force import SmallHistories, last_moments, small_histories
from histories import FAIL, INFO, Op, history, read, write

from jepsen_blk.checker import classify
from jepsen_blk.checker.anomalies import Anomaly
from jepsen_blk.checker.classify import RANKS, most_telling
from jepsen_blk.checker.clusters import block_clusters
from jepsen_blk.checker.registers import check_registers
from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import INITIAL, PENDING, F, Fence, History, Outcome

A, B, C = 1, 2, 3
W_A, W_B = write(A, 0, 10), write(B, 20, 30)
LOST_A = write(A, 0, 10, outcome=INFO)


def only(result_of: History, deadline: Deadline = Deadline.NEVER) -> Anomaly:
    (anomaly,) = check(result_of, deadline).anomalies
    return anomaly


def test_a_newer_write_that_was_seen_is_told_before_one_that_was_not() -> None:
    unseen = write(C, 20, 31)
    anomaly = only(history([W_A, W_B, unseen, read(B, 40, 50), read(A, 60, 70)]))
    assert (anomaly.kind, anomaly.older, anomaly.newer) == ("stale-overwrite", A, B)


@pytest.mark.parametrize(("seen_until", "kind"), [(15, "resurrected-write"), (25, "stale-overwrite")])
def test_a_resurrected_write_was_seen_before_the_newer_one_began(seen_until: int, kind: str) -> None:
    ops = [LOST_A, read(A, 12, seen_until), W_B, read(B, 40, 50), read(A, 60, 70)]
    assert only(history(ops)).kind == kind


@pytest.mark.parametrize("outcome", [INFO, FAIL])
def test_what_a_failed_read_may_have_returned_does_not_change_the_kind(outcome: Outcome) -> None:
    ops = [W_A, W_B, read(A, 40, 50), read(B, 60, 70, outcome=outcome)]
    assert only(history(ops)).kind == "lost-write"


W_C, R_C, R_LAST = write(C, 0, 5), read(C, 40, 50), read(A, 200, 210)


def unseen(first: int, last: int) -> list[Op]:
    """Acknowledged writes that no read saw, the first and the last to end at these times."""
    ends = np.linspace(first, last, 20).astype(int).tolist()
    return [write(10 + i, 35, end) for i, end in enumerate(ends)]


@pytest.mark.parametrize(
    "others",
    [
        [W_B, R_C, *unseen(60, 99)],
        [write(B, 20, None, outcome=INFO), read(B, 45, 50), *unseen(60, 99)],
        [W_B, R_C, *unseen(40, 40)],
        [W_B, R_C, *unseen(41, 60), read(C, 61, 200)],
    ],
    ids=["seen before", "seen itself", "written while it was seen", "and one read that A overlaps"],
)
def test_many_newer_writes_that_nobody_saw_do_not_hide_the_one_that_tells_more(others: list[Op]) -> None:
    anomaly = only(history([W_C, write(A, 6, 10), *others, R_LAST]))
    assert (anomaly.kind, anomaly.older, anomaly.newer) == ("stale-overwrite", A, B)


def test_a_block_with_very_many_conflicts_costs_a_bounded_number_of_comparisons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = 0
    judge = classify._classify

    def counted(*arguments: object) -> object:
        nonlocal judged
        judged += 1
        return judge(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(classify, "_classify", counted)
    ops = [write(value, 10 * value, 10 * value + 5) for value in range(1, 301)]
    ops += [read(value, 10_000 + value, 20_000 + value) for value in range(1, 301)]
    assert only(history(ops)).newer == 300
    assert judged <= 64 * 3 * 8


LOST_B = write(B, 12, 14, outcome=INFO)
"""Closed by its own error at 14, and by a fence at 15."""
LATE = [read(A, 40, 50), read(B, 60, 70)]
"""Long after that the block holds A, and only then B."""
ZOMBIES = {Deadline.FENCE: "fenced-zombie", Deadline.ERROR: "zombie-write"}


@pytest.mark.parametrize("deadline", ZOMBIES)
@pytest.mark.parametrize("first", [[W_A], [LOST_A], []], ids=["acknowledged", "indeterminate", "initial"])
def test_what_was_first_seen_after_an_older_content_had_been_read_behind_its_closing_is_a_zombie(
    deadline: Deadline, first: list[Op]
) -> None:
    older = first[0].value if first else INITIAL
    fences = [Fence(15)] if deadline is Deadline.FENCE else []
    result = check(history([*first, LOST_B, read(older, 40, 50), read(B, 60, 70)], fences), deadline)
    (found,) = result.anomalies
    assert (found.kind, found.older, found.newer) == (ZOMBIES[deadline], older, B)
    assert found.severity_ms == pytest.approx((40 - (15 if fences else 14)) / 1e6)
    assert (result.deadlines[Deadline.NEVER], result.deadlines[deadline]) == ("pass", "fail")


def test_under_the_deadline_error_a_late_zombie_is_named_by_what_closed_it_first() -> None:
    ops = [W_A, *LATE]
    for end, kind in ((14, "zombie-write"), (16, "fenced-zombie"), (None, "fenced-zombie")):
        late = write(B, 12, end, outcome=INFO)
        assert only(history([late, *ops], [Fence(15)]), Deadline.ERROR).kind == kind
        assert only(history([late, *ops], [Fence(15)]), Deadline.FENCE).kind == "fenced-zombie"


@pytest.mark.parametrize("deadline", Deadline)
def test_an_acknowledged_write_that_an_old_content_was_read_after_is_no_zombie(deadline: Deadline) -> None:
    found = only(history([W_A, write(B, 12, 14), *LATE], [Fence(15)]), deadline)
    assert (found.kind, found.severity_ms) == ("stale-read", pytest.approx(26e-6))


@pytest.mark.parametrize("deadline", Deadline)
def test_a_write_that_was_seen_before_the_old_content_was_read_is_no_zombie(deadline: Deadline) -> None:
    found = only(history([W_A, LOST_B, read(B, 20, 30), *LATE], [Fence(15)]), deadline)
    assert (found.kind, found.severity_ms) == ("stale-read", pytest.approx(10e-6))
    assert "write 2 was seen though not acknowledged; 1e-05 ms later" in found.text


@pytest.mark.parametrize("seen", [(33, 39), (33, 40)])
def test_a_read_that_the_bad_one_overlaps_had_not_shown_it_before(seen: tuple[int, int]) -> None:
    found = only(history([W_A, LOST_B, read(B, *seen), *LATE], [Fence(15)]), Deadline.FENCE)
    assert found.kind == ("stale-read" if seen[1] < 40 else "fenced-zombie")


def test_what_was_read_before_a_write_was_seen_is_not_told_as_its_damage() -> None:
    ops = [W_A, LOST_B, read(A, 20, 30), read(B, 40, 50), read(A, 60, 70)]
    found = only(history(ops, [Fence(15)]), Deadline.FENCE)
    assert (found.kind, found.ops, found.severity_ms) == (
        "stale-overwrite",
        (0, 1, 3, 4),
        pytest.approx(1e-5),
    )


def test_a_zombie_that_undid_a_newer_write_is_told_before_what_it_came_late_for() -> None:
    ops = [LOST_A, read(0, 16, 18), W_B, read(A, 40, 50)]
    found = only(history(ops, [Fence(15)]), Deadline.FENCE)
    assert (found.kind, found.older, found.newer) == ("fenced-zombie", A, B)


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        ([], [write(C, 80, 90), read(C, 92, 95), read(B, 100, 110)], ("resurrected-write", B, C)),
        ([], [write(C, 80, 90), write(4, 100, 110), read(C, 120, 130)], ("lost-write", C, 4)),
        ([write(C, -20, -10), read(C, 11, 12)], [], ("fenced-zombie", A, B)),
    ],
    ids=["a write that was undone", "a lost write", "a stale read"],
)
def test_of_a_block_a_late_zombie_tells_more_than_a_stale_read_alone(
    first: list[Op], then: list[Op], told: tuple[str, int, int]
) -> None:
    found = only(history([*first, W_A, LOST_B, *LATE, *then], [Fence(15)]), Deadline.FENCE)
    assert (found.kind, found.older, found.newer) == told


class Written(NamedTuple):
    """A write, or the initial value, with its reads as (start, finish)."""

    value: int
    start: int
    finish: int
    acked: bool
    fence: bool
    """A fence, not only its error, closed it."""
    reads: list[tuple[int, int]]

    @property
    def minf(self) -> int:
        return min([self.finish, *(finish for _, finish in self.reads)])

    @property
    def seen(self) -> int:
        return min([self.finish] * self.acked + [finish for _, finish in self.reads])

    @property
    def maxs(self) -> int:
        return max([self.start, *(start for start, _ in self.reads)])


def crowded(ops: int) -> SmallHistories:
    """Make random histories in which half of the blocks have been written before all else."""
    small = small_histories(ops, 4000, ops)
    used = np.arange(0, small.f.shape[1], 2)
    for column, content in ((small.f, F.WRITE), (small.outcome, Outcome.OK), (small.boot, 0)):
        column[0, used] = content
    small.start[0, used] = small.finish[0, used] = 0
    small.value[0, used] = used + 1
    small.value[:, used] = np.where(small.value[:, used] == INITIAL, used + 1, small.value[:, used])
    return small


def clusters_of(given: History, rows: list[int], ends: list[int]) -> list[Written]:
    reads: dict[int, list[tuple[int, int]]] = {}
    for row in rows:
        if given.f[row] == F.READ and given.outcome[row] == Outcome.OK:
            times = int(given.start[row]), int(given.finish[row])
            reads.setdefault(int(given.value[row]), []).append(times)
    found = [Written(INITIAL, -1, -1, True, False, reads[INITIAL])] if INITIAL in reads else []
    for row in rows:
        if given.f[row] == F.WRITE and given.outcome[row] != Outcome.FAIL:
            value, acked = int(given.value[row]), bool(given.outcome[row] == Outcome.OK)
            fences = [fence.time_ns for fence in given.fences if fence.boot == given.boot[row]]
            if acked or value in reads:
                start, finish = int(given.start[row]), ends[row]
                found.append(Written(value, start, finish, acked, finish in fences, reads.get(value, [])))
    return found


def by_definition(a: Written, b: Written, others: list[tuple[int, int]]) -> tuple[str, bool, int]:
    """Return the kind of a conflict of `a`, the older, and `b`, and when the read that it tells of ended.

    In between stands whether `b` is a zombie. `others` are all reads but those of `a`. Of several bad reads
    it tells of the first to end.
    """
    zombies = [z for z, other in ((b, a), (a, b)) if z.seen >= other.maxs]
    late = zombies[:1] == [b]
    bad = [read for read in a.reads if read[0] > (b.minf if late else b.seen)]
    if zombies:
        kind = "fenced-zombie" if zombies[0].fence else "zombie-write"
        return kind, late, min(finish for _, finish in bad)
    kind, end = by_reads(a, b, others, bad)
    return kind, False, end


def by_reads(
    a: Written, b: Written, others: list[tuple[int, int]], bad: list[tuple[int, int]]
) -> tuple[str, int]:
    """Return the same of a conflict that does not hang on a closing; `bad` are its bad reads."""
    last, first = max(bad), min(finish for _, finish in bad)
    if any(start > last[1] for start, _ in b.reads):
        turns = any(r[1] < turn[0] and turn[1] < back[0] for r in bad for turn in b.reads for back in bad)
        return "split-brain" if turns else "stale-read", first
    shown = max((finish for _, finish in b.reads), default=PENDING)
    if not b.reads:
        shown = min((finish for start, finish in others if start > b.seen), default=PENDING)
    if shown >= last[0]:
        kind = "lost-write" if a.value else "reverted-to-initial"
        return "stale-read" if b.reads else kind, first
    back = min(finish for start, finish in bad if start > shown)
    if not a.value:
        return "reverted-to-initial", back
    seen = not a.acked and any(finish < b.start for _, finish in a.reads)
    return "resurrected-write" if seen else "stale-overwrite", back


@pytest.mark.parametrize(
    ("deadline", "kinds"), [(Deadline.NEVER, 6), (Deadline.FENCE, 8), (Deadline.ERROR, 10)]
)
def test_the_kind_told_is_the_most_telling_by_the_definitions(deadline: Deadline, kinds: int) -> None:
    told: Counter[str] = Counter()
    for ops in (7, 10, 13):
        small = crowded(ops)
        ends = last_moments(small, deadline).ravel().tolist()
        whole = small.together()
        findings = check_registers(whole, deadline)
        bad = {row for rows in findings.bad_reads.values() for row in rows.tolist()}
        for block in block_clusters(whole, findings.conflicts, findings, deadline):
            rows = [row for row in np.flatnonzero(whole.block == block.block).tolist() if row not in bad]
            found = sorted(clusters_of(whole, rows, ends), key=lambda c: (c.minf, c.maxs))
            if len({(c.minf, c.maxs) for c in found}) < len(found):
                continue  # none of two alike is the older
            told_by_definition = []
            for a, b in combinations(range(len(found)), 2):
                if found[a].minf < found[b].maxs and found[b].minf < found[a].maxs:
                    others = [read for c in found if c is not found[a] for read in c.reads]
                    kind, late, end = by_definition(found[a], found[b], others)
                    rank = kind == "stale-read", late, RANKS.index(kind)
                    told_by_definition.append((*rank, not found[b].reads, a, -b, end))
            conflict = most_telling(block, deadline)
            assert conflict is not None
            _, late, rank, _, a, b, end = min(told_by_definition)
            assert (conflict.kind, conflict.late, conflict.older.value) == (RANKS[rank], late, found[a].value)
            assert (conflict.newer.value, whole.finish[conflict.bad_read]) == (found[-b].value, end)
            told["late " * late + conflict.kind] += 1
    print(told)
    assert len(told) == kinds
