"""How fast the batch check is, and how much memory it takes above the history itself.

    python bench/check.py [MILLIONS] [BLOCKS]

One process makes a history and stores its columns, another only loads and checks them, so that the
peak it reports is the check's own. Rows are in order of completion, processes interleaved.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jepsen_blk.checker.registers import check_registers
from jepsen_blk.history.record import F, History

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


def make(folder: Path, ops: int, blocks: int, write_fraction: float = 0.5) -> None:
    """Store a healthy history: operations take effect in row order, each in its interval."""
    rng = np.random.default_rng(7)
    writes = rng.random(ops) < write_fraction
    block = rng.integers(0, blocks, ops)
    value = np.where(writes, np.cumsum(writes), 0)
    order = np.argsort(block, kind="stable")
    newest = np.maximum.accumulate(np.where(writes[order], np.arange(ops), -1))
    known = (newest >= 0) & (block[order][newest] == block[order])
    value[order] = np.where(known, value[order][newest], 0)
    effect = np.arange(ops, dtype=np.int64) * 1000 + 10_000_000
    start = effect - rng.integers(1, 200_000, ops)
    finish = effect + rng.integers(1, 200_000, ops)
    done = np.argsort(finish, kind="stable")
    columns = {
        "f": np.where(writes, F.WRITE, F.READ),
        "outcome": np.zeros(ops),
        "process": rng.integers(0, 16, ops),
        "boot": np.zeros(ops),
        "block": block,
        "value": value,
        "start": start,
        "finish": finish,
    }
    for name, kind in COLUMNS.items():
        np.save(folder / f"{name}.npy", columns[name][done].astype(kind))


def status_kib(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def measure(folder: Path) -> None:
    history = History(**{name: np.load(folder / f"{name}.npy") for name in COLUMNS})
    before = status_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    begin = time.perf_counter()
    findings = check_registers(history)
    seconds = time.perf_counter() - begin
    above = (status_kib("VmHWM") - before) * 1024
    ops = len(history)
    print(f"{ops / 1e6:g} M ops in {seconds:.2f} s: {ops / seconds / 1e6:.2f} Mops/s", end=", ")
    print(f"{above / ops:.1f} B/op above the history, {len(findings.conflicts)} blocks in conflict")


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return (
        f"{len(names)} x {names[0]}, Python {platform.python_version()}, numpy {np.__version__}, one thread"
    )


def main() -> None:
    ops = int(float(sys.argv[1]) * 1e6) if len(sys.argv) > 1 else 10_000_000
    blocks = int(sys.argv[2]) if len(sys.argv) > 2 else 65536
    print(machine())
    for write_fraction in (0.5, 0.7, 0.9):
        with tempfile.TemporaryDirectory() as folder:
            step = [sys.executable, __file__]
            subprocess.run([*step, "make", folder, str(ops), str(blocks), str(write_fraction)], check=True)
            print(f"{write_fraction:.0%} writes, {blocks} blocks:", end=" ", flush=True)
            subprocess.run([*step, "measure", folder], check=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder, ops, blocks, write_fraction]:
            make(Path(folder), int(ops), int(blocks), float(write_fraction))
        case ["measure", folder]:
            measure(Path(folder))
        case _:
            main()
