"""The storage node of the local lab: which servers run on it for each kind of storage.

A stock server listens on the node's loopback alone, so that every byte of a guest passes the holding
proxy; the policy target needs no proxy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from jepsen_blk.errors import LabError
from jepsen_blk.lab.local.namespaces import LocalNode, LocalProcess, Namespaces
from jepsen_blk.spec import RESERVING, Spec
from jepsen_blk.storage.control import StorageControl
from jepsen_blk.storage.servers import (
    Listen,
    PolicyTarget,
    nbdkit_memory_argv,
    policy_target_argv,
    proxy_argv,
    qemu_storage_daemon_argv,
    tgtd_argv,
    tgtd_setup,
    wait_listening,
)
from jepsen_blk.storage.target.cache import lose_cache, unflushed
from jepsen_blk.storage.throttle import limit_writes

_POLICY_PORT = 10809
_PROXY_PORTS = {"x": 10811, "y": 10812}
_STOCK = Listen("127.0.0.1", 10810)
_READY_TIMEOUT_S = 10.0
_KEPT_IN_FILE = ("qemu-storage-daemon", "tgt")

Kind = Literal["policy", "nbdkit-memory", "qemu-storage-daemon", "tgt"]


def storage_ports(kind: Kind) -> dict[str, int]:
    """Return the port that each guest node connects to: the proxy tells nodes apart by port."""
    return dict.fromkeys(_PROXY_PORTS, _POLICY_PORT) if kind == "policy" else _PROXY_PORTS


class LocalStorage:
    """The servers on the storage node, and their control; implements lab.seams.StorageServers."""

    def __init__(
        self,
        launch: Callable[[], Awaitable[list[LocalProcess]]],
        cache: Callable[[Callable[[Path, int], int]], int],
        control: StorageControl,
        monitor: Path | None,
    ) -> None:
        self._launch = launch
        self._cache = cache
        self._processes: list[LocalProcess] = []
        self._monitor = monitor
        self.control = control

    async def start(self) -> None:
        """Start what `stop` has ended and return once it answers; no error if it runs."""
        if self._processes and all(process.running for process in self._processes):
            return
        await self.stop()
        self._processes = await self._launch()
        await _answering(self.control, self._processes[-1])

    async def stop(self) -> None:
        """Kill the servers, the outermost first, so that no client sees one of them fail alone."""
        while self._processes:
            await self._processes.pop().kill()

    async def unflushed(self) -> int:
        """Return how many blocks the loss of their volatile cache would take now."""
        return self._cache(unflushed)

    async def lose_cache(self) -> int:
        """Lose the volatile cache of the servers that were stopped; return how many blocks it took along."""
        if self._processes:
            raise LabError("the storage's servers still run: its cache is lost when the power is")
        return self._cache(lose_cache)

    async def throttle(self, node: str, bytes_per_s: int) -> None:
        """Let the node's writes wait in the server for their turn."""
        if self._monitor is None:
            raise LabError("these servers have no throttle; storage.kind 'qemu-storage-daemon' has one")
        await limit_writes(self._monitor, node, bytes_per_s)


async def start_storage(
    spec: Spec, node: LocalNode, address: str, namespaces: Namespaces, run_dir: Path
) -> LocalStorage:
    """Start the servers, their logs in `run_dir`, and return them once they answer."""
    inner, log = namespaces.inner_run_dir, run_dir / "target.jsonl"
    listens = {name: Listen(address, port) for name, port in storage_ports(spec.storage.kind).items()}
    if spec.storage.kind in _KEPT_IN_FILE:
        with _image(namespaces.run_dir).open("wb") as file:
            file.truncate(spec.size_bytes)

    def cache(of: Callable[[Path, int], int]) -> int:
        return of(_cache(namespaces.run_dir), spec.size_bytes)

    async def launch() -> list[LocalProcess]:
        processes = []
        if spec.storage.kind == "policy":
            argv = policy_target_argv(Listen(address, _POLICY_PORT), _policy_target(spec, inner, log))
        else:
            stock_log = run_dir / "logs/stock-server.log"
            processes.append(await _start_stock(spec, node, namespaces, stock_log))
            argv = proxy_argv(
                listens,
                _STOCK,
                _control(inner),
                log,
                iscsi=spec.storage.kind == "tgt",
                reserve=spec.storage.kind == "tgt" and spec.handoff.policy in RESERVING,
            )
        processes.append(await node.start(argv, log=run_dir / "logs/storage.log"))
        return processes

    monitor = _monitor(namespaces.run_dir) if spec.storage.kind == "qemu-storage-daemon" else None
    storage = LocalStorage(launch, cache, StorageControl(_control(namespaces.run_dir)), monitor)
    await storage.start()
    return storage


def _policy_target(spec: Spec, inner_run_dir: Path, log: Path) -> PolicyTarget:
    """Describe the target; what is to survive the loss of a cache is in a file of the lab's at least."""
    storage = spec.storage
    volatile = storage.cache == "volatile"
    backing = storage.backing.resolve() if storage.backing else None
    return PolicyTarget(
        size_bytes=spec.size_bytes,
        conflict=storage.conflict,
        latency_ms=storage.write_latency_ms,
        flush=storage.flush,
        control=_control(inner_run_dir),
        log=log,
        backing=backing or (_image(inner_run_dir) if volatile else None),
        cache=_cache(inner_run_dir) if volatile else None,
        ignore_flush=storage.ignore_flush,
    )


def _control(run_dir: Path) -> Path:
    return run_dir / "storage.sock"


def _monitor(run_dir: Path) -> Path:
    return run_dir / "storage-qmp.sock"


def _tgt_socket(run_dir: Path) -> Path:
    return run_dir / "tgt"


def _image(run_dir: Path) -> Path:
    return run_dir / "disk.img"


def _cache(run_dir: Path) -> Path:
    return run_dir / "cache.img"


async def _start_stock(spec: Spec, node: LocalNode, namespaces: Namespaces, log: Path) -> LocalProcess:
    inner = namespaces.inner_run_dir
    if spec.storage.kind == "nbdkit-memory":
        argv = nbdkit_memory_argv(_STOCK, spec.size_bytes)
    elif spec.storage.kind == "tgt":
        argv = tgtd_argv(_STOCK, _tgt_socket(inner))
    else:
        argv = qemu_storage_daemon_argv(_STOCK, _image(inner), tuple(_PROXY_PORTS), _monitor(inner))
    process = await node.start(argv, log=log)

    async def listening() -> bool:
        if not process.running:
            raise LabError(f"{spec.storage.kind} did not start: {process.tail()}")
        try:
            await node.run(["bash", "-c", f"exec 3<>/dev/tcp/{_STOCK.host}/{_STOCK.port}"])
        except LabError:
            return False
        return True

    await wait_listening(listening, spec.storage.kind, _READY_TIMEOUT_S)
    if spec.storage.kind == "tgt":
        for step in tgtd_setup(_tgt_socket(inner), _image(inner)):
            await node.run(step)
    return process


async def _answering(control: StorageControl, process: LocalProcess) -> None:
    try:
        await control.wait_ready(_READY_TIMEOUT_S)
    except LabError as error:
        if process.running:
            raise
        raise LabError(f"the storage did not start: {process.tail()}") from error
