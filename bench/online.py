"""How fast the online check in windows is, and that its memory does not grow with the history.

    python bench/online.py [MILLIONS] [BLOCKS] [OPS_PER_WINDOW] [--numpy | --stored SUFFIX]

Without arguments 1, 10 and 100 million operations by numba (the extra `fast`), 10 million by numpy's windows,
and 10 million from a journal on disk, each in a process of its own.

`--stored .blk` (or .jsonl, .parquet) writes the history to a file in a temporary folder and checks that from
disk, as `jepsen-blk check` does with what is larger than memory; another process makes the file, so that the
peak is the check's own.

A healthy history is made window by window, so that nothing ever holds the whole of it. Making it is not
counted; times are of the processor, up to 10 million operations the median of three rounds. One operation
begins each microsecond and takes up to 0.4 ms, so some two hundred are in flight.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from check import machine, status_kib

from jepsen_blk.capacity import Capacity, check_stored
from jepsen_blk.checker.engine import LEAST_OPS, Windows, choose_windows
from jepsen_blk.checker.windows import WindowChecker
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.formats import FORMS, write_history
from jepsen_blk.history.interchange import jsonl
from jepsen_blk.history.journal import JournalWriter
from jepsen_blk.history.parts import PART_ROWS
from jepsen_blk.history.record import ROW, F, History
from jepsen_blk.history.rows import concatenate

_LONGEST_NS = 200_000
_STEP_NS = 1000
_WRITTEN_AT_ONCE = 500_000


def make(ops: int, blocks: int, window: int) -> Iterator[History]:
    """Yield windows in order of completion; operations take effect in row order, each in its interval."""
    rng = np.random.default_rng(7)
    content = np.zeros(blocks, dtype=np.int64)
    left: dict[str, Any] = {}
    written = 0
    for low in range(0, ops, window):
        count = min(window, ops - low)
        write = rng.random(count) < 0.5
        block = rng.integers(0, blocks, count)
        value = np.where(write, written + np.cumsum(write), 0)
        written += int(np.count_nonzero(write))
        order = np.argsort(block, kind="stable")
        newest = np.maximum.accumulate(np.where(write[order], np.arange(count), -1))
        known = (newest >= 0) & (block[order][newest] == block[order])
        value[order] = np.where(known, value[order][newest], content[block[order]])
        content[block[order]] = value[order]
        effect = (low + np.arange(count, dtype=np.int64)) * _STEP_NS + _LONGEST_NS
        made: dict[str, Any] = {
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


def as_history(columns: dict[str, Any]) -> History:
    count = len(columns["f"])
    return History(
        outcome=np.zeros(count, dtype=np.uint8),
        process=np.zeros(count, dtype=np.int32),
        boot=np.zeros(count, dtype=np.int32),
        **columns,
    )


def store(path: Path, ops: int, blocks: int) -> None:
    """Write a history in the form of the suffix; only Parquet takes all of it in memory."""
    windows = make(ops, blocks, _WRITTEN_AT_ONCE)
    if path.suffix == ".blk":
        writer = JournalWriter(path)
        writer.note({"note": "open", "run": 1})
        for sequence, rows in enumerate(windows, 1):
            packed = np.zeros(len(rows), ROW)
            for name in ROW.names or ():
                packed[name] = getattr(rows, name)
            writer.rows(0, sequence, packed.tobytes())
        writer.note({"note": "bye", "boot": 0})
        writer.close()
    elif path.suffix == ".jsonl":
        with path.open("wb") as file:
            for rows in windows:
                file.writelines(jsonl(rows))
    else:
        write_history(concatenate(list(windows)), path)


def check_from_disk(ops: int, blocks: int, window: int, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"history{suffix}"
        maker = multiprocessing.Process(target=store, args=(path, ops, blocks))
        maker.start()
        maker.join()
        before, begin = status_kib("VmRSS"), time.process_time()
        capacity = Capacity(available_bytes=path.stat().st_size, part_rows=window)
        checked = check_stored(path, FORMS[suffix], Deadline.FENCE, capacity)
        seconds = time.process_time() - begin
        print(
            f"{ops / 1e6:g} M ops, {blocks} blocks, {suffix}, {path.stat().st_size >> 20} MiB, parts of "
            f"{window}: {seconds:.1f} s, {ops / seconds / 1e6:.2f} Mops/s, {checked.result.verdict}, "
            f"{status_kib('VmHWM') / 1024:.0f} MiB at most in the process, {before / 1024:.0f} at its start"
        )


def check_as_it_is_made(ops: int, blocks: int, window: int, kind: type[Windows]) -> None:
    check_once(100, 4, 50, kind)  # numba compiles, or loads what it compiled
    took = [check_once(ops, blocks, window, kind) for _ in range(3 if ops <= 10_000_000 else 1)]
    seconds, most_kept = statistics.median(seconds for seconds, _ in took), took[0][1]
    print(
        f"{kind.__name__}, {ops / 1e6:g} M ops, {blocks} blocks, windows of {window}: {seconds:.2f} s, "
        f"{ops / seconds / 1e6:.2f} Mops/s, at most {most_kept} clusters kept, "
        f"{status_kib('VmHWM') / 1024:.0f} MiB at most in the process"
    )


def check_once(ops: int, blocks: int, window: int, kind: type[Windows]) -> tuple[float, int]:
    """Return the processor time and the most clusters kept."""
    checker = kind(Deadline.FENCE, open_boots=(0,))
    seconds, most_kept = 0.0, 0
    for rows in make(ops, blocks, window):
        begin = time.process_time()
        alarms = checker.feed(rows, int(rows.finish[-1]) - 2 * _LONGEST_NS)
        seconds += time.process_time() - begin
        most_kept = max(most_kept, checker.kept)
        if alarms:
            raise SystemExit(f"a healthy history failed: {alarms[0]}")
    return seconds, most_kept


def whole_table() -> None:
    for given in (["1"], ["10"], ["100"], ["10", "--numpy"], ["10", "--stored", ".blk"]):
        subprocess.run([sys.executable, __file__, *given], check=True)


def main() -> None:
    if len(sys.argv) > 1:
        one_case()
    else:
        print(machine())
        whole_table()


def one_case() -> None:
    parser = argparse.ArgumentParser(description="measure the check in windows")
    parser.add_argument("millions", nargs="?", type=float, default=10)
    parser.add_argument("blocks", nargs="?", type=int, default=65536)
    parser.add_argument("window", nargs="?", type=int, default=PART_ROWS)
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--numpy", action="store_true")
    way.add_argument("--stored", metavar="SUFFIX", choices=(".blk", ".jsonl", ".parquet"))
    given = parser.parse_args()
    ops = int(given.millions * 1e6)
    if given.stored:
        check_from_disk(ops, given.blocks, given.window, given.stored)
    else:
        kind = WindowChecker if given.numpy else choose_windows(LEAST_OPS)
        check_as_it_is_made(ops, given.blocks, given.window, kind)


if __name__ == "__main__":
    main()
