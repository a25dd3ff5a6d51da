"""The rows on disk: what a killed or a full comparison leaves is whole again; and what they sum up to."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from campaign_rig import CELL, row

from jepsen_blk.campaign.budget import judge
from jepsen_blk.campaign.cells import Planned
from jepsen_blk.campaign.rowfile import ROWS, RowFile, read_rows
from jepsen_blk.campaign.rows import Cell
from jepsen_blk.campaign.summarize import Part, summarize
from jepsen_blk.errors import UserError
from jepsen_blk.spec import Spec


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("keep", [1, 40, -1])
def test_a_torn_last_line_is_cut_off_and_the_next_row_stands_on_a_line_of_its_own(
    tmp_path: Path, keep: int
) -> None:
    rows = RowFile(tmp_path)
    rows.append(row(0))
    whole = (tmp_path / ROWS).read_bytes()
    rows.append(row(1))
    rows.close()
    second = (tmp_path / ROWS).read_bytes()[len(whole) :]
    (tmp_path / ROWS).write_bytes(whole + second[:keep])
    with closing(RowFile(tmp_path)) as again:
        assert (tmp_path / ROWS).read_bytes() == whole
        again.append(row(2))
        assert [found.seed for found in again.read()] == [0, 2]


def test_a_damaged_line_is_passed_over(tmp_path: Path) -> None:
    rows = RowFile(tmp_path)
    for seed in range(3):
        rows.append(row(seed))
    rows.close()
    lines = (tmp_path / ROWS).read_bytes().splitlines(keepends=True)
    (tmp_path / ROWS).write_bytes(lines[0] + b"\0" * 30 + b"\n" + lines[2])
    assert [found.seed for found in read_rows(tmp_path / ROWS)] == [0, 2]


def test_a_full_disk_is_named_and_leaves_no_part_of_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: ExitStack
) -> None:
    rows = opened.enter_context(closing(RowFile(tmp_path)))
    rows.append(row(0))
    before = (tmp_path / ROWS).read_bytes()

    def no_room(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(UserError, match=r"rows.jsonl: cannot write: No space left.*the same command goes on"):
        rows.append(row(1))
    assert (tmp_path / ROWS).read_bytes() == before
    monkeypatch.undo()
    rows.append(row(1))
    assert [found.seed for found in rows.read()] == [0, 1]


def test_two_comparisons_do_not_write_into_one_folder(tmp_path: Path) -> None:
    first = RowFile(tmp_path)
    with pytest.raises(UserError, match="another comparison is running there"):
        RowFile(tmp_path)
    first.close()
    RowFile(tmp_path).close()


def test_rows_are_dropped_and_the_others_stay(tmp_path: Path, opened: ExitStack) -> None:
    rows = opened.enter_context(closing(RowFile(tmp_path)))
    for seed in range(4):
        rows.append(row(seed, verdict="unknown" if seed % 2 else "pass"))
    assert rows.drop(lambda found: found.verdict == "unknown") == 2
    rows.append(row(9))
    assert [found.seed for found in rows.read()] == [0, 2, 9]


def part(end: int = 100, **cell: str) -> Part:
    return Part(Planned(Cell(**{**_words(), **cell}), Spec(), ""), end, "")


def _words() -> dict[str, str]:
    return {name: getattr(CELL, name) for name in ("lab", "frontend", "storage", "policy", "nemesis")}


def summary(rows: list[Any], *parts: Part) -> Any:
    return summarize(rows, parts or [part()], 4, Path("out dir"))


def test_a_cell_is_told_with_its_shares_of_the_runs_that_were_judged() -> None:
    rows = [
        row(0),
        row(1, verdict="fail", anomalies={"stale": 2, "lost": 1}, run="runs/a/fail-seed-1", indeterminate=3),
        row(2, verdict="fail", anomalies={"stale": 1}, run="runs/a/fail-seed-2", migrations=2, reissues=5),
        row(3, verdict="unknown", reasons=("no write in flight", "and more")),
        row(4, verdict="unknown", error="its lab did not start"),
    ]
    [told] = summary(rows)
    assert (told.judgement, told.runs, told.unknown) == ("unsafe", 5, 2)
    assert (told.failed.count, told.failed.of) == (2, 3)
    assert {kind: (found.count, found.of) for kind, found in told.kinds.items()} == {
        "lost": (1, 3),
        "stale": (2, 3),
    }
    assert told.why_unknown == {"no write in flight": 1, "its lab did not start": 1}
    assert (told.migrations, told.in_flight, told.reissues, told.indeterminate) == (6, 5, 9, 3)
    assert (told.failing, told.passing) == ("runs/a/fail-seed-1", "")
    assert told.repeat == "jepsen-blk replay 'out dir/runs/a/fail-seed-1'"


def test_the_kept_run_of_the_least_seed_is_named_whichever_came_first() -> None:
    rows = [row(seed, run=f"runs/a/pass-seed-{seed}") for seed in (3, 1, 2)]
    [told] = summary(rows)
    assert (told.passing, told.repeat) == (
        "runs/a/pass-seed-1",
        "jepsen-blk replay 'out dir/runs/a/pass-seed-1'",
    )


def test_costs_are_those_of_the_median_run_and_ratios_to_the_same_cell_under_requeue() -> None:
    slow = Cell(**{**_words(), "policy": "drain"})
    rows = [row(seed, latencies_ms=(4.0, 8.0), ops_per_s=200.0, blackouts_ms=(10.0,)) for seed in range(3)]
    rows += [
        row(seed, cell=slow, latencies_ms=(6.0, 60.0), ops_per_s=100.0, blackouts_ms=(900.0, 20.0))
        for seed in range(3)
    ]
    base, drain = summary(rows, part(), part(policy="drain"))
    assert base.cost.latency_overhead == base.cost.throughput_overhead == 1.0
    assert drain.cost.latency_overhead == pytest.approx(1.5, rel=0.01)
    assert drain.cost.throughput_overhead == pytest.approx(0.5, rel=0.01)
    assert drain.cost.blackout_p50_ms == pytest.approx(20, rel=0.006)
    assert drain.cost.blackout_p99_ms == pytest.approx(900, rel=0.006)
    [alone] = summary(rows, part(policy="drain"))
    assert alone.cost.latency_overhead is None


def test_rows_of_another_cell_specification_or_batch_do_not_count() -> None:
    rows = [row(0), row(1, spec="other"), row(2, cell=Cell("sim", "qemu", "x", "y", "z")), row(7)]
    [told] = summary(rows, part(end=5))
    assert told.runs == 1


def test_reasons_without_end_are_summed_up() -> None:
    rows = [row(seed, verdict="unknown", reasons=(f"reason {seed}",)) for seed in range(50)]
    [told] = summary(rows)
    assert (len(told.why_unknown), told.why_unknown["other reasons"]) == (21, 30)


@pytest.mark.parametrize(
    ("passed", "failed", "unknown", "judgement"),
    [
        (0, 0, 0, "undecided"),
        (3, 0, 0, "undecided"),
        (4, 0, 0, "safe"),
        (4, 0, 1, "undecided"),
        (0, 0, 3, "unknown"),
        (9, 1, 3, "unsafe"),
    ],
)
def test_a_judgement_is_of_all_runs(passed: int, failed: int, unknown: int, judgement: str) -> None:
    assert judge(passed, failed, unknown, 4) == judgement
