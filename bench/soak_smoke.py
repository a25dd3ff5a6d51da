"""Random faults, many times: no false alarm where the storage is right, and the damage found where it is not.

`python bench/soak_smoke.py [COUNT] [--jobs N] [--out DIR] [--only MATRIX]` runs COUNT schedules, seeds 1 to
COUNT, of each matrix, every one as `jepsen-blk test` in a process and a store of its own:

    serialize       serialize + preempt-abort: must not fail
    ignore-second   ignore-second + requeue: must show the stale overwrite, and ends there

What came of each is a line of DIR/results.jsonl. Started again it goes on where it was interrupted; lines of
other specifications than today's do not count. The folder of a run that was not as it must be is kept. The
exit code is 0 if every run was made and the bars, printed at the end, are met.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from random_faults import random_spec, unoffered
from soak_run import BROKEN, HANG, Finished, Job, make_run

from jepsen_blk.spec import Spec, dump_spec

COUNT = 200
TIME_LIMIT_S = 20.0
BOUND_S = TIME_LIMIT_S + 80.0
"""A run that takes longer hangs: 20 s for the boot, 60 s for the last faults, the reading and the judging."""
LEAST_FOUND = 0.9
MOST_UNKNOWN = 0.05
WRITE_LATENCY_MS = 20.0
"""So long that writes are in flight whenever a guest moves, on a busy machine too."""
STALE = "stale-overwrite"
_LONGEST_REASON = 100


@dataclass(frozen=True, slots=True)
class Matrix:
    """One storage under one policy, and what must come of it."""

    conflict: str
    policy: str
    damages: bool
    """Whether the founding case must do damage here; then a run ends with it."""
    without: tuple[str, ...]
    """Faults that do damage on any storage under the policy."""

    def spec(self, seed: int, backing: Path, cannot: Iterable[str] = ()) -> Spec:
        """Return the specification of a seed."""
        test = {
            "name": self.conflict,
            "time_limit_s": TIME_LIMIT_S,
            "stop_on_fail": self.damages,
            "handoff": {"policy": self.policy},
        }
        storage = {"conflict": self.conflict, "backing": str(backing), "write_latency_ms": WRITE_LATENCY_MS}
        return random_spec(seed, test, storage, {*self.without, *cannot})


MATRICES = (
    Matrix("serialize", "preempt-abort", damages=False, without=("split-brain",)),
    Matrix("ignore-second", "requeue", damages=True, without=("split-brain", "failover", "orphan")),
)


def is_as_it_must(matrix: Matrix, run: Finished) -> bool:
    """Tell whether there is nothing to look at in a run."""
    wanted = STALE in run.kinds if matrix.damages else run.verdict == "pass"
    return wanted and not run.leftovers


class Results:
    """The lines of DIR/results.jsonl: those that are there, and each new one as soon as it is known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.runs: list[Finished] = []
        text = path.read_text() if path.is_file() else ""
        whole = text[: text.rfind("\n") + 1]
        for line in whole.splitlines():
            told = json.loads(line)
            for key in ("kinds", "reasons", "leftovers"):
                told[key] = tuple(told[key])
            self.runs.append(Finished(**told))
        if whole != text:  # cut off while it was written
            path.write_text(whole)

    def add(self, run: Finished) -> None:
        """Store a line; it is on the disk when this returns."""
        self.runs.append(run)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(run)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def of(self, jobs: Iterable[Job]) -> list[Finished]:
        """Return what is known of these jobs."""
        wanted = {job.key for job in jobs}
        found = {(run.matrix, run.seed, run.spec): run for run in self.runs}
        return [run for key, run in found.items() if key in wanted]


def make_jobs(matrices: Sequence[Matrix], count: int, out: Path, cannot: Iterable[str]) -> list[Job]:
    """Return every run, the matrices by turns, so that an estimate holds for what is left."""
    jobs = []
    for seed in range(1, count + 1):
        for matrix in matrices:
            folder = out / "runs" / f"{matrix.conflict}-{seed}"
            spec = matrix.spec(seed, folder / "disk", cannot)
            jobs.append(Job(matrix.conflict, seed, folder, dump_spec(spec), BOUND_S))
    return jobs


