"""What a killed controller leaves on a node behind sshd is undone from its ledger, and nothing else is."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import run
from sshd_rig import Sshd
from wired import FAR, NEAR, wired_nodes

from jepsen_blk.lab.deeds import FrozenProcess
from jepsen_blk.lab.local.namespaces import Namespaces
from jepsen_blk.lab.network import CommandNetwork, End, Route
from jepsen_blk.lab.paths import Path_
from jepsen_blk.lab.processes import parse_stat

CONTROLLER = """
import asyncio, sys
from pathlib import Path
from jepsen_blk.lab.ledger import NodeLedger
from jepsen_blk.lab.network import CommandNetwork, End, Route
from jepsen_blk.lab.paths import Direction, Path_, RateLimit
from jepsen_blk.lab.ssh.inventory import read_inventory
from jepsen_blk.lab.ssh.node import SshNode

async def main():
    hosts = read_inventory(Path(sys.argv[1]))
    near, far = (SshNode(hosts[name]) for name in ("x", "storage"))
    route = Route(End(near, "10.1.0.2"), (End(far, "10.1.0.1"),))
    network = CommandNetwork({("x", Path_.STORAGE): route}, NodeLedger("killed/1", hosts["x"].ledger))
    await network.impair("x", Path_.STORAGE, RateLimit(4))
    await network.cut("x", Path_.STORAGE, Direction.IN)
    print("cut", flush=True)
    await asyncio.sleep(300)

asyncio.run(main())
"""


def heal(inventory: Path, *arguments: str) -> tuple[int, list[str]]:
    done = run("heal", "--inventory", str(inventory), *arguments, cwd=inventory.parent)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def behind_sshd(namespaces: Namespaces, name: str, folder: Path) -> Sshd:
    """Serve a namespace: sshd is outside of it, and every command of a client runs inside."""
    enter = namespaces.shell_command(name).removesuffix("bash")
    return Sshd(folder, command=f'{enter} sh -c "$SSH_ORIGINAL_COMMAND"')


def test_what_a_killed_controller_left_is_undone_and_then_there_is_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        namespaces = await Namespaces.create()
        try:
            near, far = await wired_nodes(namespaces)
            route = Route(End(near, NEAR), (End(far, FAR),))
            network = CommandNetwork({("x", Path_.STORAGE): route})
            with (
                behind_sshd(namespaces, "x", tmp_path / "x") as x,
                behind_sshd(namespaces, "storage", tmp_path / "storage") as storage,
            ):
                inventory = tmp_path / "lab.toml"
                inventory.write_text(x.table("x") + storage.table("storage", ledger="/run/other"))
                await healed_after_sigkill(network, inventory)
            assert "tbf" not in (await near.run(["tc", "qdisc", "show"])).stdout
        finally:
            await namespaces.destroy()

    asyncio.run(asyncio.wait_for(scenario(), 120))


async def healed_after_sigkill(network: CommandNetwork, inventory: Path) -> None:
    assert await network.reachable("x", Path_.STORAGE)
    with subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        [sys.executable, "-c", CONTROLLER, str(inventory)], stdout=subprocess.PIPE, text=True
    ) as controller:
        assert controller.stdout is not None
        assert await asyncio.to_thread(controller.stdout.readline) == "cut\n"
        controller.kill()
    assert not await network.reachable("x", Path_.STORAGE)
    code, lines = await asyncio.to_thread(heal, inventory, "--dry-run")
    assert (code, [line.split(" (")[0] for line in lines]) == (
        0,
        [
            "x: would be undone: packets dropped by nft table jepsen_blk_x_storage",
            "x: would be undone: what wire sends in a queue of kind tbf",
            "storage: nothing to heal",
        ],
    )
    assert not await network.reachable("x", Path_.STORAGE)
    code, lines = await asyncio.to_thread(heal, inventory)
    assert code == 0
    assert [line.split(":")[1] for line in lines] == [" undone", " undone", " nothing to heal"]
    assert "(run killed/1, 20" in lines[0]
    assert await network.reachable("x", Path_.STORAGE)
    assert await asyncio.to_thread(heal, inventory) == (
        0,
        ["x: nothing to heal", "storage: nothing to heal"],
    )


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as made:
        (tmp_path / "ledger").mkdir()
        (tmp_path / "lab.toml").write_text(made.table("x", ledger=str(tmp_path / "ledger")))
        yield made


def entry_of(deed: FrozenProcess, /, **other: object) -> str:
    words = {"pid": deed.pid, "started_ticks": deed.started_ticks, "kind": deed.kind}
    entry = {"deed": words, "what": "", "run": "r", "done_at": "2026-01-31T12:00:00Z", "undo": deed.undo}
    return json.dumps({**entry, **other})


@pytest.mark.usefixtures("sshd")
def test_a_frozen_process_goes_on_and_a_stranger_with_its_number_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sh", "-c", "kill -STOP $$; echo on"], stdout=subprocess.PIPE) as process:
        try:
            frozen_process_is_healed(process.pid, tmp_path)
            assert process.stdout is not None
            assert process.stdout.read() == b"on\n"
        finally:
            process.kill()


def frozen_process_is_healed(pid: int, tmp_path: Path) -> None:
    stat = Path(f"/proc/{pid}/stat")
    while parse_stat(stat.read_text())[1] != "T":
        pass
    found, _ = parse_stat(stat.read_text())
    for ticks, said in (found.started_ticks + 1, "x: gone already: "), (found.started_ticks, "x: undone: "):
        assert parse_stat(stat.read_text())[1] == "T"
        deed = FrozenProcess(pid, ticks)
        (tmp_path / f"ledger/{deed.name}.json").write_text(entry_of(deed))
        code, (line,) = heal(tmp_path / "lab.toml")
        assert line.startswith(said)
        assert code == 0


@pytest.mark.usefixtures("sshd")
def test_what_is_no_entry_of_ours_is_named_and_never_run(tmp_path: Path) -> None:
    deed = FrozenProcess(2, 1)
    files = {
        "a.json": entry_of(deed)[:40],
        "b.json": entry_of(deed),
        f"{deed.name}.json": entry_of(deed, undo=[["touch", f"{tmp_path}/hit"]]),
        "nft-x.json": entry_of(deed, deed={"kind": "nft-table", "table": "x; flush ruleset"}),
        "o.json": entry_of(deed, deed={"kind": "shell", "run": "id"}),
    }
    for name, text in files.items():
        (tmp_path / "ledger" / name).write_text(text)
    code, lines = heal(tmp_path / "lab.toml")
    assert code == 1
    assert len(lines) == len(files)
    for name, line in zip(sorted(files), lines, strict=True):
        assert line.startswith(f"x: NOT run, no entry of ours: {tmp_path}/ledger/{name}: ")
    assert "it is not whole" in lines[0]
    assert not (tmp_path / "hit").exists()
    assert {path.name for path in (tmp_path / "ledger").iterdir()} == set(files)


def test_a_node_that_cannot_be_reached_is_named_and_the_rest_is_healed(sshd: Sshd, tmp_path: Path) -> None:
    gone = sshd.table("gone", proxy_command=["false"])
    (tmp_path / "lab.toml").write_text(gone + sshd.table("x", ledger=str(tmp_path / "ledger")))
    code, (first, second) = heal(tmp_path / "lab.toml")
    assert code == 1
    assert first.startswith("gone: node gone (")
    assert "cannot be reached" in first
    assert second == "x: nothing to heal"
    assert heal(tmp_path / "lab.toml", "x") == (0, ["x: nothing to heal"])
