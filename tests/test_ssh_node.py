"""Commands over a real sshd: what they end with, what bounds them, and whom they trust."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sshd_rig import PATH, Sshd, make_key

from jepsen_blk.errors import LabError, UserError
from jepsen_blk.lab.ssh.inventory import read_inventory
from jepsen_blk.lab.ssh.node import SshNode


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as made:
        yield made


def on_node(sshd: Sshd, scenario: Callable[[SshNode], Awaitable[None]], **more: object) -> None:
    async def run() -> None:
        inventory = sshd.folder / "lab.toml"
        inventory.write_text(sshd.table("x", **more))
        node = SshNode(read_inventory(inventory)["x"])
        try:
            await scenario(node)
        finally:
            await node.close()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_command_gets_its_input_and_tells_its_output_and_how_it_ended(sshd: Sshd) -> None:
    async def scenario(node: SshNode) -> None:
        done = await node.run(["sh", "-c", "cat; echo aside >&2"], stdin="hello")
        assert (done.code, done.stdout, done.stderr) == (0, "hello", "aside\n")
        with pytest.raises(LabError, match=r"node x: sh -c echo why >&2; exit 7 ended with 7: why"):
            await node.run(["sh", "-c", "echo why >&2; exit 7"])
        with pytest.raises(LabError, match=r"ended with 127: .*no-such-command"):
            await node.run(["no-such-command"])
        assert sshd.connections == 1

    on_node(sshd, scenario)


def test_large_input_and_output_on_both_streams_pass_at_once(sshd: Sshd) -> None:
    async def scenario(node: SshNode) -> None:
        given = "0123456789abcdef" * (4 << 16)  # 4 MiB: more than any window or pipe
        done = await node.run(["sh", "-c", "tee /dev/stderr"], stdin=given, timeout_s=40)
        assert (done.stdout == given, done.stderr == given) == (True, True)
        done = await node.run(["true"], stdin=given)  # what is not read is no error
        assert done.code == 0

    on_node(sshd, scenario)


def test_arguments_arrive_as_they_are(sshd: Sshd) -> None:
    hostile = ["$(touch hit)", "`id`", "a'b\"c", "*", "-n", "", "; reboot", "new\nline", "\\", "ü€", "!x"]

    async def scenario(node: SshNode) -> None:
        done = await node.run(["printf", "%s\\0", *hostile])
        assert done.stdout.split("\0")[:-1] == hostile

    on_node(sshd, scenario)


@pytest.mark.parametrize("script", ["exec sleep 300", "trap '' TERM; while :; do sleep 300; done"])
def test_a_command_that_never_ends_is_ended_on_the_node(script: str, sshd: Sshd, tmp_path: Path) -> None:
    async def scenario(node: SshNode) -> None:
        with pytest.raises(LabError, match=r"node x: sh took more than 0.5 s"):
            await node.run(["sh", "-c", f"echo $$ >{tmp_path}/pid; {script}"], timeout_s=0.5)
        pid = int((tmp_path / "pid").read_text())
        while is_running(pid):
            await asyncio.sleep(0.01)
        assert (await node.run(["echo", "on"])).stdout == "on\n"
        assert sshd.connections == 1

    on_node(sshd, scenario)


def test_a_command_whose_connection_dies_is_an_error_and_the_next_one_connects_again(sshd: Sshd) -> None:
    async def scenario(node: SshNode) -> None:
        begun = sshd.folder / "begun"
        command = asyncio.ensure_future(node.run(["sh", "-c", f"echo . >{begun}; sleep 5"]))
        while not begun.exists():
            await asyncio.sleep(0.01)
        sshd.kill_connections()
        with pytest.raises(LabError, match=r"node x: the connection was lost during sh"):
            await command
        assert (await node.run(["echo", "again"])).stdout == "again\n"
        sshd.kill_connections()  # while nobody uses it
        assert (await node.run(["echo", "again"])).stdout == "again\n"

    on_node(sshd, scenario)


def test_a_host_that_does_not_answer_is_named(sshd: Sshd) -> None:
    async def scenario(node: SshNode) -> None:
        with pytest.raises(LabError, match=r"node x \(127.0.0.1\) cannot be reached"):
            await node.run(["true"])

    on_node(sshd, scenario, port=22, proxy_command=["false"])


def test_an_unknown_host_key_is_refused_with_what_to_do(sshd: Sshd) -> None:
    async def scenario(node: SshNode) -> None:
        with pytest.raises(
            UserError, match=r"is not in .*known_hosts: it shows ssh-ed25519 SHA256:.*ssh-keyscan -p"
        ):
            await node.run(["true"])

    sshd.known_hosts.unlink()
    on_node(sshd, scenario)
    assert not sshd.known_hosts.exists()


def test_a_changed_host_key_is_refused_with_what_to_do(sshd: Sshd, tmp_path: Path) -> None:
    async def scenario(node: SshNode) -> None:
        with pytest.raises(UserError, match=r"has changed: it shows .*ssh-keygen -R '\[127.0.0.1\]:"):
            await node.run(["true"])

    real, sshd.host_key = sshd.host_key, make_key(tmp_path / "other")
    sshd.know()
    sshd.host_key = real
    before = sshd.known_hosts.read_text()
    on_node(sshd, scenario)
    assert sshd.known_hosts.read_text() == before


def test_a_refused_key_is_named(sshd: Sshd, tmp_path: Path) -> None:
    async def scenario(node: SshNode) -> None:
        with pytest.raises(UserError, match=rf"refuses .* with the key {other}; add the public key"):
            await node.run(["true"])

    other = make_key(tmp_path / "other")
    on_node(sshd, scenario, key=str(other))


def test_a_proxy_command_carries_the_connection(sshd: Sshd) -> None:
    async def scenario(node: SshNode) -> None:
        assert (await node.run(["echo", "through"])).stdout == "through\n"
        assert sshd.connections == 0

    on_node(sshd, scenario, proxy_command=sshd.argv)


def test_sudo_is_asked_never_to_ask_and_has_the_whole_command(tmp_path: Path) -> None:
    (tmp_path / "sudo").write_text('#!/bin/sh\necho "$1 $2" >&2\nshift 2\nexec "$@"\n')
    (tmp_path / "sudo").chmod(0o755)

    async def scenario(node: SshNode) -> None:
        done = await node.run(["echo", "a  b"])
        assert (done.stdout, done.stderr) == ("a  b\n", "-n --\n")

    with Sshd(tmp_path / "sshd", path=f"{tmp_path}:{PATH}") as sshd:
        on_node(sshd, scenario, sudo=True)


def test_a_started_process_logs_is_frozen_and_killed_over_any_connection(sshd: Sshd, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def scenario(node: SshNode) -> None:
        short = await node.start(["sh", "-c", "echo out; echo err >&2; exit 3"], log=log)
        assert await short.wait(20) == 3
        assert sorted(log.read_text().split()) == ["err", "out"]
        process = await node.start(["sleep", "300"], log=log)
        with pytest.raises(LabError, match=r"x:sleep still runs after 0.01 s"):
            await process.wait(0.01)
        await process.freeze()
        assert await process.frozen()
        await process.thaw()
        assert not await process.frozen()
        sshd.kill_connections()
        assert process.running
        await process.kill()
        assert not process.running

    on_node(sshd, scenario)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
