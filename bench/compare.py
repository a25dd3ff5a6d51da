"""The truth table (3 frontends x 5 conflict models x 9 policies, 100 seeds) on the simulator, and its memory.

Bars: the whole table in under 5 minutes on 2 cores, early stopping on; memory that does not grow with the
runs. For the second a comparison of 10,000 runs goes through the engine, its rows onto disk and through the
summary, without the runs themselves: what they take is gone with each.
"""

import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from jepsen_blk.campaign.cells import plan_cells
from jepsen_blk.campaign.matrix import built_in_matrix, load_matrix
from jepsen_blk.campaign.pools import ProcessPool
from jepsen_blk.campaign.rowfile import ROWS, read_rows
from jepsen_blk.campaign.rows import Row
from jepsen_blk.campaign.session import Comparison, compare
from jepsen_blk.campaign.worker import Job, Made, make_run

JOBS = 2
ROWS_LOOKED_AT = (1_000, 10_000)


class Silent:
    def __init__(self) -> None:
        self.count = 0
        self.rss_mb: dict[int, float] = {}

    def begin(self, *_about: Any) -> None:
        pass

    def row(self, _row: Row) -> None:
        self.count += 1
        if self.count in ROWS_LOOKED_AT:
            self.rss_mb[self.count] = rss_mb()

    def decided(self, *_about: Any) -> None:
        pass


class Repeating:
    """A pool that has made one run and gives it for each."""

    width = JOBS

    def __init__(self) -> None:
        self._made: Row | None = None

    def submit(self, job: Job) -> Future[Made]:
        made = self._made = self._made or make_run(job).row
        future: Future[Made] = Future()
        fields = {name: getattr(made, name) for name in made.__dataclass_fields__}
        told = {"cell": job.cell, "seed": job.spec.seed, "spec": job.digest, "verdict": "pass"}
        future.set_result(Made(Row(**{**fields, **told})))
        return future

    def give_up(self, stuck: Collection[Future[Made]]) -> None:
        pass

    def close(self) -> None:
        pass


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def table(folder: Path, **changes: Any) -> Comparison:
    matrix = load_matrix(built_in_matrix("truth-table"), changes)
    cells, skipped = plan_cells(matrix)
    return Comparison(matrix, cells, skipped, folder, "bench")


def truth_table(folder: Path) -> None:
    before, begin, cpu = os.getloadavg()[0], time.perf_counter(), os.times()
    summaries = compare(table(folder), lambda: ProcessPool(JOBS), Silent())
    took_s, after = time.perf_counter() - begin, os.times()
    used_s = sum(after[:4]) - sum(cpu[:4])
    runs = sum(summary.runs for summary in summaries)
    counts = Counter(summary.judgement for summary in summaries)
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"truth table: {len(summaries)} cells, {runs} runs in {took_s:.0f} s with {JOBS} jobs: {told}")
    print(f"  {used_s:.0f} s of processor time, {1e3 * used_s / runs:.0f} ms a run; load before {before:.1f}")
    rows = sum(1 for _ in read_rows(folder / ROWS))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"  {rows} rows, {size / 1e6:.0f} MB with the runs that were kept")


def memory(folder: Path) -> None:
    show = Silent()
    compare(table(folder, seeds=75), Repeating, show)
    few, many = (show.rss_mb[count] for count in ROWS_LOOKED_AT)
    print(f"memory: {few:.1f} MB at 1,000 rows, {many:.1f} MB at 10,000, {rss_mb():.1f} MB at the end")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        memory(Path(folder) / "memory")
        truth_table(Path(folder) / "table")


if __name__ == "__main__":
    main()
