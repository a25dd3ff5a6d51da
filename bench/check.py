"""How fast the batch check is, and how much memory it takes above the history itself.

    python bench/check.py [--large]

10 million operations by each engine, two hard histories of one hot block, and the command line on a small
file; `--large`: 100 million operations instead. One process makes a long history and stores its columns,
another only loads and checks them, so that the peak it reports is the check's own. Times are the median of
five rounds after start-up (imports, numba's machine code from its cache), which is told apart; memory that a
virtual machine touches for the first time can make the first round take half as long again.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jepsen_blk.checker import registers
from jepsen_blk.checker.engine import Engine
from jepsen_blk.checker.verdict import check
from jepsen_blk.history.interchange import write_jsonl
from jepsen_blk.history.record import F, History, Outcome

COLUMNS = {
    "f": np.uint8,
    "outcome": np.uint8,
    "process": np.int32,
    "boot": np.int32,
    "block": np.int64,
    "value": np.int64,
    "start": np.int64,
    "finish": np.int64,
}
BLOCKS = 65536
PIECE = 10_000_000
ROUNDS = 7
LONG_ROUNDS = 5


class Maker:
    """Makes a healthy history piece by piece: operations take effect in row order, each in its interval.

    Of the writes a fraction `opened` is indeterminate, half of which took effect. Rows of a piece are in
    order of completion.
    """

    def __init__(self, blocks: int, in_flight: int, writes: float, opened: float = 0.0) -> None:
        self._rng = np.random.default_rng(7)
        self._content = np.zeros(blocks, dtype=np.int64)
        self._reach = 1000 * in_flight  # one takes effect each 1000 ns, and takes as long as this on average
        self._writes, self._opened = writes, opened
        self._ops = self._values = 0

    def piece(self, ops: int) -> History:
        rng = self._rng
        write = rng.random(ops) < self._writes
        opened = write & (rng.random(ops) < self._opened)
        block = rng.integers(0, len(self._content), ops)
        value = np.where(write, self._values + np.cumsum(write), 0)
        effective = write & ~(opened & (rng.random(ops) < 0.5))
        order = np.argsort(block, kind="stable")
        newest = np.maximum.accumulate(np.where(effective[order], np.arange(ops), -1))
        known = (newest >= 0) & (block[order][newest] == block[order])
        seen = np.where(known, value[order][newest], self._content[block[order]])
        last = np.flatnonzero(np.append(np.diff(block[order]), 1))
        self._content[block[order][last]] = seen[last]
        value[order] = np.where(write[order], value[order], seen)
        effect = (np.arange(self._ops, self._ops + ops, dtype=np.int64) + 10_000) * 1000
        finish = effect + rng.integers(1, self._reach, ops)
        columns: dict[str, Any] = {
            "f": np.where(write, F.WRITE, F.READ),
            "outcome": np.where(opened, Outcome.INFO, Outcome.OK),
            "process": rng.integers(0, 16, ops),
            "boot": np.zeros(ops),
            "block": block,
            "value": value,
            "start": effect - rng.integers(1, self._reach, ops),
            "finish": finish,
        }
        self._ops, self._values = self._ops + ops, self._values + int(write.sum())
        done = np.argsort(finish, kind="stable")
        ordered: dict[str, Any] = {name: columns[name][done].astype(kind) for name, kind in COLUMNS.items()}
        return History(**ordered)


def make(folder: Path, ops: int, writes: float) -> None:
    maker = Maker(BLOCKS, in_flight=16, writes=writes)
    files = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=(ops,))
        for name, kind in COLUMNS.items()
    }
    for low in range(0, ops, PIECE):
        piece = maker.piece(min(PIECE, ops - low))
        for name, file in files.items():
            file[low : low + len(piece)] = getattr(piece, name)


def engine_of(name: str) -> Engine:
    if name == "numpy":
        return registers.check_registers
    from jepsen_blk.checker.compiled.batch import check_registers

    return check_registers


def status_kib(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def measure(folder: Path, name: str) -> None:
    begin = time.perf_counter()
    engine = engine_of(name)
    check(Maker(4, 4, 0.5).piece(100), engine=engine)
    start_up_s = time.perf_counter() - begin
    history = History(**{column: np.load(folder / f"{column}.npy") for column in COLUMNS})
    before = status_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    took = []
    for _ in range(LONG_ROUNDS):
        begin = time.perf_counter()
        result = check(history, engine=engine)
        took.append(time.perf_counter() - begin)
    above = (status_kib("VmHWM") - before) * 1024
    ops, seconds = len(history), statistics.median(took)
    print(
        f"{name}: {ops / 1e6:g} M ops in {seconds:.2f} s ({min(took):.2f} to {max(took):.2f}): "
        f"{ops / seconds / 1e6:.2f} Mops/s",
        end=", ",
    )
    print(f"{above / ops:.1f} B/op above the history, {result.verdict}, start-up {start_up_s:.2f} s")


def long_histories(ops: int, fractions: tuple[float, ...]) -> None:
    for writes in fractions:
        with tempfile.TemporaryDirectory() as folder:
            step = [sys.executable, __file__]
            subprocess.run([*step, "make", folder, str(ops), str(writes)], check=True)
            for name in ("numba", "numpy"):
                print(f"{writes:.0%} writes, {BLOCKS} blocks,", end=" ", flush=True)
                subprocess.run([*step, "measure", folder, name], check=True)


def median_ms(history: History) -> str:
    took = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        result = check(history)
        took.append(1000 * (time.perf_counter() - begin))
    kinds = {anomaly.kind for anomaly in result.anomalies}
    told = f"{result.verdict} {', '.join(sorted(kinds))}".strip()
    return f"median {statistics.median(took):.1f} ms, longest {max(took):.1f} ms: {told}"


def stale_at_the_end(history: History) -> History:
    """Let the last read return what the block held before the write that it should have seen."""
    value = history.value.copy()
    last = int(np.flatnonzero(history.f == F.READ)[-1])
    acked = (history.f == F.WRITE) & (history.outcome == Outcome.OK)
    before = np.flatnonzero(acked & (history.finish < history.start[last] - 1_000_000))
    value[last] = value[before[-1]]
    return replace(history, value=value)


def hard_histories() -> None:
    hot = Maker(1, in_flight=64, writes=0.5).piece(100_000)
    doubtful = stale_at_the_end(Maker(1, in_flight=16, writes=0.5, opened=0.05).piece(100_000))
    print(f"one hot block, 100k ops, 64 in flight: {median_ms(hot)}")
    print(f"one hot block, 100k ops, 5 % indeterminate, stale at the end: {median_ms(doubtful)}")


def command_line() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "history.jsonl"
        write_jsonl(Maker(16, in_flight=4, writes=0.5).piece(1000), file)
        took = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "jepsen_blk", "check", file], stdout=subprocess.DEVNULL, check=False
            )
            took.append(time.perf_counter() - begin)
    print(f"jepsen-blk check on 1000 ops: median {statistics.median(took):.2f} s, least {min(took):.2f} s")


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return (
        f"{len(names)} x {names[0]}, Python {platform.python_version()}, numpy {np.__version__}, one thread"
    )


def main(large: bool) -> None:
    print(machine())
    if large:
        long_histories(100_000_000, (0.5,))
        return
    command_line()
    hard_histories()
    long_histories(10_000_000, (0.5, 0.7, 0.9))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder, ops, writes]:
            make(Path(folder), int(ops), float(writes))
        case ["measure", folder, name]:
            measure(Path(folder), name)
        case ["--large"]:
            main(large=True)
        case []:
            main(large=False)
        case _:
            sys.exit(__doc__)