async def soak(jobs: Sequence[Job], results: Results, at_once: int) -> None:
    """Make the runs that are not known yet, `at_once` side by side; a line each, with what is left."""
    known = {(run.matrix, run.seed) for run in results.of(jobs)}
    todo = [job for job in jobs if (job.matrix, job.seed) not in known]
    if len(todo) < len(jobs):
        print(f"{len(jobs) - len(todo)} of {len(jobs)} runs are known already", flush=True)
    waiting = iter(todo)
    by_name = {matrix.conflict: matrix for matrix in MATRICES}
    begun, made = time.monotonic(), 0

    async def work() -> None:
        nonlocal made
        for job in waiting:
            run = await make_run(job)
            results.add(run)
            if is_as_it_must(by_name[job.matrix], run):
                shutil.rmtree(job.folder)
            made += 1
            left_s = (time.monotonic() - begun) / made * (len(todo) - made)
            what = ", ".join(run.kinds) or "-"
            print(
                f"[{len(jobs) - len(todo) + made:>3}/{len(jobs)}] {run.matrix:<14} seed {run.seed:>3}  "
                f"{run.verdict:<7} {what:<16} {run.proven}/{run.begun} faults  {run.seconds:>5.1f} s  "
                f"about {left_s / 60:.0f} min left",
                *(reason[:_LONGEST_REASON] for reason in (*run.reasons, *run.leftovers)),
                sep="\n            ",
                flush=True,
            )

    async with asyncio.TaskGroup() as workers:
        for _ in range(at_once):
            workers.create_task(work())


def judge(matrix: Matrix, runs: Sequence[Finished], count: int) -> list[str]:
    """Return the bars that a matrix does not meet."""
    missed = []
    verdicts = Counter(run.verdict for run in runs)
    if len(runs) < count:
        missed.append(f"{count - len(runs)} runs were not made")
    for verdict in (HANG, BROKEN):
        if verdicts[verdict]:
            missed.append(f"{verdicts[verdict]} ended as {verdict}")
    if leaving := sum(bool(run.leftovers) for run in runs):
        missed.append(f"{leaving} left something behind")
    if matrix.damages:
        found = sum(STALE in run.kinds for run in runs)
        if found < LEAST_FOUND * len(runs):
            missed.append(f"{found} of {len(runs)} found the stale overwrite, less than {LEAST_FOUND:.0%}")
        return missed
    if verdicts["fail"]:
        missed.append(f"{verdicts['fail']} false alarms")
    if verdicts["unknown"] > MOST_UNKNOWN * len(runs):
        missed.append(f"{verdicts['unknown']} of {len(runs)} unknown, more than {MOST_UNKNOWN:.0%}")
    return missed


def summarize(matrix: Matrix, runs: Sequence[Finished], count: int) -> bool:
    """Print what came of a matrix; tell whether it meets its bars."""
    verdicts = Counter(run.verdict for run in runs)
    kinds = Counter(kind for run in runs for kind in run.kinds)
    faults = [sum(column) for column in zip(*((r.begun, r.proven, r.healed) for r in runs), strict=True)]
    print(f"\n{matrix.conflict} + {matrix.policy}: {len(runs)} of {count} runs, {TIME_LIMIT_S:g} s each")
    print("  verdicts   ", ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()))
    print("  anomalies  ", ", ".join(f"{kind} in {count} runs" for kind, count in kinds.most_common()) or "-")
    if faults:
        print("  faults      {} begun, {} proven, {} healed".format(*faults))
    if matrix.damages and runs:
        found = sum(STALE in run.kinds for run in runs)
        print(f"  found       {found / len(runs):.1%} ({found}) found the stale overwrite")
    print("  leftovers  ", sum(bool(run.leftovers) for run in runs))
    for run in runs:
        if not is_as_it_must(matrix, run):
            print(f"  seed {run.seed}, {run.verdict}:", "; ".join((*run.reasons, *run.leftovers)) or "-")
    missed = judge(matrix, runs, count)
    print("  bars       ", "; ".join(missed) if missed else "met")
    return not missed


def main() -> int:
    """Run the soak and print its sums; after Ctrl-C those of what is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=COUNT)
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side (2)")
    parser.add_argument("--out", type=Path, default=Path("store/soak-smoke"), help="results and runs")
    parser.add_argument("--only", choices=[matrix.conflict for matrix in MATRICES], help="one matrix only")
    given = parser.parse_args()
    if given.count < 1 or given.jobs < 1:
        parser.error("COUNT and --jobs are 1 at least")
    matrices = [matrix for matrix in MATRICES if given.only in (None, matrix.conflict)]
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    cannot = asyncio.run(unoffered())
    for name, reason in cannot.items():
        print(f"without {name}: {reason}")
    jobs = make_jobs(matrices, given.count, out, cannot)
    results = Results(out / "results.jsonl")
    interrupted = False
    try:
        asyncio.run(soak(jobs, results, given.jobs))
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted; the same command goes on from here")
    known = results.of(jobs)
    met = [
        summarize(matrix, [run for run in known if run.matrix == matrix.conflict], given.count)
        for matrix in matrices
    ]
    return 130 if interrupted else 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
