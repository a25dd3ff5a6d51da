"""What a comparison says in words follows from its cells, and is never a bare "safe"."""

import itertools
import re

import pytest
from comparisons import MODELS, NO_COST, summary, table

from jepsen_blk.campaign.summary import Share
from jepsen_blk.report.comparison.bars import scale_of
from jepsen_blk.report.comparison.claims import claims_of, headline_of
from jepsen_blk.report.comparison.groups import groups_of, policies_of
from jepsen_blk.report.comparison.wording import counted, percent

NONE_OF_150 = "0 of 150 runs failed, so at most 6 % do in any cell (95 % confidence)"
NONE_OF_50 = "0 of 50 runs failed, so at most 6 % do (95 % confidence)"


@pytest.mark.parametrize(
    ("judgements", "standing", "said"),
    [
        ("sss", "safe", [f"is safe on every conflict model tried: {NONE_OF_150}."]),
        ("uuu", "unsafe", ["is unsafe on every conflict model tried: 120 of 150 runs failed there."]),
        (
            "uus",
            "unsafe",
            [
                "is unsafe on every conflict model but serialize: 80 of 100 runs failed there.",
                f"On serialize it is safe: {NONE_OF_50}.",
            ],
        ),
        (
            "son",
            "open",
            [
                f"is safe on arrival-order: {NONE_OF_50}.",
                "On ignore-second it is undecided: 0 of 20 runs failed, so at most 15 % do "
                "(95 % confidence); more runs are needed.",
                "On serialize it is unknown: none of 50 runs could be judged.",
            ],
        ),
    ],
)
def test_a_policy_is_said_to_be_what_its_cells_are(judgements, standing, said):
    (claim,) = claims_of(table("drain", judgements))
    assert (claim.policies, claim.standing, list(claim.said)) == (("drain",), standing, said)


def test_what_holds_on_some_frontends_only_is_said_of_these():
    cells = table("requeue", "uus") + table("requeue", "sus", frontend="blkfront", nemesis="migrate")
    (claim,) = claims_of(cells)
    assert claim.said[0].startswith("is unsafe on every conflict model but serialize, with qemu under lost-")
    assert (
        claim.said[2]
        == "With blkfront under migrate it is unsafe on ignore-second: 40 of 50 runs failed there."
    )
    (claim,) = claims_of(table("requeue", "uus") + table("requeue", "sus", frontend="blkfront"))
    assert claim.said[0].startswith("is unsafe on every conflict model but serialize, with qemu: ")
    (claim,) = claims_of(table("drain", "sss") + table("drain", "sss", nemesis="migrate", lab="local"))
    assert "tried, under lost-path-migration on lab sim and migrate on lab local: 0 of" in claim.said[0]
    many = [cell for number in range(4) for cell in table("drain", "sss", nemesis=f"n{number}")]
    assert "in all of 4 combinations of lab, frontend and nemesis: 0 of 600" in claims_of(many)[0].said[0]
    some = claims_of(many + table("drain", "uuu", nemesis="worse"))[0].said[0]
    assert "in 4 of 5 combinations of lab, frontend and nemesis: 0 of 600" in some
    (drain, _) = claims_of(table("drain", "sss") + table("requeue", "uuu", frontend="blkfront"))
    assert drain.said == (f"is safe on every conflict model tried, with qemu: {NONE_OF_150}.",)


def test_policies_that_are_judged_alike_everywhere_share_a_claim():
    cells = table("requeue", "uus") + table("preempt", "uus") + table("stonith", "uss")
    shared, alone = sorted(claims_of(cells), key=lambda claim: -len(claim.policies))
    assert (shared.who, alone.who) == ("requeue and preempt", "stonith")
    assert shared.said[0] == "are unsafe on every conflict model but serialize: 160 of 200 runs failed there."
    assert shared.said[1].startswith("On serialize they are safe: 0 of 100")


def test_stock_storage_is_no_conflict_model():
    cells = [summary("drain", storage) for storage in ("nbdkit-memory", "qemu-storage-daemon")]
    assert claims_of(cells)[0].said[0].startswith("is safe on every storage tried: ")


def test_the_headline_counts_policies_and_says_on_how_many_runs_safety_stands():
    cells = table("requeue", "uus") + table("drain", "sss") + table("epoch", "sso")
    assert headline_of(cells) == (
        f"drain: {NONE_OF_150}.",
        "1 of 3 policies is unsafe.",
        "1 of 3 policies is undecided.",
    )
    assert headline_of(table("requeue", "uuu")) == ("1 of 1 policies is unsafe.",)


def test_safe_is_never_said_without_the_runs_and_the_bound_behind_it():
    for first, second in itertools.product(itertools.product("suon", repeat=3), ("sss", "uso")):
        cells = table("drain", "".join(first)) + table("drain", second, frontend="blkfront")
        for sentence in (*claims_of(cells)[0].said, *headline_of(cells)):
            if re.search(r"\bsafe\b", sentence):
                assert re.search(r": 0 of \d+ runs failed, so at most \d+ % do", sentence), sentence


def test_the_bound_that_is_told_is_that_of_the_weakest_cell():
    weak = summary("drain", "serialize", failed=Share(0, 10, 0.0, 0.3))
    (claim,) = claims_of([*table("drain", "ss"), weak])
    assert "0 of 110 runs failed, so at most 30 % do in any cell" in claim.said[0]


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "0 %"),
        (0.0006, "0.06 %"),
        (0.05882, "5.9 %"),
        (0.0501, "5.1 %"),
        (0.991, "100 %"),
        (1.0, "100 %"),
    ],
)
def test_a_bound_is_rounded_up_never_down(share, said):
    assert percent(share, up=True) == said


def test_a_share_has_its_interval_and_nothing_seen_has_its_bound():
    assert counted(Share(40, 50, 0.67, 0.89)) == "40 of 50, 67 % to 89 %"
    assert counted(Share(0, 50, 0.0, 0.06)) == "0 of 50, at most 6 %"
    assert counted(Share(0, 0, 0.0, 1.0)) == "0 of 0"


def test_the_safest_policy_comes_first_and_of_these_the_quickest():
    slow = summary().cost.__class__(3000.0, 4000.0, None, None, None, None, None)
    cells = table("requeue", "uuu") + table("drain", "sss", cost=slow) + table("epoch", "sss")
    cells += table("quiesce", "sss", cost=NO_COST) + table("stonith", "uss")
    assert policies_of(cells) == ("epoch", "drain", "quiesce", "stonith", "requeue")


def test_a_figure_shows_a_policys_median_blackout_and_its_worst_on_one_scale():
    cost = type(NO_COST)
    cells = [
        summary("drain", model, cost=cost(p50, p99, None, None, None, over, None))
        for model, p50, p99, over in zip(
            MODELS, (10.0, 100.0, 1000.0), (20.0, 9000.0, 2000.0), (1, 2, 4), strict=True
        )
    ]
    (group,) = groups_of([*cells, *table("quiesce", "sss", cost=NO_COST)])
    drain = group.cost("drain")
    assert (drain.blackout_p50_ms, drain.blackout_p99_ms, drain.latency_overhead) == (100.0, 9000.0, 2)
    scale = scale_of([group])
    assert [name for _, name in scale.ticks] == ["100 ms", "1 s", "10 s"]
    bar = scale.bar(drain)
    assert (bar.left, round(bar.left + bar.width)) == (0.0, 98)
    assert scale.bar(group.cost("quiesce")) is None
    assert scale_of(groups_of(table("quiesce", "sss", cost=NO_COST))) is None
