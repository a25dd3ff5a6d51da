"""The demonstration under twenty seeds: every verdict as it must be, a write in flight at every migration.

`python bench/prove.py [SEEDS]` prints a line a run and a sum for each test; the exit code is 0 if every run
ended as it must. What is proven here once in a while, `make test` tries with one seed.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from jepsen_blk.controller import run_test
from jepsen_blk.demo import TESTS, demo_spec, is_as_told

SEEDS = 20


def prove(test: str, seeds: int, store: Path) -> bool:
    """Run one test of the demonstration with seeds 1 to `seeds` and print what came of it."""
    good, times_s, in_flight = 0, [], []
    for seed in range(1, seeds + 1):
        spec = demo_spec(test, seed)
        begun = time.monotonic()
        outcome = asyncio.run(run_test(spec, store))
        times_s.append(time.monotonic() - begun)
        results = outcome.results
        counts = [migration["in_flight"] for migration in results["migrations"]]
        in_flight += counts
        as_told = is_as_told(spec, results) and bool(counts) and min(counts) > 0
        good += as_told
        kinds = ", ".join(sorted({anomaly["kind"] for anomaly in results["anomalies"]})) or "-"
        line = f"{test:<10} seed {seed:>2}  {outcome.verdict:<7} {kinds:<16} in flight {counts}"
        print(f"{line}  {times_s[-1]:.1f} s", *results["reasons"], flush=True)
    print(
        f"{test:<10} {good}/{seeds} as they must be; in flight at {len(in_flight)} migrations: "
        f"min {min(in_flight)}, median {statistics.median(in_flight):g}, max {max(in_flight)}; "
        f"a run took {statistics.median(times_s):.1f} s (median), {max(times_s):.1f} s (longest)\n",
        flush=True,
    )
    return good == seeds


def main() -> int:
    """Prove the three tests; each shows its line as it ends."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
    with tempfile.TemporaryDirectory() as store:
        proven = [prove(test, seeds, Path(store)) for test in TESTS]
    return 0 if all(proven) else 1


if __name__ == "__main__":
    sys.exit(main())
