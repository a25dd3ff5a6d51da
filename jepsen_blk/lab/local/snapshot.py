"""The pre-booted guest: boot once, stop when the agent says hello, keep the machine's state.

Every test then starts from the state file in a third of a second. The file is keyed by everything
the state depends on; QEMU refuses a state of other hardware, so a wrong key could not pass unseen.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from pathlib import Path

from jepsen_blk.errors import LabError
from jepsen_blk.lab.local.namespaces import Namespaces
from jepsen_blk.lab.local.packages import cache_dir, locked
from jepsen_blk.lab.local.qemu import Machine, Qemu, null_disk

_BOOT_TIMEOUT_S = 120.0
_SAVE_TIMEOUT_S = 60.0
_KEEP = 6


async def ensure_snapshot(machine: Machine, size_bytes: int, qemu_version: str) -> Path:
    """Return the state file for this machine and disk size, made if it is missing.

    Raises LabError when the guest does not boot; its console is named in the message.
    """
    hardware = f"{machine.accelerator}:{machine.memory_mb}:{machine.write_cache}"
    inputs = f"{machine.image.key}:{hardware}:{size_bytes}:{qemu_version}"
    code = Path(__file__).with_name("qemu.py").read_bytes()
    key = hashlib.sha256(inputs.encode() + code).hexdigest()[:16]
    path = cache_dir() / f"snapshot-{key}.state"
    if path.exists():
        path.touch()
        return path
    with locked(cache_dir() / "snapshot.lock"):
        if not path.exists():
            scratch = path.with_suffix(".new")
            try:
                await _boot_and_save(machine, size_bytes, scratch)
                os.replace(scratch, path)
            finally:
                scratch.unlink(missing_ok=True)
            _forget_oldest()
    return path


async def _boot_and_save(machine: Machine, size_bytes: int, target: Path) -> None:
    namespaces = await Namespaces.create()
    hello = asyncio.Event()
    console = cache_dir() / "preboot-console.log"
    console.unlink(missing_ok=True)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1):
            hello.set()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await reader.read()
        writer.close()

    try:
        server = await asyncio.start_unix_server(accept, namespaces.run_dir / "agent.sock")
        argv = machine.argv(
            "preboot", namespaces.inner_run_dir / "agent.sock", console, null_disk(size_bytes)
        )
        qemu = await Qemu.start(
            namespaces.root,
            argv,
            inner_run_dir=namespaces.inner_run_dir,
            run_dir=namespaces.run_dir,
            log=cache_dir() / "preboot-qemu.log",
        )
        try:
            await _wait_hello(hello, qemu, console)
            await _save(qemu, target)
        finally:
            await qemu.kill()
            server.close()
    finally:
        await namespaces.destroy()


async def _wait_hello(hello: asyncio.Event, qemu: Qemu, console: Path) -> None:
    try:
        async with asyncio.timeout(_BOOT_TIMEOUT_S):
            while not hello.is_set():
                if not qemu.process.running:
                    raise LabError(f"the guest ended while booting; its console is {console}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(hello.wait(), 0.2)
    except TimeoutError as error:
        raise LabError(
            f"the guest's agent said nothing in {_BOOT_TIMEOUT_S:g} s; its console is {console}"
        ) from error


async def _save(qemu: Qemu, target: Path) -> None:
    await qemu.execute("stop")
    await qemu.execute("migrate-set-parameters", {"max-bandwidth": 1 << 40})
    await qemu.execute(
        "migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]}
    )
    with target.open("wb") as file:
        qemu.client.send_fd_scm(file.fileno())
        await qemu.execute("getfd", {"fdname": "state"})
        after = len(qemu.events)
        await qemu.execute("migrate", {"uri": "fd:state"})
        done = await qemu.wait_event(
            lambda event: event.name == "MIGRATION" and event.data["status"] in ("completed", "failed"),
            after=after,
            timeout_s=_SAVE_TIMEOUT_S,
            what="the saved state",
        )
    if done.data["status"] != "completed":
        raise LabError("QEMU could not save the guest's state")


def _forget_oldest() -> None:
    states = sorted(cache_dir().glob("snapshot-*.state"), key=lambda path: path.stat().st_mtime)
    for old in states[:-_KEEP]:
        old.unlink(missing_ok=True)
