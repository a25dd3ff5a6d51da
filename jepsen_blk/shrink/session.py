"""One call of `jepsen-blk shrink`: on a real lab, and with the smallest test written however it ends."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from jepsen_blk.controller import run_test
from jepsen_blk.errors import EXIT_PASS, EXIT_UNKNOWN, JepsenBlkError
from jepsen_blk.lab.choose import run_in_time_of
from jepsen_blk.report.shrinking import print_shrunk, show_shrinking
from jepsen_blk.report.view import View
from jepsen_blk.shrink.budget import Budget
from jepsen_blk.shrink.driver import Run, Shrinker
from jepsen_blk.shrink.record import Ran, Record, open_record
from jepsen_blk.shrink.subject import Subject
from jepsen_blk.shrink.written import Shrunk, write_shrunk
from jepsen_blk.spec import Spec, dump_brief_spec

FOLDER = "shrink"
"""In the directory of the run."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done: attempts of each candidate within the budget, and runs to confirm the smallest."""

    attempts: int
    confirm: int
    budget: Budget


def shrink_run(subject: Subject, out: Path, effort: Effort, console: Console, run: Run | None = None) -> int:
    """Shrink a run and write the smallest test to `out`; return the exit code.

    `run` takes the place of the lab. What is interrupted, or ended by an error, writes the smallest so far.
    Raises UserError where nothing can be written, and as `run_test` does.
    """
    with open_record(subject.run_dir / FOLDER) as record, show_shrinking(console) as view:
        view.begin(
            str(subject.run_dir),
            sorted(subject.kinds),
            subject.plan.count,
            effort.budget.told,
            record.count,
        )
        on_lab = run or lab_runner(record.runs_dir, view)
        work = Shrinker(
            subject.forms, subject.kinds, on_lab, record, effort.budget, view, attempts=effort.attempts
        )
        again = f"`jepsen-blk shrink {shlex.quote(str(subject.run_dir))}` goes on"
        try:
            run_in_time_of(subject.spec, _shrink(work, effort.confirm))
        except (KeyboardInterrupt, JepsenBlkError) as error:
            view.close()
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else "ended by an error"
            _write(work, record, subject, out, f"{why}; {again}", console)
            raise
        view.close()
        ended = (
            "nothing more could be left out"
            if work.done
            else f"the budget of {effort.budget.told} is spent; {again}"
        )
        return _write(work, record, subject, out, ended, console)


def lab_runner(store: Path, view: View) -> Run:
    """Return what runs a candidate on the lab, in `store`; raises as `run_test` does."""

    async def run(spec: Spec) -> Ran:
        outcome = await run_test(spec, store, view=view)
        kinds = dict.fromkeys(str(anomaly["kind"]) for anomaly in outcome.results["anomalies"])
        duration_s = float(outcome.results["duration_s"])
        return Ran(outcome.verdict, tuple(kinds), duration_s, str(outcome.run_dir.relative_to(store)))

    return run


async def _shrink(work: Shrinker, confirm: int) -> None:
    await work.shrink()
    await work.confirm(confirm)


def _write(work: Shrinker, record: Record, subject: Subject, out: Path, ended: str, console: Console) -> int:
    """Write the smallest and say what it is; return the exit code."""
    smallest = work.smallest
    if smallest is None:
        console.print(f"the run did not fail again, so nothing was written; {ended}", soft_wrap=True)
        return EXIT_UNKNOWN
    failed, confirmed = work.confirmed
    shrunk = Shrunk(
        run_dir=subject.run_dir,
        spec=smallest.spec,
        kinds=smallest.ran.kinds,
        faults=smallest.candidate.count,
        planned=subject.plan.count,
        runs=record.count,
        failed=failed,
        confirmed=confirmed,
        ended=ended,
    )
    write_shrunk(shrunk, out)
    print_shrunk(
        shrunk.headline, dump_brief_spec(shrunk.spec), shrunk.found, out, record.path(smallest.ran), console
    )
    return EXIT_UNKNOWN if confirmed and not failed else EXIT_PASS
