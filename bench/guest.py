"""Guest write throughput with everything recorded, against fio in the same guest on the same disk.

Rounds alternate inside one boot of one guest, so that both see the same machine; the ratio of the medians is
what counts. Both write 4 KiB at queue depth 16 with Linux AIO and O_DIRECT over the same blocks. fio writes
and forgets; the agent stamps each block, times each operation, and streams every row to the host, where it
is journaled. Once on a target without latency, which shows what the agent costs, and once at the default
latency of a write, which shows what a test gets.
"""

import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from jepsen_blk.history.journal import JournalWriter, read_journal
from jepsen_blk.history.record import F
from jepsen_blk.lab.local.accelerator import choose
from jepsen_blk.lab.local.environment import first_line
from jepsen_blk.lab.local.image import Extra, ensure_image
from jepsen_blk.lab.local.lab import STORAGE_ADDRESS, STORAGE_NODE, make_nodes
from jepsen_blk.lab.local.namespaces import Namespaces
from jepsen_blk.lab.local.qemu import BINARY, Machine, Qemu, nbd_disk
from jepsen_blk.lab.local.storage_node import start_storage, storage_ports
from jepsen_blk.spec import Spec, StorageSpec, make_spec
from workloads.guest import GuestLink

ROUNDS = 5
SECONDS = 4
BOOT_TIMEOUT_S = 60
QUEUE_DEPTH = 16
MEMORY_MB = 512
LATENCIES_MS = (0.0, StorageSpec().write_latency_ms)
WORKLOAD = {
    "read_fraction": 0,
    "burst_fraction": 0,
    "hot_blocks": 0,
    "hot_fraction": 0,
    "queue_depth": QUEUE_DEPTH,
}
SIZE_BYTES = make_spec({"workload": WORKLOAD}).size_bytes
FIO = (
    "--name=bench --filename=/dev/vda --ioengine=libaio --direct=1 --rw=randwrite --bs=4k "
    f"--iodepth={QUEUE_DEPTH} --size={SIZE_BYTES} --time_based --runtime={SECONDS} --output-format=terse"
)


def add_fio(tree: Path) -> None:
    """Put the host's fio with its libraries into the image, and let init alternate fio and the agent."""
    home = tree / "opt/fio"
    home.mkdir(parents=True)
    fio = Path(shutil.which("fio") or sys.exit("fio is missing: apt-get install fio"))
    shutil.copy(fio, home)
    listed = subprocess.run(["ldd", str(fio)], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        name, arrow, path = line.strip().rpartition(" (")[0].partition(" => ")
        if arrow:
            shutil.copy(path, home / Path(name).name)
        elif name.startswith("/"):
            shutil.copy(name, home / "ld.so")
    init = tree / "init"
    script, _, agent = init.read_text().rpartition("exec ")
    loop = f"/opt/fio/ld.so --library-path /opt/fio /opt/fio/fio {FIO}\n{agent}"
    init.write_text(
        f'{script}mkdir() {{ $b mkdir "$@"; }}\nmkdir -p /dev/shm /tmp\nwhile :; do\n{loop}\ndone\n'
    )


async def main() -> None:
    """For each latency: boot once, alternate, print the table."""
    accelerator = choose("auto")
    machine = Machine(ensure_image(extra=Extra("fio", add_fio)), accelerator.name, MEMORY_MB)
    print(f"guest writes a second, 4 KiB, queue depth {QUEUE_DEPTH}, policy target")
    print(f"{await first_line(BINARY, '--version')}, accelerator {accelerator.name}")
    for latency_ms in LATENCIES_MS:
        spec = make_spec({"workload": WORKLOAD, "storage": {"write_latency_ms": latency_ms}})
        namespaces = await Namespaces.create()
        with tempfile.TemporaryDirectory() as scratch:
            try:
                rounds = await measure(spec, machine, namespaces, Path(scratch))
            finally:
                await namespaces.destroy()
        show(rounds, latency_ms)


async def measure(
    spec: Spec, machine: Machine, namespaces: Namespaces, run_dir: Path
) -> list[tuple[float, float]]:
    """Return (fio, agent) writes a second of each round; the first round warms up and is left out."""
    (run_dir / "logs").mkdir()
    nodes = await make_nodes(namespaces)
    await start_storage(spec, nodes[STORAGE_NODE], STORAGE_ADDRESS, namespaces, run_dir)
    console = run_dir / "logs/console.log"
    disk = nbd_disk(STORAGE_ADDRESS, storage_ports("policy")["x"], "x", 0)
    argv = machine.argv("bench", namespaces.inner_run_dir / "agent.sock", console, disk)
    inner, outer = namespaces.inner_run_dir, namespaces.run_dir
    qemu = await Qemu.start(
        nodes["x"], argv, inner_run_dir=inner, run_dir=outer, log=run_dir / "logs/qemu.log"
    )
    try:
        agent = [await agent_round(spec, namespaces, run_dir, number) for number in range(ROUNDS + 1)]
    finally:
        await qemu.kill()
    return list(zip(fio_rounds(console), agent, strict=False))[1:]


async def agent_round(spec: Spec, namespaces: Namespaces, run_dir: Path, number: int) -> float:
    """Wait for the agent's turn, let it write for a while, and return its writes a second."""
    journal = JournalWriter(run_dir / f"history-{number}.blk")
    link = GuestLink(journal)
    socket = namespaces.run_dir / "agent.sock"
    socket.unlink(missing_ok=True)
    await link.listen("x", socket)
    try:
        await link.hello(BOOT_TIMEOUT_S)
        await link.reset(boot=0, run=number, seed=number)
        await link.run(spec.workload.model_dump(mode="json"))
        await asyncio.sleep(SECONDS)
        await link.quiesce(10)
        await link.bye(10)
        await asyncio.sleep(1)  # the agent takes the last ack and ends, so that fio has the guest for itself
    finally:
        await link.close()
        journal.close()
    history = read_journal(run_dir / f"history-{number}.blk").history
    writes = history.f == F.WRITE
    span_ns = int(history.finish[writes].max()) - int(history.start[writes].min())
    return float(np.count_nonzero(writes) / (span_ns / 1e9))


def fio_rounds(console: Path) -> list[float]:
    """Read fio's writes a second of each round from the guest's console (terse output, field 49)."""
    lines = [line for line in console.read_text(errors="replace").splitlines() if line.startswith("3;fio")]
    return [float(line.split(";")[48]) for line in lines]


def show(rounds: list[tuple[float, float]], latency_ms: float) -> None:
    """Print the table and the ratio."""
    print(f"write latency {latency_ms:g} ms")
    print(f"{'round':>5} {'fio libaio':>12} {'jepsen-blk':>12} {'ratio':>7}")
    for number, (fio, agent) in enumerate(rounds, start=1):
        print(f"{number:>5} {fio:>12.0f} {agent:>12.0f} {agent / fio:>7.2f}")
    fio, agent = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"{'median':>5} {fio:>11.0f} {agent:>12.0f} {agent / fio:>7.2f}")


if __name__ == "__main__":
    asyncio.run(main())
