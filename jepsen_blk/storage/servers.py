"""How each storage server is started: the policy target, the stock servers, and the proxy before them.

Builders return an argument list for `Node.start`; every server stays in the foreground, so the
process the lab holds is the server itself and can be killed by its pid. Readiness is asked over the
control socket (`StorageControl.wait_ready`); a stock server is ready when its port takes a connection.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jepsen_blk.errors import LabError
from jepsen_blk.storage.conflict import ConflictModel
from jepsen_blk.storage.throttle import throttle_group

PLUGIN = Path(__file__).resolve().parent / "target" / "plugin.py"
_THREADS = ["-t", "256"]
"""nbdkit's 16 threads a connection would let 16 held writes freeze the rest."""
_POLL_S = 0.02
TGT_TARGET = "iqn.2006-08.org.jepsen-blk:disk"
_TGT_TARGET_ID = ["--tid", "1"]


@dataclass(frozen=True, slots=True)
class Listen:
    """A TCP address to serve on."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PolicyTarget:
    """What the policy target is to be; `backing` None means memory.

    `cache` is the file of a volatile write cache before the backing, None means that there is none; with
    `ignore_flush` it only says that it flushes.
    """

    size_bytes: int
    conflict: ConflictModel
    latency_ms: float
    flush: bool
    control: Path
    log: Path
    backing: Path | None = None
    cache: Path | None = None
    ignore_flush: bool = False


def policy_target_argv(listen: Listen, target: PolicyTarget) -> list[str]:
    """Start the policy target; each node connects to the export of its own name."""
    keys = {
        "size": str(target.size_bytes),
        "conflict": target.conflict.value,
        "latency_ms": f"{target.latency_ms:g}",
        "flush": "true" if target.flush else "false",
        "control": str(target.control),
        "log": str(target.log),
    }
    if target.backing is not None:
        keys["backing"] = str(target.backing)
    if target.cache is not None:
        keys |= {"cache": str(target.cache), "ignore_flush": "true" if target.ignore_flush else "false"}
    return [*_nbdkit(listen), "python", str(PLUGIN), *(f"{key}={value}" for key, value in keys.items())]


def nbdkit_memory_argv(listen: Listen, size_bytes: int) -> list[str]:
    """Start stock nbdkit with its memory plugin; it serves one disk under every export name."""
    return [*_nbdkit(listen), "memory", f"size={size_bytes}"]


def qemu_storage_daemon_argv(listen: Listen, image: Path, nodes: Sequence[str], monitor: Path) -> list[str]:
    """Start stock qemu-storage-daemon with one writable export a node, all of the raw file `image`.

    Each export has a throttle of its own, which limits nothing until the QMP `monitor` is told to.
    """
    argv = [
        "qemu-storage-daemon",
        "--blockdev",
        f"driver=file,node-name=image,filename={_qemu_value(str(image))}",
        "--blockdev",
        "driver=raw,node-name=disk,file=image",
        "--nbd-server",
        f"addr.type=inet,addr.host={listen.host},addr.port={listen.port}",
        "--chardev",
        f"socket,id=monitor,path={_qemu_value(str(monitor))},server=on,wait=off",
        "--monitor",
        "chardev=monitor",
    ]
    for node in nodes:
        group, disk = throttle_group(node), f"disk-{node}"
        argv += ["--object", f"throttle-group,id={group}"]
        argv += ["--blockdev", f"driver=throttle,node-name={disk},throttle-group={group},file=disk"]
        argv += ["--export", f"type=nbd,id=export-{node},node-name={disk},name={node},writable=on"]
    return argv


def tgtd_argv(listen: Listen, socket: Path) -> list[str]:
    """Start stock tgtd, which offers nothing until `tgtd_setup` has told it to; `socket` is its control.

    It keeps its reservations in memory.
    """
    return [*_tgt(socket), "tgtd", "-f", "--iscsi", f"portal={listen}"]


def tgtd_setup(socket: Path, image: Path) -> list[list[str]]:
    """Have tgtd offer the raw file `image` as unit 1 of its one target, to any initiator."""
    target, unit = (["--mode", mode, *_TGT_TARGET_ID] for mode in ("target", "logicalunit"))
    steps = (
        [*target, "--op", "new", "--targetname", TGT_TARGET],
        [*unit, "--op", "new", "--lun", "1", "--backing-store", str(image)],
        [*target, "--op", "bind", "--initiator-address", "ALL"],
    )
    return [[*_tgt(socket), "tgtadm", "--lld", "iscsi", *step] for step in steps]


def initiator_name(node: str) -> str:
    """Return the iSCSI name of the node's hypervisor."""
    return f"iqn.2006-08.org.jepsen-blk:{node}"


def proxy_argv(
    listens: Mapping[str, Listen],
    server: Listen | Path,
    control: Path,
    log: Path,
    *,
    iscsi: bool = False,
    reserve: bool = False,
) -> list[str]:
    """Start the holding proxy: one listening address a node name, in front of `server`.

    With `reserve` it has nodes fenced by an `iscsi` server's persistent reservations.
    """
    argv = [sys.executable, "-m", "jepsen_blk.storage.proxy"]
    for node, listen in listens.items():
        argv += ["--listen", f"{node}={listen}"]
    address = f"unix:{server}" if isinstance(server, Path) else str(server)
    how = [*(["--protocol", "iscsi"] if iscsi else []), *(["--reserve"] if reserve else [])]
    return [*argv, "--server", address, *how, "--control", str(control), "--log", str(log)]


async def wait_listening(probe: Callable[[], Awaitable[bool]], what: str, timeout_s: float) -> None:
    """Return once `probe` (a connection attempt from where the server is) succeeds; raises LabError."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await probe():
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise LabError(f"{what} does not listen after {timeout_s:g} s; see its log") from error


def _tgt(socket: Path) -> list[str]:
    return ["env", f"TGT_IPC_SOCKET={socket}"]


def _nbdkit(listen: Listen) -> list[str]:
    return ["nbdkit", "-f", *_THREADS, "-i", listen.host, "-p", str(listen.port)]


def _qemu_value(text: str) -> str:
    # QEMU's option syntax ends a value at a comma, and takes two for one.
    return text.replace(",", ",,")
