"""The policy target's face to nbdkit: `nbdkit -f -t 256 python plugin.py size=... conflict=... ...`.

A node is an export name, since that is all nbdkit's Python tells of a client. `-t 256`: the default
of 16 threads a connection would let 16 held writes freeze the rest of their connection.

Keys: size (bytes), conflict, latency_ms, flush (true or false: whether flush and FUA are offered),
control (path of the control socket), log (path of target.jsonl), backing (file or device; memory if
absent), cache (file of a volatile write cache before the backing; none if absent), ignore_flush (true or
false: whether it only says that it flushes).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Appended, not inserted: nbdkit runs the system's Python, whose own modules must win.
sys.path.append(str(Path(__file__).resolve().parents[3]))

import nbdkit

from jepsen_blk.storage.conflict import ConflictModel
from jepsen_blk.storage.log import TargetLog
from jepsen_blk.storage.target.backing import Backing, FileBacking, MemoryBacking
from jepsen_blk.storage.target.cache import VolatileCache, medium_bytes
from jepsen_blk.storage.target.control import ControlServer
from jepsen_blk.storage.target.peers import PeerWatcher
from jepsen_blk.storage.target.server import Connection, Target

API_VERSION = 2

_KEYS = ("size", "conflict", "latency_ms", "flush", "control", "log", "backing", "cache", "ignore_flush")


@dataclass(slots=True)
class _Service:
    """What `config_complete` made of the keys."""

    size_bytes: int
    flush: bool
    keepalive: bool
    log: TargetLog
    target: Target
    control: ControlServer
    peers: PeerWatcher


@dataclass(slots=True)
class _Handle:
    connection: Connection
    watch: int | None = None


_keys: dict[str, str] = {}
_services: list[_Service] = []


def config(key: str, value: str) -> None:
    """Take one key=value of the command line."""
    if key not in _KEYS:
        raise ValueError(f"unknown key {key!r}; known: {', '.join(_KEYS)}")
    _keys[key] = value


def config_complete() -> None:
    """Check the keys and open log, backing and control socket."""
    for key in ("size", "control", "log"):
        if key not in _keys:
            raise ValueError(f"{key}=... is missing")
    flush = _flag("flush")
    size_bytes = int(_keys["size"])
    model = ConflictModel(_keys.get("conflict", ConflictModel.ARRIVAL_ORDER))
    backing = _backing(size_bytes)
    log = TargetLog(Path(_keys["log"]))
    target = Target(backing, model, float(_keys.get("latency_ms", "0")), log)
    control = ControlServer(Path(_keys["control"]), target.handlers())
    keepalive = model is ConflictModel.DROP_ON_DISCONNECT
    _services.append(_Service(size_bytes, flush, keepalive, log, target, control, PeerWatcher()))


def _flag(key: str) -> bool:
    value = _keys.get(key, "false")
    if value not in ("true", "false"):
        raise ValueError(f"{key} must be true or false, not {value!r}")
    return value == "true"


def _backing(size_bytes: int) -> Backing:
    path, cache = _keys.get("backing"), _keys.get("cache")
    backing = MemoryBacking(size_bytes) if path is None else FileBacking(Path(path), size_bytes)
    if cache is None:
        return backing
    medium = FileBacking(Path(cache), medium_bytes(size_bytes))
    return VolatileCache(backing, medium, size_bytes, ignores_flush=_flag("ignore_flush"))


def thread_model() -> Any:
    """Let every request of every connection run at once."""
    return nbdkit.THREAD_MODEL_PARALLEL


def after_fork() -> None:
    """Start the threads, in the process that serves."""
    service = _services[0]
    service.log.start()
    service.target.start()
    service.peers.start()
    service.control.start()


def open(readonly: bool) -> _Handle:
    """Take a new connection; its export name is its node."""
    service = _services[0]
    connection = service.target.connect(nbdkit.export_name())
    handle = _Handle(connection)
    handle.watch = service.peers.watch(
        lambda: service.target.disconnect(connection), keepalive=service.keepalive
    )
    return handle


def close(handle: _Handle) -> None:
    """Note that a connection and all its requests have ended."""
    service = _services[0]
    if handle.watch is not None:
        service.peers.forget(handle.watch)
    service.target.disconnect(handle.connection)


def get_size(handle: _Handle) -> int:
    """Return the size of the disk in bytes."""
    return _services[0].size_bytes


def can_write(handle: _Handle) -> bool:
    """Offer writes."""
    return True


def can_multi_conn(handle: _Handle) -> bool:
    """All connections see one store, so a flush on one covers the others."""
    return True


def can_flush(handle: _Handle) -> bool:
    """Offer flush if asked to; a hypervisor cut off from a store that has it cannot let its guest go."""
    return _services[0].flush


def can_fua(handle: _Handle) -> Any:
    """Offer FUA together with flush only."""
    return nbdkit.FUA_NATIVE if _services[0].flush else nbdkit.FUA_NONE


def pread(handle: _Handle, buffer: memoryview, offset: int, flags: int) -> None:
    """Read."""
    try:
        _services[0].target.read(handle.connection, buffer, offset)
    except OSError as error:
        _fail(error)


def pwrite(handle: _Handle, buffer: memoryview, offset: int, flags: int) -> None:
    """Write."""
    try:
        _services[0].target.write(handle.connection, buffer, offset, durable=bool(flags & nbdkit.FLAG_FUA))
    except OSError as error:
        _fail(error)


def flush(handle: _Handle, flags: int) -> None:
    """Flush."""
    try:
        _services[0].target.flush(handle.connection)
    except OSError as error:
        _fail(error)


def unload() -> None:
    """Leave a complete log."""
    for service in _services:
        service.log.close()


def _fail(error: OSError) -> None:
    if error.errno:
        nbdkit.set_error(error.errno)
    raise error
