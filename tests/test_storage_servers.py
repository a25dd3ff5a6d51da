"""How servers are started."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from jepsen_blk.errors import LabError
from jepsen_blk.storage.conflict import ConflictModel
from jepsen_blk.storage.servers import (
    Listen,
    PolicyTarget,
    nbdkit_memory_argv,
    policy_target_argv,
    proxy_argv,
    qemu_storage_daemon_argv,
    wait_listening,
)

LISTEN = Listen("10.0.0.1", 10809)
SIZE = 8 << 20


def test_servers_stay_in_the_foreground_with_threads_for_many_held_writes() -> None:
    target = PolicyTarget(4096, ConflictModel.SERIALIZE, 2.5, True, Path("c"), Path("l"), Path("/dev/sdz"))
    argv = policy_target_argv(LISTEN, target)
    assert argv[:8] == ["nbdkit", "-f", "-t", "256", "-i", "10.0.0.1", "-p", "10809"]
    assert argv[-7:] == [
        "size=4096",
        "conflict=serialize",
        "latency_ms=2.5",
        "flush=true",
        "control=c",
        "log=l",
        "backing=/dev/sdz",
    ]
    assert nbdkit_memory_argv(LISTEN, 4096)[:4] == ["nbdkit", "-f", "-t", "256"]


def test_names_with_commas_stay_one_value_for_qemu() -> None:
    argv = qemu_storage_daemon_argv(LISTEN, Path("/a,b"), ["x"], Path("/c,d"))
    assert "driver=file,node-name=image,filename=/a,,b" in argv
    assert "socket,id=monitor,path=/c,,d,server=on,wait=off" in argv


def test_the_proxy_is_told_a_port_for_each_node() -> None:
    argv = proxy_argv({"x": Listen("::1", 1), "y": LISTEN}, Path("/run/s.sock"), Path("c"), Path("l"))
    assert argv[1:] == [
        *("-m", "jepsen_blk.storage.proxy"),
        *("--listen", "x=[::1]:1", "--listen", "y=10.0.0.1:10809"),
        *("--server", "unix:/run/s.sock", "--control", "c", "--log", "l"),
    ]


def test_the_proxy_names_a_bad_address() -> None:
    argv = proxy_argv({"x": LISTEN}, LISTEN, Path("c"), Path("l"))
    argv[argv.index("--server") + 1] = "nowhere"
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0
    assert "'nowhere' is not ADDR:PORT" in ended.stderr


def test_a_server_that_never_listens_is_a_lab_error() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(LabError, match=r"nbdkit does not listen after 0\.01 s; see its log"):
        asyncio.run(wait_listening(never, "nbdkit", 0.01))
