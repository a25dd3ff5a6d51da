"""4 KiB write and read IOPS of the policy target and the proxy: `python bench/target.py [COUNT]`.

Uses qemu-img bench over TCP loopback. The policy target runs with its log on and without latency,
so the figures are the target's own cost; stock `nbdkit memory` shows what the machine can do.
"""

import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from jepsen_blk.storage.conflict import ConflictModel
from jepsen_blk.storage.servers import (
    Listen,
    PolicyTarget,
    nbdkit_memory_argv,
    policy_target_argv,
    proxy_argv,
)

SIZE = 16 << 20
DEPTHS = (1, 16, 64)
START_S = 10.0


def free_address() -> Listen:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Listen("127.0.0.1", probe.getsockname()[1])


def start(argv: Sequence[str], listen: Listen, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((listen.host, listen.port), timeout=1).close()
            return process
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                process.kill()
                raise
            time.sleep(0.02)


def iops(listen: Listen, count: int, depth: int, *, write: bool) -> float:
    argv = ["qemu-img", "bench", "-c", str(count), "-d", str(depth), "-s", "4096", "-t", "none", "-f", "raw"]
    argv += ["-w"] if write else []
    ended = subprocess.run(
        [*argv, f"nbd://{listen}/x"], check=True, capture_output=True, text=True, timeout=300
    )
    match = re.search(r"completed in ([\d.]+) seconds", ended.stdout)
    assert match
    return count / float(match[1])


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000
    processes = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        log = directory / "server.log"
        stock, policy, proxied = free_address(), free_address(), free_address()
        target = PolicyTarget(
            SIZE, ConflictModel.ARRIVAL_ORDER, 0, False, directory / "c", directory / "target.jsonl"
        )
        try:
            processes.append(start(nbdkit_memory_argv(stock, SIZE), stock, log))
            processes.append(start(policy_target_argv(policy, target), policy, log))
            argv = proxy_argv({"x": proxied}, stock, directory / "p", directory / "proxy.jsonl")
            processes.append(start(argv, proxied, log))
            places = {"nbdkit memory": stock, "policy target": policy, "proxy + memory": proxied}
            for label, listen in places.items():
                for write in (True, False):
                    figures = [f"QD{d} {iops(listen, count, d, write=write):7.0f}" for d in DEPTHS]
                    print(f"{label:15} {'write' if write else 'read ':5} {'  '.join(figures)}", flush=True)
        finally:
            for process in processes:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
