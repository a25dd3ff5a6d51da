"""The engine: runs in worker processes, and what befalls one of them costs no other."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from campaign_rig import Quiet, ScriptedPool, comparison, results, row

from jepsen_blk.campaign.budget import Budget
from jepsen_blk.campaign.engine import Engine
from jepsen_blk.campaign.pools import ProcessPool
from jepsen_blk.campaign.rowfile import ROWS, RowFile, read_rows
from jepsen_blk.campaign.rows import Cell, Row
from jepsen_blk.campaign.session import compare
from jepsen_blk.campaign.worker import Job, make_run
from jepsen_blk.errors import UserError
from jepsen_blk.judge import judge_run
from jepsen_blk.spec import make_spec

ROOT = Path(__file__).parent.parent


def passes(job: Job) -> Row:
    return row(job.spec.seed, cell=job.cell, spec=job.digest)


def test_a_comparison_finds_which_policy_loses_writes_and_keeps_a_run_of_each(tmp_path: Path) -> None:
    show = Quiet()
    unsafe, safe = compare(comparison(tmp_path / "out"), lambda: ProcessPool(2), show)
    assert (unsafe.judgement, list(unsafe.kinds), unsafe.runs) == ("unsafe", ["stale-overwrite"], 5)
    assert (safe.judgement, safe.runs, safe.passing[-11:]) == ("safe", 6, "pass-seed-0")
    assert unsafe.cost.blackout_p50_ms is not None
    assert unsafe.cost.latency_p50_ms is not None
    assert 10 < unsafe.cost.latency_p50_ms < 20
    assert [why.partition(":")[0] for _, why in show.decisions] == ["unsafe", "safe"]
    failed = judge_run(tmp_path / "out" / unsafe.failing)
    assert [anomaly["kind"] for anomaly in failed["anomalies"]] == ["stale-overwrite"]
    told = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [cell["judgement"] for cell in told["cells"]] == ["unsafe", "safe"]
    assert (told["name"], told["command"]) == ("small", "jepsen-blk compare small.toml")


def test_a_policy_that_keeps_the_guest_stopped_is_seen_to_cost_throughput() -> None:
    fault = {"fault": "lost-path-migration", "options": {"hold_max_s": 0.5}}
    rates = {}
    for policy in ("requeue", "quiesce"):
        spec = make_spec({"lab": "sim", "handoff": {"policy": policy}, "nemesis": [fault]})
        cell = Cell("sim", "qemu", "arrival-order", policy, "lost-path-migration")
        rates[policy] = make_run(Job(cell, spec, "digest", frozenset(), 60)).row.ops_per_s
    assert 0 < rates["quiesce"] < rates["requeue"] / 2


def test_a_worker_killed_in_the_middle_loses_no_run(tmp_path: Path) -> None:
    pools: list[ProcessPool] = []

    def open_pool() -> ProcessPool:
        pools.append(ProcessPool(2))
        return pools[0]

    def kill_one(rows: int) -> None:
        if rows == 2:
            os.kill(pools[0].workers()[0], signal.SIGKILL)

    show = Quiet(kill_one)
    compare(comparison(tmp_path / "killed"), open_pool, show)
    assert [found.error for found in show.rows] == [""] * 11
    compare(comparison(tmp_path / "whole"), lambda: ProcessPool(1), Quiet())
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


def test_an_interrupted_comparison_is_summarized_and_goes_on_where_it_was(tmp_path: Path) -> None:
    def interrupt(rows: int) -> None:
        if rows == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(comparison(tmp_path / "out"), lambda: ProcessPool(1), Quiet(interrupt))
    told = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert sum(cell["runs"] for cell in told["cells"]) == 4
    show = Quiet()
    compare(comparison(tmp_path / "out"), lambda: ProcessPool(1), show)
    assert len(show.rows) == 11 - 4
    compare(comparison(tmp_path / "whole"), lambda: ProcessPool(1), Quiet())
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    assert told["begun"] == json.loads((tmp_path / "out" / "comparison.json").read_text())["begun"]


@pytest.mark.parametrize(("rerun", "again"), [("unknown", 2), ("failed", 1), ("all", 12), ("none", 0)])
def test_runs_of_a_verdict_are_made_again_on_demand(tmp_path: Path, rerun: Any, again: int) -> None:
    verdicts = {0: "unknown", 1: "unknown", 2: "fail"}

    def first(job: Job) -> Row:
        bad = job.cell.policy == "requeue"
        return replace(passes(job), verdict=verdicts.get(job.spec.seed, "pass") if bad else "pass")  # type: ignore[arg-type]

    once = comparison(tmp_path, stop={"failures": 2}, runs=12)
    compare(once, lambda: ScriptedPool(first), Quiet())
    show = Quiet()
    told = compare(once, lambda: ScriptedPool(passes), show, rerun)
    assert len(show.rows) == again
    assert told[0].runs == 6
    seeds = Counter((found.cell, found.seed) for found in read_rows(tmp_path / ROWS))
    assert set(seeds.values()) == {1}


def test_rows_of_another_specification_are_not_taken_for_those_of_this_one(tmp_path: Path) -> None:
    compare(comparison(tmp_path), lambda: ScriptedPool(passes), Quiet())
    show = Quiet()
    base = {"workload": {"queue_depth": 7}}
    compare(comparison(tmp_path, base=base), lambda: ScriptedPool(passes), show)
    assert len(show.rows) == 12


def test_a_run_that_always_kills_its_worker_is_a_row_that_says_so_and_takes_no_other_along(
    tmp_path: Path,
) -> None:
    def answer(job: Job) -> Row | BaseException:
        deadly = (job.cell.policy, job.spec.seed) == ("preempt-abort", 1)
        return BrokenProcessPool("a child process was terminated") if deadly else passes(job)

    pool, show = ScriptedPool(answer), Quiet()
    compare(comparison(tmp_path), lambda: pool, show)
    assert Counter((job.cell, job.spec.seed) for job in pool.submitted).most_common(1)[0][1] == 3
    errors = [found.error for found in show.rows if found.error]
    assert errors == ["its worker was lost 3 times: a child process was terminated"]
    assert len({(found.cell, found.seed) for found in show.rows}) == len(show.rows) >= 12
    assert pool.closed.is_set()


def test_a_run_that_never_answers_is_given_up_and_the_rest_goes_on(tmp_path: Path) -> None:
    def answer(job: Job) -> Row | None:
        return None if (job.cell.policy, job.spec.seed) == ("requeue", 3) else passes(job)

    pool, show, hours = ScriptedPool(answer), Quiet(), iter(range(0, 10**9, 3600))
    asked = comparison(tmp_path)
    budget = Budget(asked.matrix, len(asked.cells))
    budget.begin()
    with closing(RowFile(tmp_path)) as rows:
        engine = Engine(asked.cells, budget, pool, rows, tmp_path, 60.0, show, lambda: float(next(hours)))
        engine.run()
    assert [(job.cell.policy, job.spec.seed) for job in pool.given_up][:1] == [("requeue", 3)]
    assert [found.error for found in show.rows if found.error] == [
        "its worker did not answer in 150 s; it was given up"
    ]
    assert {found.seed for found in show.rows if found.cell.policy == "preempt-abort"} == set(range(6))


def test_a_lab_that_does_not_start_is_named_in_the_rows_of_its_cell_alone(tmp_path: Path) -> None:
    def answer(job: Job) -> Row:
        spec = job.spec
        if job.cell.policy == "requeue":
            spec = spec.model_copy(
                update={"storage": spec.storage.model_copy(update={"backing": Path("/x")})}
            )
        return make_run(replace(job, spec=spec)).row

    requeue, other = compare(comparison(tmp_path), lambda: ScriptedPool(answer), Quiet())
    assert (requeue.judgement, requeue.runs, other.judgement) == ("unknown", 5, "safe")
    [why] = requeue.why_unknown
    assert why.startswith("UserError: lab 'sim' cannot do storage.backing")
    assert requeue.decided == "unknown: none of 5 runs could be judged, and after 5 it is given up"


def test_a_full_disk_ends_the_comparison_with_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = RowFile.append

    def full(self: RowFile, item: Row) -> None:
        if item.seed == 3:
            raise UserError("rows.jsonl: cannot write: No space left on device")
        append(self, item)

    monkeypatch.setattr(RowFile, "append", full)
    with pytest.raises(UserError, match="No space left"):
        compare(comparison(tmp_path), lambda: ScriptedPool(passes), Quiet())
    told = json.loads((tmp_path / "comparison.json").read_text())
    assert sum(cell["runs"] for cell in told["cells"]) == 3
    monkeypatch.undo()
    show = Quiet()
    compare(comparison(tmp_path), lambda: ScriptedPool(passes), show)
    assert len(show.rows) == 12 - 3


def test_workers_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    code = (
        "import sys, time; sys.path.insert(0, 'tests')\n"
        "from campaign_rig import *; from jepsen_blk.campaign.pools import ProcessPool\n"
        "from jepsen_blk.campaign.session import compare\n"
        "def main():\n"
        "    pools = []\n"
        "    def pool(): pools.append(ProcessPool(2)); return pools[0]\n"
        "    def at(rows):\n"
        "        print(*pools[0].workers(), flush=True)\n"
        "        time.sleep(600)\n"
        "    compare(comparison(Path(sys.argv[1])), pool, Quiet(at))\n"
        "if __name__ == '__main__': main()\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    argv = [sys.executable, str(script), str(tmp_path / "out")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT) as parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        assert len(workers) == 2
        parent.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/exe").exists() and _runs(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_runs_leave_no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    compare(comparison(tmp_path / "out"), lambda: ProcessPool(1), Quiet())
    assert list((tmp_path / "tmp").iterdir()) == []
