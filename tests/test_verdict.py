"""Pass, fail or unknown: a contradiction is a fail, and what could not have shown one is never a pass."""

from __future__ import annotations

import json

import pytest
from histories import INFO, Op, atomic, flush, history, read, write

from jepsen_blk.checker import verdict
from jepsen_blk.checker.lost_tail import adopt_lost_tails
from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import PENDING, F, Fence, Outcome
from jepsen_blk.stamp import SEQUENCE_BITS

BOOT1 = 1 << SEQUENCE_BITS
ZOMBIE = [write(1, 0, 5, outcome=INFO), write(2, 10, 20), read(2, 30, 35), read(1, 40, 45)]


def test_a_healthy_history_passes_under_every_deadline() -> None:
    result = check(atomic(1, ops=3000, blocks=10, closed=True), "error")
    assert result.verdict == "pass"
    assert result.deadlines == dict.fromkeys(Deadline, "pass")
    assert result.ops == 3010
    assert result.reasons == ()


def test_an_empty_history_is_unknown() -> None:
    result = check(history([]))
    assert result.verdict == "unknown"
    assert "empty" in result.reasons[0]


@pytest.mark.parametrize(
    ("ops", "reason"),
    [
        ([write(1, 0, 5, block=3)], "no read was completed"),
        ([read(0, 0, 5)], "no write"),
        ([write(1, 0, 5, block=3), read(1, 1, 4, block=3)], "block 3 was never read after"),
        (
            [write(n + 1, 0, 5, block=n) for n in range(8)] + [read(1, 1, 4)],
            "8 blocks (0, 1, 2, 3, 4, 5, 6, 7) were never read after",
        ),
        (
            [write(n + 1, 0, 5, block=n) for n in range(9)] + [read(1, 1, 4)],
            "9 blocks (0, 1, 2, 3, 4, 5, 6, 7, ...) were never read after",
        ),
    ],
)
def test_what_could_not_have_shown_damage_is_unknown(ops: list[Op], reason: str) -> None:
    result = check(history(ops))
    assert result.verdict == "unknown"
    assert any(reason in shown for shown in result.reasons)


def test_writes_and_reads_may_lie_far_apart_in_a_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "_SLICE", 1)
    assert check(history([flush(0, 1), write(1, 0, 5), read(1, 10, 15)])).verdict == "pass"


def test_a_fail_stays_a_fail_though_blocks_were_not_read() -> None:
    result = check(history([write(1, 0, 5), write(2, 10, 20), read(1, 30, 35), write(3, 0, 5, block=9)]))
    assert result.verdict == "fail"
    assert "block 9" in result.reasons[0]


def test_an_indeterminate_write_that_nobody_saw_proves_nothing() -> None:
    assert check(history([write(1, 0, None, outcome=INFO), read(0, 30, 35)])).verdict == "pass"


@pytest.mark.parametrize(
    ("fences", "verdicts"), [((), ["pass", "pass", "fail"]), ((Fence(8),), ["pass", "fail", "fail"])]
)
@pytest.mark.parametrize("deadline", list(Deadline))
def test_the_verdict_is_given_under_each_deadline(
    deadline: Deadline, fences: tuple[Fence, ...], verdicts: list[str]
) -> None:
    result = check(history(ZOMBIE, fences), deadline)
    assert list(result.deadlines.values()) == verdicts
    assert result.verdict == verdicts[list(Deadline).index(deadline)]
    assert bool(result.anomalies) == (result.verdict == "fail")


def test_an_unknown_deadline_is_refused() -> None:
    with pytest.raises(ValueError, match="soon"):
        check(history([]), "soon")


def test_the_json_is_the_contracts_object() -> None:
    shown = json.loads(json.dumps(check(history(ZOMBIE, [Fence(8)]), "fence").to_json()))
    assert set(shown) == {"verdict", "deadline", "ops", "anomalies", "reasons", "deadlines"}
    assert (shown["verdict"], shown["deadline"], shown["ops"], shown["reasons"]) == ("fail", "fence", 4, [])
    assert shown["deadlines"] == {"never": "pass", "fence": "fail", "error": "fail"}
    (anomaly,) = shown["anomalies"]
    assert set(anomaly) == {"kind", "block", "ops", "severity_ms", "text", "could_be"}
    assert (anomaly["kind"], anomaly["block"], anomaly["ops"]) == ("fenced-zombie", 0, [0, 1, 3])


def test_a_power_loss_excuses_what_was_not_flushed_and_nothing_before_it() -> None:
    lost = [write(1, 0, 10), read(1, 11, 12), flush(13, 14), write(2, 20, 30), read(1, 60, 70)]
    assert check(history(lost)).verdict == "fail"
    assert check(history(lost, crashes=[50])).verdict == "pass"
    assert check(history([*lost, read(1, 40, 45)], crashes=[50])).verdict == "fail"
    assert check(history([*lost, flush(35, 40)], crashes=[50])).verdict == "fail"


def test_a_value_of_a_lost_tail_is_adopted_as_an_indeterminate_write() -> None:
    ops = [
        write(BOOT1 + 1, 100, 110, boot=1),
        write(BOOT1 + 2, 105, 120, boot=1),
        write(BOOT1 + 9, 900, 910, boot=1),
        read(BOOT1 + 5, 1000, 1010, block=4),
        read(BOOT1 + 5, 1020, 1030, block=4),
    ]
    given = history(ops, lost_tails=[1])
    adopted = adopt_lost_tails(given)
    assert len(adopted) == 6
    row = {
        name: int(getattr(adopted, name)[5]) for name in ("f", "outcome", "boot", "block", "value", "start")
    }
    assert row == {
        "f": F.WRITE,
        "outcome": Outcome.INFO,
        "boot": 1,
        "block": 4,
        "value": BOOT1 + 5,
        "start": 105,
    }
    assert adopted.finish[5] == PENDING
    assert adopted.line is not None
    assert adopted.line.tolist() == [0, 1, 2, 3, 4, -1]
    assert adopt_lost_tails(adopted) is adopted


def test_an_adopted_write_without_smaller_reported_ones_may_have_begun_at_any_time() -> None:
    adopted = adopt_lost_tails(history([read(BOOT1 + 5, 1000, 1010)], lost_tails=[1]))
    assert adopted.start[1] == 0


def test_a_value_of_a_boot_that_ended_in_order_is_a_phantom() -> None:
    ops = [write(BOOT1 + 1, 0, 5, boot=1), read(BOOT1 + 2, 10, 15), read(BOOT1 + 1, 20, 25)]
    assert [found.kind for found in check(history(ops)).anomalies] == ["phantom"]
    assert check(history(ops, lost_tails=[2])).verdict == "fail"
    assert check(history(ops, lost_tails=[1])).deadlines[Deadline.NEVER] == "fail"  # seen, then gone


def test_a_fence_closes_an_adopted_write_and_the_witness_names_only_lines_of_the_file() -> None:
    ops = [write(1, 20, 30), read(1, 40, 50), read(BOOT1 + 5, 60, 70)]
    given = history(ops, [Fence(10, boot=1)], lost_tails=[1])
    result = check(given)
    assert list(result.deadlines.values()) == ["pass", "fail", "fail"]
    (anomaly,) = result.anomalies
    assert (anomaly.kind, anomaly.ops) == ("fenced-zombie", (0, 2))
    assert "never reported" in anomaly.text
