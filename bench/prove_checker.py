"""The checker against a search over all orders, on millions of small random histories.

`python bench/prove_checker.py [COUNT] [--seed FIRST] [--cores CORES]` prints its progress and each history
that the two judge differently, with what makes it again; the exit code is 0 if there is none. A seed makes
BATCH histories of 3 to 7 operations, each judged under all three deadlines. To go on where a run ended, give
the seed after the last one that it named. `make test` tries the same with other seeds; the oracle and its
definition are in tests/brute_force.py.
"""

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from brute_force import linearizable_rows, mismatches, small_histories

from jepsen_blk.deadline import Deadline

COUNT = 5_000_000
BATCH = 8192
FIRST_SEED = 1_000_000
SIZES = (3, 4, 5, 6, 6, 7, 7, 7)
SHOW_EVERY_S = 5.0


class Judged(NamedTuple):
    """One seed's histories: how many are linearizable under each deadline, and what was misjudged."""

    fine: tuple[int, ...]
    misjudged: list[str]


def judge(seed: int) -> Judged:
    """Make the histories of a seed and judge them both ways."""
    ops = SIZES[seed % len(SIZES)]
    small = small_histories(seed, BATCH, ops)
    fine, misjudged = [], []
    for deadline in Deadline:
        searched = linearizable_rows(small, deadline)
        fine.append(int(np.count_nonzero(searched)))
        misjudged += [
            f"misjudged under {deadline}: small_histories({seed}, {BATCH}, {ops}).alone({place})"
            for place in mismatches(small, deadline, searched)
        ]
    return Judged(tuple(fine), misjudged)


def prove(count: int, first: int, cores: int) -> bool:
    """Judge at least `count` histories from seed `first` on; tell whether all were judged alike."""
    seeds = range(first, first + -(-count // BATCH))
    begun = shown = time.monotonic()
    fine = np.zeros(len(Deadline), dtype=np.int64)
    done = wrong = 0
    with multiprocessing.Pool(cores) as pool:
        for judged in pool.imap(judge, seeds):
            done += 1
            fine += judged.fine
            wrong += len(judged.misjudged)
            for line in judged.misjudged:
                print(line, flush=True)
            if time.monotonic() - shown > SHOW_EVERY_S:
                shown = time.monotonic()
                at = f"seeds {first} to {first + done - 1}: {done * BATCH:,} histories"
                print(f"{at} in {shown - begun:.0f} s, {wrong} misjudged", flush=True)
    histories = done * BATCH
    shares = ", ".join(f"{n / histories:.1%} under {d}" for n, d in zip(fine.tolist(), Deadline, strict=True))
    print(
        f"seeds {first} to {seeds[-1]}: {histories:,} histories under {len(Deadline)} deadlines in "
        f"{time.monotonic() - begun:.0f} s by {cores} processes; linearizable: {shares}; {wrong} misjudged"
    )
    return wrong == 0


def main() -> int:
    """Read the command line and prove."""
    parser = argparse.ArgumentParser(description="Hold the checker against a search over all orders.")
    parser.add_argument("count", nargs="?", type=int, default=COUNT, help="histories (default %(default)s)")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="first seed (default %(default)s)")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="processes (default: all)")
    given = parser.parse_args()
    if given.count < 1 or given.seed < 0 or given.cores < 1:
        parser.error("COUNT and --cores must be at least 1, --seed at least 0")
    return 0 if prove(given.count, given.seed, given.cores) else 1


if __name__ == "__main__":
    sys.exit(main())
