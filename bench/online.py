"""How fast the online check in windows is, and that its memory does not grow with the history.

    python bench/online.py [MILLIONS] [BLOCKS] [OPS_PER_WINDOW]

A healthy history is made window by window, so that nothing ever holds the whole of it. Making it is not
counted; times are of the processor. One operation begins each microsecond and takes up to 0.4 ms, so some
two hundred are in flight.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np
from check import machine, status_kib

from jepsen_blk.checker.windows import WindowChecker
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import F, History

_LONGEST_NS = 200_000
_STEP_NS = 1000


def make(ops: int, blocks: int, window: int) -> Iterator[History]:
    """Yield windows in order of completion; operations take effect in row order, each in its interval."""
    rng = np.random.default_rng(7)
    content = np.zeros(blocks, dtype=np.int64)
    left, written = {}, 0
    for low in range(0, ops, window):
        count = min(window, ops - low)
        write = rng.random(count) < 0.5
        block = rng.integers(0, blocks, count)
        value = np.where(write, written + np.cumsum(write), 0)
        written += np.count_nonzero(write)
        order = np.argsort(block, kind="stable")
        newest = np.maximum.accumulate(np.where(write[order], np.arange(count), -1))
        known = (newest >= 0) & (block[order][newest] == block[order])
        value[order] = np.where(known, value[order][newest], content[block[order]])
        content[block[order]] = value[order]
        effect = (low + np.arange(count, dtype=np.int64)) * _STEP_NS + _LONGEST_NS
        made = {
            "f": np.where(write, F.WRITE, F.READ).astype(np.uint8),
            "block": block,
            "value": value,
            "start": effect - rng.integers(1, _LONGEST_NS, count),
            "finish": effect + rng.integers(1, _LONGEST_NS, count),
        }
        if left:
            made = {name: np.concatenate([left[name], made[name]]) for name in made}
        order = np.argsort(made["finish"], kind="stable")
        reported = len(order) if low + count == ops else np.searchsorted(made["finish"][order], effect[-1])
        left = {name: column[order[reported:]] for name, column in made.items()}
        yield as_history({name: column[order[:reported]] for name, column in made.items()})


def as_history(columns: dict[str, np.ndarray]) -> History:
    count = len(columns["f"])
    return History(
        outcome=np.zeros(count, dtype=np.uint8),
        process=np.zeros(count, dtype=np.int32),
        boot=np.zeros(count, dtype=np.int32),
        **columns,
    )


def main() -> None:
    ops = int(float(sys.argv[1]) * 1e6) if len(sys.argv) > 1 else 10_000_000
    blocks = int(sys.argv[2]) if len(sys.argv) > 2 else 65536
    window = int(sys.argv[3]) if len(sys.argv) > 3 else 500_000
    print(machine())
    checker = WindowChecker(Deadline.FENCE, open_boots=(0,))
    seconds, most_kept = 0.0, 0
    for rows in make(ops, blocks, window):
        begin = time.process_time()
        alarms = checker.feed(rows, int(rows.finish[-1]) - 2 * _LONGEST_NS)
        seconds += time.process_time() - begin
        most_kept = max(most_kept, checker.kept)
        if alarms:
            raise SystemExit(f"a healthy history failed: {alarms[0]}")
    print(
        f"{ops / 1e6:g} M ops, {blocks} blocks, windows of {window}: {seconds:.2f} s, "
        f"{ops / seconds / 1e6:.2f} Mops/s, at most {most_kept} clusters kept, "
        f"{status_kib('VmHWM') / 1024:.0f} MiB at most in the process"
    )


if __name__ == "__main__":
    main()
