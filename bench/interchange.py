"""How many operations a second of the processor each stored form is read and written at.

    python bench/interchange.py [THOUSANDS]

The history is one a sequential tester would make: times grow, every write has its own value, one operation
in a hundred never ended, and lines are in order of completion.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from check import machine, status_kib

from jepsen_blk.history.formats import read_history, write_history
from jepsen_blk.history.record import PENDING, F, History, Outcome

BLOCKS = 65536
PROCESSES = 16


def make(ops: int) -> History:
    rng = np.random.default_rng(7)
    row = np.arange(ops, dtype=np.int64)
    writes = rng.random(ops) < 0.5
    lost = rng.random(ops) < 0.01
    start = row * 1000 + 1
    return History(
        f=np.where(writes, F.WRITE, F.READ).astype(np.uint8),
        outcome=np.where(lost, Outcome.INFO, Outcome.OK).astype(np.uint8),
        process=(row % PROCESSES).astype(np.int32),
        boot=np.zeros(ops, np.int32),
        block=rng.integers(0, BLOCKS, ops),
        value=np.where(writes, row + 1, 0),
        start=start,
        finish=np.where(lost, PENDING, start + rng.integers(1, 1000 * PROCESSES - 1, ops)),
    )


def measure(history: History, path: Path) -> None:
    begin = time.process_time()
    write_history(history, path)
    written = time.process_time()
    before = status_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    back = read_history(path).history
    ended = time.process_time()
    peak = (status_kib("VmHWM") - before) * 1024
    ops = len(back)
    print(
        f"{path.suffix[1:]:8} read {ops / (ended - written) / 1e3:7.0f} k/s, peak {peak / ops:4.0f} B/op; "
        f"write {ops / (written - begin) / 1e3:7.0f} k/s, {path.stat().st_size / ops:4.0f} B/op on disk"
    )


def main() -> None:
    ops = int(sys.argv[1]) * 1000 if len(sys.argv) > 1 else 1_000_000
    print(machine())
    history = make(ops)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("jsonl", "edn", "parquet"):
            measure(history, Path(folder) / f"history.{suffix}")


if __name__ == "__main__":
    main()
