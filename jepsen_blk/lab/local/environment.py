"""What a run stood on: the versions that a reader of its report needs to reproduce it."""

from __future__ import annotations

import asyncio
import os
import platform
from pathlib import Path

import jepsen_blk
from jepsen_blk.errors import UserError
from jepsen_blk.lab.local.qemu import Machine


async def describe_environment(machine: Machine, qemu_version: str, why: str) -> dict[str, str]:
    """Describe host, guest and servers; `why` is the reason for the accelerator."""
    return {
        "jepsen_blk": jepsen_blk.__version__,
        "host": f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs, {_cpu_model()}",
        "python": platform.python_version(),
        "qemu": qemu_version,
        "nbdkit": await first_line("nbdkit", "--version"),
        "accelerator": f"{machine.accelerator}: {why}",
        "guest_kernel": machine.image.kernel.name,
        "guest_memory_mb": str(machine.memory_mb),
        "guest_image": machine.image.key,
    }


async def first_line(*argv: str) -> str:
    """Return the first line that a command prints; raises UserError where it is missing."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise UserError(f"{argv[0]} is missing: run `jepsen-blk doctor` for the remedy") from error
    out, _ = await asyncio.wait_for(process.communicate(), 10)
    return out.decode(errors="replace").partition("\n")[0].strip()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
