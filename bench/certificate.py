"""What a certificate costs: making it, its size, and verifying it.

python bench/certificate.py [THOUSANDS] [BLOCKS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from check import COLUMNS, machine, make

from jepsen_blk.certify import write_certificate
from jepsen_blk.checker.certificate import linearize
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.interchange import write_jsonl
from jepsen_blk.history.record import History
from jepsen_blk.verify_certificate import verify


def timed(what: str, ops: int, step: Callable[[], object]) -> None:
    begin = time.perf_counter()
    step()
    seconds = time.perf_counter() - begin
    print(f"{what}: {seconds:.2f} s, {ops / seconds / 1e6:.2f} Mops/s")


def main() -> None:
    ops = int(float(sys.argv[1]) * 1000) if len(sys.argv) > 1 else 200_000
    blocks = int(sys.argv[2]) if len(sys.argv) > 2 else 4096
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, ops, blocks)
        history = History(**{column: np.load(folder / f"{column}.npy") for column in COLUMNS})
        file, out = folder / "history.jsonl", folder / "certificate.jsonl"
        write_jsonl(history, file)
        results = {"deadline": "fence", "verdict": "pass"}
        timed("order and points", ops, lambda: linearize(history, Deadline.FENCE))
        timed(
            "reading the history and writing the certificate",
            ops,
            lambda: write_certificate(file, results, out),
        )
        timed("verifying", ops, lambda: print(verify(str(out), str(file))))
        print(f"{ops} ops, {blocks} blocks: {out.stat().st_size / ops:.1f} B/op")


if __name__ == "__main__":
    main()
