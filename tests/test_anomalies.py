"""Each kind of anomaly, planted into a big healthy history, is found, named and pinned to its operations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from histories import FAIL, INFO, Op, atomic, flush, history, read, write

from jepsen_blk.checker.anomalies import KINDS, MOST_SHOWN, Anomaly
from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import FOREIGN, PHANTOM, TORN, Crash, F, Fence, History

A, B, C = 9_000_001, 9_000_002, 9_000_003
MS = 1_000_000

W_A, W_B = write(A, 0, 10), write(B, 20, 30)
LOST_A = write(A, 0, 10, outcome=INFO)
LOST_B = write(B, 12, 14, outcome=INFO)

# kind, planted operations, indexes of the witness among them, deadline
PLANTS: dict[str, tuple[str, list[Op], list[int], Deadline]] = {
    "seen newer, never again": (
        "stale-overwrite",
        [W_A, W_B, read(B, 40, 50), read(A, 60, 70)],
        [0, 1, 3],
        Deadline.NEVER,
    ),
    "seen newer twice, concurrent writes": (
        "stale-overwrite",
        [write(A, 0, 25), W_B, read(B, 40, 50), read(A, 60, 70)],
        [0, 1, 2, 3],
        Deadline.NEVER,
    ),
    "stale first, overwritten later": (
        "stale-overwrite",
        [W_A, W_B, read(A, 32, 35), read(B, 40, 50), read(A, 60, 70)],
        [0, 1, 4],
        Deadline.NEVER,
    ),
    # xen-devel, August 2006: A' is completed unapplied, a read sees what was before, then X's A lands
    "ignored second write, then the first lands": (
        "stale-overwrite",
        [write(C, -30, -20), W_A, W_B, read(C, 40, 50), read(A, 60, 70)],
        [1, 2, 4],
        Deadline.NEVER,
    ),
    "the same over a block that was never written": (
        "stale-overwrite",
        [W_A, W_B, read(0, 40, 50), read(A, 60, 70)],
        [0, 1, 3],
        Deadline.NEVER,
    ),
    "never seen": ("lost-write", [W_A, W_B, read(A, 40, 50)], [0, 1, 2], Deadline.NEVER),
    "seen again later": (
        "stale-read",
        [W_A, W_B, read(A, 40, 50), read(B, 60, 70)],
        [0, 1, 2],
        Deadline.NEVER,
    ),
    "taking turns": (
        "split-brain",
        [W_A, W_B, read(A, 40, 50), read(B, 60, 70), read(A, 80, 90), read(B, 100, 110)],
        [0, 1, 2],
        Deadline.NEVER,
    ),
    "indeterminate, seen, gone, back": (
        "resurrected-write",
        [LOST_A, read(A, 12, 15), W_B, read(B, 40, 50), read(A, 60, 70)],
        [0, 1, 2, 4],
        Deadline.NEVER,
    ),
    "landed behind the fence": ("fenced-zombie", [LOST_A, W_B, read(A, 60, 70)], [0, 1, 2], Deadline.FENCE),
    "landed behind the fence, under error": (
        "zombie-write",
        [LOST_A, W_B, read(A, 60, 70)],
        [0, 1, 2],
        Deadline.ERROR,
    ),
    "landed behind the fence and what was read there": (
        "fenced-zombie",
        [W_A, LOST_B, read(A, 40, 50), read(B, 60, 70)],
        [0, 1, 2, 3],
        Deadline.FENCE,
    ),
    "landed behind its error and what was read there": (
        "zombie-write",
        [W_A, LOST_B, read(A, 40, 50), read(B, 60, 70)],
        [0, 1, 2, 3],
        Deadline.ERROR,
    ),
    "never written": ("reverted-to-initial", [W_B, read(B, 40, 50), read(0, 60, 70)], [0, 2], Deadline.NEVER),
    "garbage": ("phantom", [W_A, read(PHANTOM, 40, 50)], [1], Deadline.NEVER),
    "another run": ("phantom", [W_A, read(FOREIGN, 40, 50)], [1], Deadline.NEVER),
    "never issued": ("phantom", [W_A, read(C + 7, 40, 50)], [1], Deadline.NEVER),
    "two writes in one block": ("torn", [W_A, read(TORN, 40, 50)], [1], Deadline.NEVER),
    "another block's write": (
        "misdirected",
        [write(A, 0, 10, block=1001), read(A, 12, 13, block=1001), read(A, 40, 50)],
        [0, 2],
        Deadline.NEVER,
    ),
    "read before written": (
        "future-read",
        [read(A, -20, -10), W_A, read(A, 12, 14)],
        [0, 1],
        Deadline.NEVER,
    ),
    "certainly failed": (
        "aborted-read",
        [write(A, 0, 10, outcome=FAIL), read(A, 20, 30)],
        [0, 1],
        Deadline.NEVER,
    ),
    "flushed, gone after a power loss": (
        "durability-loss",
        [W_A, W_B, flush(40, 50), read(A, 60_000, 60_010)],
        [0, 1, 2, 3],
        Deadline.NEVER,
    ),
    "two contents from before a power loss": (
        "split-survivor",
        [W_A, W_B, read(B, 60_000, 60_010), read(A, 60_020, 60_030)],
        [0, 1, 2, 3],
        Deadline.NEVER,
    ),
}
CRASH = 50_000
"""A power loss after the healthy history, in ms: only the plants that speak of one read anything later."""


def plant(ops: list[Op], seed: int = 3) -> tuple[History, list[int]]:
    """Put the operations (in ms, on block 1000) into the midst of a healthy history; return their rows."""
    healthy = atomic(seed, ops=6000, blocks=40, closed=True)
    names = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")
    middle = int(np.median(healthy.start)) + 1_000 * MS
    planted = history(
        op._replace(
            start=middle + op.start * MS,
            finish=None if op.finish is None else middle + op.finish * MS,
            block=op.block or 1000,
            boot=7,
        )
        for op in ops
    )
    merged = {name: np.append(getattr(healthy, name), getattr(planted, name)) for name in names}
    order = np.random.default_rng(seed).permutation(len(merged["f"]))
    place = np.argsort(order)[len(healthy) :]
    fences = (Fence(middle + 15 * MS, boot=7),)
    crashes = (
        (Crash(middle + CRASH * MS, middle + CRASH * MS),) if any(op.start > CRASH for op in ops) else ()
    )
    return History(
        **{name: column[order] for name, column in merged.items()}, fences=fences, crashes=crashes
    ), place.tolist()


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_anomaly_is_found_and_classified_with_its_operations(name: str) -> None:
    kind, ops, witness, deadline = PLANTS[name]
    damaged, rows = plant(ops)
    if deadline is Deadline.ERROR:
        damaged = replace(damaged, fences=())
    result = check(damaged, deadline)
    assert result.verdict == "fail"
    assert [(found.kind, found.block) for found in result.anomalies] == [(kind, 1000)]
    assert list(result.anomalies[0].ops) == [rows[index] for index in witness]


def test_every_kind_is_planted() -> None:
    assert {kind for kind, *_ in PLANTS.values()} == set(KINDS)


def only(result_of: History, deadline: Deadline = Deadline.FENCE) -> Anomaly:
    (anomaly,) = check(result_of, deadline).anomalies
    return anomaly


def in_us(*ops: Op) -> History:
    return history(op._replace(start=op.start * 1000, finish=op.finish and op.finish * 1000) for op in ops)


def test_a_stale_overwrite_reads_as_a_sentence() -> None:
    ops = [
        write(4242, 100, 200, block=17),
        write(4243, 300, 400, block=17),
        read(4243, 500, 600, block=17),
        read(4242, 1600, 1700, block=17),
    ]
    anomaly = only(in_us(*ops))
    assert anomaly.text == (
        "write 4242 to block 17 was acknowledged, then write 4243 was acknowledged and read; "
        "1.2 ms later a read returned 4242 again, and nothing has seen 4243 since; "
        "undetermined, may also be stale-read: no later read tells"
    )
    assert anomaly.severity_ms == pytest.approx(1.2)
    assert (anomaly.older, anomaly.newer) == (4242, 4243)


READS = [read(A, 4_000, 5_000), read(B, 6_000, 7_000)]


@pytest.mark.parametrize(
    ("end", "fences", "deadline", "reads", "told"),
    [
        (
            *(None, [Fence(1_500_000)], Deadline.FENCE, READS),
            "was never completed and was fenced off; "
            f"2.5 ms later a read returned {A}, and then one returned {B}",
        ),
        (
            *(1_400, [Fence(1_500_000)], Deadline.FENCE, READS),
            "ended in an error and was fenced off; "
            f"2.5 ms later a read returned {A}, and then one returned {B}",
        ),
        (
            *(1_400, [], Deadline.ERROR, READS),
            f"ended in an error; 2.6 ms later a read returned {A}, and then one returned {B}",
        ),
        (
            *(1_400, [], Deadline.ERROR, [read(A, 4_000, 6_000), READS[1]]),
            f"ended in an error; 2.6 ms later a read returned {A}, and one at the same time returned {B}; "
            "undetermined, may also be stale-overwrite: no later read tells",
        ),
        (
            *(1_400, [], Deadline.ERROR, [READS[0]._replace(value=0), READS[1]]),
            f"ended in an error; 2.6 ms later a read returned the initial value, and then one returned {B}",
        ),
    ],
    ids=["fenced", "an error, then fenced", "an error", "at once", "the initial value"],
)
def test_of_a_late_zombie_it_is_not_said_that_anybody_had_seen_it(
    end: int | None, fences: list[Fence], deadline: Deadline, reads: list[Op], told: str
) -> None:
    first = [write(A, 0, 1_000)] if reads[0].value else []
    whole = in_us(*first, write(B, 1_200, end, outcome=INFO), *reads)
    assert only(replace(whole, fences=tuple(fences)), deadline).text == f"write {B} to block 0 {told}"


def test_a_late_zombie_of_a_dead_guest_was_never_reported() -> None:
    whole = history(
        [read(0, 40_000_000, 50_000_000), read(B, 60_000_000, 70_000_000)], [Fence(15_000_000)], [0]
    )
    assert only(whole).text == (
        f"write {B} to block 0 was never reported by its guest, which died and was fenced off; "
        f"25 ms later a read returned the initial value, and then one returned {B}"
    )
    assert only(whole).ops == (0, 1)


@pytest.mark.parametrize("name", PLANTS)
def test_every_text_names_what_it_is_about(name: str) -> None:
    damaged, _ = plant(PLANTS[name][1])
    for deadline in Deadline:
        for anomaly in check(damaged, deadline).anomalies:
            assert "block" in anomaly.text
            assert all(str(value) in anomaly.text for value in (anomaly.newer,) if value)
            assert "  " not in anomaly.text


def test_the_newest_write_that_was_lost_is_named() -> None:
    ops = [W_A, *(write(100 + i, 20 + 2 * i, 21 + 2 * i) for i in range(50)), read(A, 400, 410)]
    assert only(history(ops)).newer == 149


def test_a_damage_seen_by_many_reads_is_one_anomaly() -> None:
    reads = [read(A, 60 + 20 * i, 70 + 20 * i) for i in range(50)]
    assert only(history([W_A, W_B, read(B, 40, 50), *reads])).kind == "stale-overwrite"


def test_a_flood_is_bounded_and_says_how_many_are_left_out() -> None:
    ops: list[Op] = []
    for block in range(250):
        ops.append(write(2 * block + 1, 0, 10, block))
        ops.append(write(2 * block + 2, 20, 30, block))
        ops.append(read(2 * block + 1, 40, 50, block))
    result = check(history(ops))
    assert len(result.anomalies) == MOST_SHOWN
    assert result.reasons == ("150 more anomalies are not listed",)
    assert result.verdict == "fail"


def test_two_copies_of_one_boot_are_a_split_brain() -> None:
    ops = [write(5, 0, 10), write(5, 3, 12, block=1), read(5, 20, 30), read(5, 20, 30, block=1)]
    anomaly = only(history(ops))
    assert (anomaly.kind, anomaly.ops) == ("split-brain", (0, 1))


def test_a_misdirected_read_does_not_mark_its_write_as_seen() -> None:
    ops = [W_A, W_B, read(B, 35, 36, block=1), read(A, 40, 50)]
    kinds = {found.kind: found.block for found in check(history(ops)).anomalies}
    assert kinds == {"misdirected": 1, "lost-write": 0}


def test_flushes_and_failed_reads_are_no_evidence() -> None:
    ops = [W_A, W_B, read(A, 40, 50, outcome=INFO), read(B, 60, 70), Op(F.FLUSH, 0, 40, 90)]
    assert check(history(ops)).verdict == "pass"
