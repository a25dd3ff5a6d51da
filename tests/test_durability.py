"""What a power loss may take: exact by exhaustive search, and each loss is pinned to its operations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from crashes import crowded, simulated, surrounded, survivable_blocks, tiny
from histories import INFO, Op, flush, history, read, write

from jepsen_blk.checker.anomalies import Anomaly
from jepsen_blk.checker.durability import judge
from jepsen_blk.checker.graph import history_graph
from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import INITIAL, Crash, Fence, History

CRASH = 100
NAMES = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")


def crashed(*ops: Op, crashes: tuple[int, ...] = (CRASH,)) -> History:
    return history(ops, crashes=crashes)


def only(found: History, deadline: Deadline = Deadline.FENCE) -> Anomaly:
    (anomaly,) = check(found, deadline).anomalies
    return anomaly


def passes(*ops: Op, crashes: tuple[int, ...] = (CRASH,)) -> bool:
    return not judge(crashed(*ops, crashes=crashes), Deadline.NEVER).contradicts()


@pytest.mark.parametrize("deadline", list(Deadline))
def test_agrees_with_exhaustive_search_on_tiny_histories(deadline: Deadline) -> None:
    failed = 0
    for seed in range(600):
        found = (tiny, crowded, surrounded)[seed % 3](seed)
        bad = {block for block, fine in survivable_blocks(found, deadline).items() if not fine}
        result = check(found, deadline)
        assert {anomaly.block for anomaly in result.anomalies} == bad, seed
        assert (result.verdict == "fail") == bool(bad), seed
        failed += bool(bad)
    assert 150 < failed < 450


@pytest.mark.parametrize("deadline", list(Deadline))
def test_a_witness_contradicts_on_its_own(deadline: Deadline) -> None:
    witnesses = 0
    for seed in range(600):
        found = (tiny, crowded, surrounded)[seed % 3](seed)
        for anomaly in check(found, deadline).anomalies:
            rows = list(anomaly.ops)
            some = replace(found, **{name: getattr(found, name)[rows] for name in NAMES})
            assert not survivable_blocks(some, deadline)[anomaly.block], (seed, anomaly)
            witnesses += 1
    assert witnesses > 120


@pytest.mark.parametrize("seed", range(30))
def test_never_flags_a_storage_that_keeps_what_was_flushed(seed: int) -> None:
    healthy = simulated(seed, ops=400, blocks=8)
    assert len(healthy.crashes) == 3
    assert not judge(healthy, Deadline.NEVER).contradicts()


def test_flags_a_storage_that_forgets_what_was_flushed() -> None:
    kinds = [
        {anomaly.kind for anomaly in check(simulated(seed, ops=400, blocks=8, forgets=True)).anomalies}
        for seed in range(10)
    ]
    assert all("durability-loss" in found for found in kinds)


def blurred(made: History, before: int, after: int) -> History:
    """The same history where it is known only between which times each crash came."""
    crashes = (Crash(max(0, crash.time_ns - before), crash.until_ns + after) for crash in made.crashes)
    return replace(made, crashes=tuple(crashes))


def test_a_crash_whose_moment_is_not_known_is_never_held_against_what_may_have_been_before_or_after_it() -> (
    None
):
    fails = spared = 0
    for seed in range(600):
        made = tiny(seed) if seed % 2 else crowded(seed)
        for before, after in ((0, 3), (3, 0), (4, 4)):
            unsure = judge(blurred(made, before, after), Deadline.FENCE).contradicts()
            knowing = judge(made, Deadline.FENCE).contradicts()
            assert knowing or not unsure, (seed, before, after)
            fails += unsure
            spared += knowing and not unsure
    assert fails > 50
    assert spared > 50
    for seed in range(10):
        assert not judge(blurred(simulated(seed, ops=400, blocks=8), 20, 30), Deadline.NEVER).contradicts()
        forgetful = blurred(simulated(seed, ops=400, blocks=8, forgets=True), 20, 30)
        assert judge(forgetful, Deadline.NEVER).contradicts()


@pytest.mark.parametrize(
    ("last", "lost"),
    [
        (read(1, 121, 130), True),
        (read(1, 120, 130), False),  # it may have begun before the power was lost
    ],
)
def test_a_read_is_evidence_of_a_power_loss_once_that_is_over_for_sure(last: Op, lost: bool) -> None:
    found = history([OLD, NEW, flush(40, 50), last], crashes=[Crash(90, 120)])
    assert judge(found, Deadline.NEVER).contradicts() == lost


@pytest.mark.parametrize(("done", "lost"), [(89, True), (90, False)])
def test_a_flush_covers_what_a_power_loss_took_if_it_was_over_before_it_for_sure(
    done: int, lost: bool
) -> None:
    found = history([OLD, NEW, flush(40, done), read(1, 130, 140)], crashes=[Crash(90, 120)])
    assert judge(found, Deadline.NEVER).contradicts() == lost


OLD, NEW = write(1, 0, 10), write(2, 20, 30)


def test_a_flushed_write_that_a_crash_took_is_a_loss_with_its_witness() -> None:
    anomaly = only(crashed(OLD, NEW, read(2, 32, 34), flush(40, 50), read(1, 110, 120)))
    assert (anomaly.kind, anomaly.block, anomaly.ops) == ("durability-loss", 0, (0, 1, 3, 4))
    assert (anomaly.older, anomaly.newer) == (1, 2)
    assert anomaly.severity_ms == pytest.approx(80e-6)
    assert anomaly.text == (
        "write 2 to block 0 was acknowledged and flushed, then the storage lost power; 8e-05 ms after the "
        "acknowledgement a read returned 1, which came before it"
    )


def test_the_flush_that_is_named_is_the_first_that_covers_the_write() -> None:
    flushes = [flush(30, 32), flush(60, 70), flush(40, 50)]
    assert only(crashed(OLD, NEW, *flushes, read(1, 110, 120))).ops == (0, 1, 4, 5)


def test_a_write_with_fua_needs_no_flush() -> None:
    anomaly = only(crashed(OLD, NEW._replace(fua=True), read(INITIAL, 110, 120)))
    assert (anomaly.kind, anomaly.ops) == ("durability-loss", (1, 2))
    assert "acknowledged with FUA" in anomaly.text
    assert "the initial value" in anomaly.text


@pytest.mark.parametrize(
    "covers", [(), (flush(30, 50),), (flush(40, CRASH),), (flush(40, 50, outcome=INFO),), (flush(25, 28),)]
)
def test_what_no_completed_flush_covers_may_be_gone(covers: tuple[Op, ...]) -> None:
    for survivor in (1, 2):
        assert passes(OLD, NEW, *covers, read(survivor, 110, 120))


def test_what_overwrote_a_flushed_write_may_be_gone_but_not_the_flushed_one() -> None:
    ops = [OLD, flush(12, 15), NEW]
    assert [passes(*ops, read(value, 110, 120)) for value in (2, 1, INITIAL)] == [True, True, False]


def test_a_survivor_concurrent_with_the_flushed_write_may_have_been_the_later_one() -> None:
    overlapping = [write(1, 0, 25), NEW, flush(40, 50)]
    assert passes(*overlapping, read(1, 110, 120))
    assert not passes(*overlapping, read(1, 26, 28), read(2, 32, 35), read(1, 110, 120))


def test_a_survivor_may_be_ruled_out_by_a_write_between() -> None:
    """1 ended inside the time in which 3 held the block, and 3 came before 2, which is durable."""
    around = [write(3, 0, 4), read(3, 18, 19), write(1, 2, 10)]
    late = read(1, 110, 120)
    assert passes(*around, write(2, 4, 30, fua=True), late)
    anomaly = only(crashed(*around, write(2, 6, 30, fua=True), late))
    assert (anomaly.kind, anomaly.ops) == ("durability-loss", (0, 2, 3, 1, 4))
    assert not passes(*around, write(4, 4, 4), write(2, 6, 30, fua=True), late)


def test_what_held_another_block_rules_out_no_survivor() -> None:
    other = [write(1, 0, 5), read(1, 90, 95), read(1, 110, 120)]
    late = [write(2, 10, 20, 1), write(3, 15, 30, 1, fua=True), read(2, 110, 120, 1)]
    assert passes(*other, *late)


def test_a_write_that_was_acknowledged_as_the_power_went_need_not_survive() -> None:
    cut = write(2, 90, CRASH, fua=True)
    assert passes(OLD, cut, read(2, 92, 95), read(1, 110, 120))
    assert not passes(OLD, cut._replace(finish=CRASH - 1), read(2, 92, 95), read(1, 110, 120))


def test_what_a_crash_cut_off_may_survive_or_not() -> None:
    for cut in (write(2, 90, None, outcome=INFO), write(2, 90, 130), write(2, 90, CRASH)):
        ops = [OLD, flush(20, 30), cut]
        assert passes(*ops, read(1, 140, 150))
        assert passes(*ops, read(2, 140, 150))
        assert passes(*ops, read(1, 104, 106), read(2, 140, 150)) == (cut.finish != CRASH)
        assert not passes(*ops, read(2, 140, 150), read(1, 160, 170))


def test_what_began_as_the_power_went_may_have_been_lost_with_it() -> None:
    for start, fine in ((CRASH, True), (CRASH + 1, False)):
        assert passes(OLD, write(2, start, 110), read(1, 120, 130)) == fine
        assert passes(write(2, start, 110), read(INITIAL, 120, 130)) == fine


def test_the_witness_holds_the_read_that_shows_when_a_cut_off_write_took_effect() -> None:
    ops = [write(1, 80, None, outcome=INFO), read(1, 90, 95), write(2, 110, 120), read(1, 130, 140)]
    assert only(crashed(*ops), Deadline.NEVER).ops == (0, 1, 2, 3)
    assert passes(ops[0], *ops[2:])


def test_a_read_under_way_at_a_crash_is_no_evidence_but_for_its_value() -> None:
    assert passes(OLD, NEW, read(1, 90, 110), read(2, 120, 130))
    assert only(crashed(OLD, NEW, read(7, 90, 110), read(2, 120, 130))).kind == "phantom"
    assert only(crashed(OLD, flush(20, 30), read(7, 110, 120), read(1, 130, 140))).kind == "phantom"


def test_a_write_that_ended_as_the_power_went_may_have_come_after_what_survived() -> None:
    cut = crashed(OLD, write(2, 90, CRASH), read(1, 104, 106), read(2, 140, 150))
    assert (only(cut).kind, only(cut).ops) == ("stale-read", (0, 1, 2, 3))


def test_two_survivors_of_one_crash_are_a_contradiction() -> None:
    anomaly = only(crashed(OLD, NEW, read(2, 110, 120), read(1, 130, 140)))
    assert (anomaly.kind, anomaly.ops) == ("split-survivor", (0, 1, 2, 3))
    assert "held 2 after the storage had lost power, and later 1" in anomaly.text
    again = [OLD, NEW, read(1, 110, 120), write(3, 130, 140), read(3, 141, 142)]
    assert only(crashed(*again, read(2, 150, 160))).kind == "split-survivor"


def test_a_value_that_one_crash_took_does_not_survive_the_next() -> None:
    ops = [OLD, NEW, read(1, 110, 120), read(2, 210, 220)]
    anomaly = only(crashed(*ops, crashes=(CRASH, 200)))
    assert (anomaly.kind, anomaly.ops) == ("split-survivor", (0, 1, 2, 3))
    assert passes(OLD, NEW, read(2, 110, 120), read(2, 210, 220), crashes=(CRASH, 200))


def test_a_survivor_is_asked_at_every_crash_that_it_lived_through() -> None:
    ops = [OLD, write(2, 110, 120), flush(130, 140), read(1, 210, 220)]
    anomaly = only(crashed(*ops, crashes=(CRASH, 200)))
    assert (anomaly.kind, anomaly.ops) == ("durability-loss", (0, 1, 2, 3))
    assert passes(OLD, write(2, 110, 120), read(1, 210, 220), crashes=(CRASH, 200))


def test_a_loss_may_be_seen_only_after_another_crash() -> None:
    ops = [OLD, NEW, flush(40, 50), read(1, 210, 220), flush(230, 240)]
    anomaly = only(crashed(*ops, crashes=(CRASH, 200)))
    assert (anomaly.kind, anomaly.ops) == ("durability-loss", (0, 1, 2, 3))


def test_between_crashes_each_block_is_still_an_atomic_register() -> None:
    before = crashed(OLD, NEW, read(1, 40, 50), read(2, 110, 120))
    assert (only(before).kind, only(before).ops) == ("lost-write", (0, 1, 2))
    after = crashed(OLD, NEW, read(1, 110, 120), write(3, 130, 140), read(1, 150, 160))
    assert (only(after).kind, only(after).ops) == ("lost-write", (0, 3, 4))
    assert "write 1 to block 0 survived a power loss, then write 3 was acknowledged" in only(after).text


def test_a_crash_closes_no_indeterminate_write_but_a_fence_does() -> None:
    late = [write(1, 0, 20, outcome=INFO), write(2, 110, 120), read(2, 130, 140), read(1, 150, 160)]
    found = crashed(*late)
    assert [check(found).deadlines[deadline] for deadline in Deadline][::2] == ["unknown", "fail"]
    assert check(replace(found, fences=(Fence(50),))).verdict == "fail"


def test_a_write_that_took_effect_unseen_is_judged_in_its_own_era() -> None:
    """1 was closed while 2 held the block, so the crash cannot have brought it back."""
    ops = [write(2, 0, 10), write(1, 20, 30, outcome=INFO), read(2, 60, 70), read(1, 110, 120)]
    anomaly = only(history(ops, [Fence(40)], crashes=[CRASH]))
    assert (anomaly.kind, anomaly.ops) == ("stale-overwrite", (0, 1, 2, 3))
    assert not judge(history(ops, [Fence(80)], crashes=[CRASH]), Deadline.FENCE).contradicts()


def test_there_is_an_era_before_each_crash_and_one_after_the_last() -> None:
    found = judge(crashed(OLD, read(1, 210, 220), crashes=(200, CRASH, CRASH)), Deadline.FENCE)
    assert [part.crashes for part, _ in found.parts] == [(), (Crash(CRASH, CRASH),), (Crash(200, 200),)]


def test_sparse_blocks_and_order_of_rows_do_not_matter() -> None:
    found = crashed(*(op._replace(block=2**62) for op in (OLD, NEW)), flush(40, 50), read(1, 110, 120, 2**62))
    rows = np.array([3, 2, 1, 0])
    shuffled = replace(found, **{name: getattr(found, name)[rows] for name in NAMES})
    assert only(shuffled).block == only(found).block == 2**62
    assert only(shuffled).ops == (3, 2, 1, 0)


def test_a_crash_that_could_not_have_shown_damage_is_unknown_and_says_why() -> None:
    flushed = check(crashed(OLD, NEW, flush(40, 50), read(2, 110, 120)))
    assert (flushed.verdict, flushed.reasons) == ("pass", ())
    unflushed = check(crashed(OLD, NEW, read(2, 110, 120)))
    assert unflushed.verdict == "unknown"
    assert unflushed.reasons == (NOTHING_FLUSHED,)
    unread = check(crashed(OLD, NEW, flush(40, 50), read(2, 60, 70)))
    assert unread.verdict == "unknown"
    assert unread.reasons == ("block 0 was not read after the storage had lost power",)


NOTHING_FLUSHED = "nothing was flushed before the storage lost power: no write had to survive"


def test_only_a_write_that_a_flush_covers_had_to_survive_a_crash() -> None:
    found = check(
        crashed(read(INITIAL, 0, 5), flush(10, 15), OLD._replace(start=20, finish=30), read(1, 110, 120))
    )
    assert found.reasons == (NOTHING_FLUSHED,)


def test_only_a_completed_read_after_the_last_crash_has_looked_at_what_it_left() -> None:
    flushed = [OLD, flush(20, 30)]
    unread = ("block 0 was not read after the storage had lost power",)
    assert check(crashed(*flushed, read(1, 110, 120, outcome=INFO), read(1, 40, 50))).reasons == unread
    assert check(crashed(*flushed, read(1, CRASH, 120), read(1, 40, 50))).reasons == unread
    between = [*flushed, read(1, 110, 120)]
    assert check(crashed(*between)).reasons == ()
    assert check(crashed(*between, crashes=(CRASH, 200))).reasons == unread
    rewritten = [*flushed, read(1, 40, 50), write(2, 110, 120), read(2, 115, 118)]
    assert check(crashed(*rewritten)).reasons == ("block 0 was never read after the last acknowledged write",)


def test_a_write_that_was_acknowledged_as_the_power_went_need_not_be_read_again() -> None:
    cut = write(2, 90, CRASH, block=1)
    found = check(crashed(OLD, flush(20, 30), cut, read(INITIAL, 100, 105, block=1), read(1, 110, 120)))
    assert found.reasons == ()


def test_the_graph_of_a_loss_shows_its_flush_and_no_order_with_it() -> None:
    found = crashed(OLD, NEW, flush(40, 50), read(1, 110, 120))
    graph = history_graph(found, only(found).to_json())
    assert graph.nodes[2]["label"] == "flush"
    conflicts = [(a, b) for a, b, data in graph.edges(data=True) if data["kind"] == "conflict"]
    assert sorted(conflicts) == [(0, 1), (1, 3)]
