"""The controller's client of the control socket: the Storage seam, and errors that name the storage."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nbd_client import EIO, NbdClient, data_of
from storage_rig import BOUND_S, policy_target

from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import InFlight, Storage
from jepsen_blk.storage.control import StorageControl


@contextmanager
def answering(path: Path, answer: Callable[[socket.socket], Any]) -> Iterator[None]:
    """Serve one connection on a unix socket by `answer`."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                answer(client)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(BOUND_S)


def test_the_seam_steers_a_real_target(tmp_path: Path) -> None:
    async def steer(storage: Storage, x: NbdClient, y: NbdClient) -> int:
        await StorageControl(tmp_path / "control.sock").wait_ready(BOUND_S)
        hold = await storage.hold("x", [3])
        held = x.send_write(3, data_of(3, 1))
        write = await storage.wait_held(hold, BOUND_S)
        assert isinstance(write, InFlight)
        assert (write.node, write.block, write.value, write.held) == ("x", 3, 1, True)
        assert list(await storage.in_flight("x")) == [write]
        assert y.write(3, data_of(3, 2)) == 0
        await storage.wait_writes("y", 3, 1, BOUND_S)
        await storage.fence("x", abort=True)
        assert await storage.in_flight("x") == []
        await storage.release(hold)
        await storage.wait_landed(hold, BOUND_S)
        await storage.unfence("x")
        await storage.raise_epoch("y")
        await storage.admit_single_writer("y")
        assert (await storage.stats())["aborted"] == 1
        return x.reply(held)

    with policy_target(tmp_path) as rig:
        assert asyncio.run(steer(StorageControl(rig.control), rig.client("x"), rig.client("y"))) == EIO


def test_a_refusal_becomes_one_line_that_names_storage_and_request(tmp_path: Path) -> None:
    with policy_target(tmp_path) as rig:
        control = StorageControl(rig.control)
        with pytest.raises(LabError, match=r"^the storage: release hold=9: there is no hold 9$"):
            asyncio.run(control.release(9))
        hold = asyncio.run(control.hold("x"))
        with pytest.raises(LabError, match=rf"wait_held hold={hold} timeout_s=0: timeout$"):
            asyncio.run(control.wait_held(hold, 0))


def test_a_storage_that_is_not_there_is_a_lab_error(tmp_path: Path) -> None:
    control = StorageControl(tmp_path / "none.sock")
    with pytest.raises(LabError, match=r"^the storage does not answer stats \(No such file"):
        asyncio.run(control.stats())
    with pytest.raises(LabError, match=r"did not start within 0 s; see logs/storage\.log of its run"):
        asyncio.run(control.wait_ready(0))


@pytest.mark.parametrize("reply", [b"", b'{"ok":tr'])
def test_a_storage_that_dies_in_its_answer_is_a_lab_error(tmp_path: Path, reply: bytes) -> None:
    path = tmp_path / "dying.sock"

    def answer(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(reply)

    with (
        answering(path, answer),
        pytest.raises(LabError, match=r"ended without answering in_flight node=x; see logs/storage\.log"),
    ):
        asyncio.run(StorageControl(path).in_flight("x"))


def test_a_storage_that_never_answers_is_a_lab_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jepsen_blk.storage.control._GRACE_S", 0.0)
    path = tmp_path / "silent.sock"
    with (
        answering(path, lambda client: [client.recv(4096), client.recv(1)]),
        pytest.raises(LabError, match=r"no answer to wait_held hold=1 timeout_s=0\.01 within"),
    ):
        asyncio.run(StorageControl(path).wait_held(1, 0.01))
