"""What the agent's hot path costs an operation: `python bench/agent.py [FILE]`.

The default file is in memory, where Linux AIO completes at once, so that nearly all of the time is
the agent's own: drawing, stamping, system calls, verifying, packing rows and frames.
"""

import sys
import tempfile
from _random import Random
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import monotonic_ns
from typing import Any

from jepsen_blk.stamp import BLOCK_BYTES
from workloads.agent.engine import MOST_SLOTS, Engine
from workloads.agent.link import Outbox
from workloads.agent.machine import LinuxMachine
from workloads.agent.register import Register

WORKLOAD: dict[str, Any] = {
    "blocks": 256,
    "hot_blocks": 8,
    "hot_fraction": 0.5,
    "read_fraction": 0.3,
    "burst_fraction": 0.1,
    "flush_fraction": 0.0,
}
SECONDS = 2


def measure(path: str, depth: int) -> None:
    outbox = Outbox()
    engine = Engine(LinuxMachine(path).open_disk(MOST_SLOTS), monotonic_ns, outbox, 1, 0)
    engine.start(Register(Random(1), WORKLOAD), depth, False)
    begin_ns, begin = monotonic_ns(), getrusage(RUSAGE_SELF)
    while monotonic_ns() - begin_ns < SECONDS * 10**9:
        engine.pump(monotonic_ns() + 4_000_000)
        outbox.next_chunk(monotonic_ns())
        outbox.ack(outbox.sequence, False)
    wall_us, end = (monotonic_ns() - begin_ns) / 1000, getrusage(RUSAGE_SELF)
    engine.stop()
    while engine.in_flight:
        engine.pump(monotonic_ns())
    engine.close()
    count = engine.completed
    user_us = (end.ru_utime - begin.ru_utime) * 1e6
    system_us = (end.ru_stime - begin.ru_stime) * 1e6
    print(
        f"QD{depth:<3} {wall_us / count:6.2f} us/op, {count / wall_us * 1e6:7.0f} ops/s "
        f"(user {user_us / count:.2f} us, system {system_us / count:.2f} us)"
    )


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "disk"
        path.write_bytes(bytes(WORKLOAD["blocks"] * BLOCK_BYTES))
        for depth in (1, 16, 64):
            measure(sys.argv[1] if len(sys.argv) > 1 else str(path), depth)


if __name__ == "__main__":
    main()
