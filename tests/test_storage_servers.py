"""How servers are started, and which devices a test refuses to overwrite."""

from __future__ import annotations

import asyncio
import stat
import subprocess
from pathlib import Path

import pytest

from jepsen_blk.errors import LabError, UserError
from jepsen_blk.storage import servers
from jepsen_blk.storage.conflict import ConflictModel
from jepsen_blk.storage.servers import (
    Listen,
    PolicyTarget,
    nbdkit_memory_argv,
    policy_target_argv,
    proxy_argv,
    qemu_storage_daemon_argv,
    refuse_used_device,
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
    argv = qemu_storage_daemon_argv(LISTEN, Path("/a,b"), ["x,y"])
    assert "driver=file,node-name=image,filename=/a,,b" in argv
    assert "type=nbd,id=export0,node-name=disk,name=x,,y,writable=on" in argv


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


def test_a_missing_file_and_a_zeroed_one_may_be_used(tmp_path: Path) -> None:
    refuse_used_device(tmp_path / "new", SIZE)
    assert not (tmp_path / "new").exists()
    zeroed = tmp_path / "zeroed"
    with zeroed.open("wb") as file:
        file.truncate(SIZE)
    refuse_used_device(zeroed, SIZE)
    (tmp_path / "empty").touch()
    refuse_used_device(tmp_path / "empty", SIZE)


@pytest.mark.parametrize("place", [0, 512, SIZE // 2, SIZE - 1])
def test_a_file_that_holds_data_is_refused_unless_forced(tmp_path: Path, place: int) -> None:
    used = tmp_path / "used"
    with used.open("wb") as file:
        file.truncate(SIZE)
        file.seek(place)
        file.write(b"!")
    with pytest.raises(
        UserError, match=r"used: holds data \(at byte \d+\) that the test would destroy; wipe it"
    ):
        refuse_used_device(used, SIZE)
    refuse_used_device(used, SIZE, force=True)


def test_data_behind_the_part_to_be_used_do_not_matter(tmp_path: Path) -> None:
    used = tmp_path / "used"
    with used.open("wb") as file:
        file.seek(SIZE)
        file.write(b"!")
    refuse_used_device(used, SIZE)


def test_what_cannot_be_a_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is neither a file nor a block device"):
        refuse_used_device(tmp_path, SIZE)
    with pytest.raises(UserError, match=f"there is no directory {tmp_path}/no"):
        refuse_used_device(tmp_path / "no" / "disk", SIZE)


def test_a_mounted_or_short_device_is_refused_even_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tmp_path / "short"
    short.write_bytes(bytes(4096))
    monkeypatch.setattr(stat, "S_ISBLK", lambda mode: True)
    monkeypatch.setattr(servers, "_is_mounted", lambda path: False)
    with pytest.raises(UserError, match=f"has 4096 bytes, the test needs {SIZE}; use fewer blocks"):
        refuse_used_device(short, SIZE, force=True)
    monkeypatch.setattr(servers, "_is_mounted", lambda path: True)
    with pytest.raises(UserError, match="is mounted; unmount it"):
        refuse_used_device(short, SIZE, force=True)
