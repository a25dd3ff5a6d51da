"""The lab's namespaces: nodes in them, and nothing left when the controller is gone."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jepsen_blk.errors import LabError
from jepsen_blk.lab.local.namespaces import Namespaces


def descendants(pid: int) -> list[int]:
    """All processes under `pid`, from /proc."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children] + [
        below for child in children for below in descendants(int(child))
    ]


def test_a_node_runs_commands_and_tells_how_they_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        namespaces = await Namespaces.create()
        try:
            node = await namespaces.node("x")
            done = await node.run(["cat"], stdin="hello")
            assert (done.code, done.stdout) == (0, "hello")
            with pytest.raises(LabError, match=r"node x: false ended with 1"):
                await node.run(["false"])
            with pytest.raises(LabError, match=r"took more than 0.1 s"):
                await node.run(["sleep", "30"], timeout_s=0.1)
            process = await node.start(["sleep", "30"], log=tmp_path / "log")
            assert process.running
            await process.kill()
            assert not process.running
        finally:
            await namespaces.destroy()

    asyncio.run(scenario())


def test_a_command_that_is_cut_off_ends_with_all_that_it_has_started(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    async def scenario() -> None:
        namespaces = await Namespaces.create()
        try:
            node = await namespaces.node("x")
            script = f"trap '' TERM; sleep 600 & touch {begun}; wait"
            command = asyncio.create_task(node.run(["timeout", "600", "bash", "-c", script], timeout_s=600))
            while not begun.exists():
                await asyncio.sleep(0.01)
            command.cancel()
            async with asyncio.timeout(30):
                await asyncio.wait({command})
            assert command.cancelled()
        finally:
            await namespaces.destroy()

    asyncio.run(scenario())


def test_a_frozen_node_stands_still_goes_on_and_can_be_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        namespaces = await Namespaces.create()
        try:
            node, other = await namespaces.node("x"), await namespaces.node("y")
            log = tmp_path / "log"
            process = await node.start(["sh", "-c", "echo started; exec sleep 30"], log=log)
            bystander = await other.start(["sleep", "30"], log=log)
            while not log.read_text():
                await asyncio.sleep(0.01)
            await node.freeze()
            assert node.frozen
            assert not bystander.frozen
            node.thaw()
            assert not node.frozen
            await node.freeze()
            await process.kill()
            assert not process.running
            assert not node.frozen
        finally:
            await namespaces.destroy()

    asyncio.run(scenario())


def test_nodes_have_networks_of_their_own() -> None:
    async def scenario() -> None:
        namespaces = await Namespaces.create()
        try:
            x, y = await namespaces.node("x"), await namespaces.node("y")
            await x.run(["ip", "link", "add", "only-x", "type", "bridge"])
            assert "only-x" in (await x.run(["ip", "link"])).stdout
            assert "only-x" not in (await y.run(["ip", "link"])).stdout
        finally:
            await namespaces.destroy()

    asyncio.run(scenario())


def test_the_end_of_the_lab_reaps_what_still_ran_in_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        namespaces = await Namespaces.create()
        try:
            node = await namespaces.node("x")
            left = [await node.start(["sleep", "30"], log=tmp_path / "log") for _ in range(8)]
        finally:
            await namespaces.destroy()
        assert not any(process.running for process in left)

    asyncio.run(scenario())


CONTROLLER = """
import asyncio, sys
from pathlib import Path
from jepsen_blk.lab.local.namespaces import Namespaces

async def main():
    namespaces = await Namespaces.create()
    node = await namespaces.node("x")
    log = Path(sys.argv[1])
    await node.start(["sh", "-c", "echo started; exec sleep 300"], log=log)
    while not log.read_text():
        await asyncio.sleep(0.01)
    print("up", flush=True)
    await asyncio.sleep(300)

asyncio.run(main())
"""


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def test_sigkill_of_the_controller_ends_every_process_of_the_lab(controller: subprocess.Popen[str]) -> None:
    assert controller.stdout is not None
    assert controller.stdout.readline() == "up\n"
    inside = descendants(controller.pid)
    assert len(inside) >= 4  # unshare, process 1, nsenter, sleep
    ends = [os.pidfd_open(pid) for pid in inside]
    controller.send_signal(signal.SIGKILL)
    for end in ends:
        assert wait_gone(end), "a process of the lab outlives its controller"
        os.close(end)


def wait_gone(pidfd: int, timeout_s: float = 10) -> bool:
    """Wait until the process of a pidfd has ended."""
    return bool(select.select([pidfd], [], [], timeout_s)[0])
