"""Heal hosts over SSH, all at once; one that cannot be reached keeps no other from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from jepsen_blk.errors import JepsenBlkError
from jepsen_blk.lab.heal import Found, heal_node
from jepsen_blk.lab.ssh.inventory import Host
from jepsen_blk.lab.ssh.node import SshNode


async def heal_hosts(hosts: Sequence[Host], say: Callable[[str], None], *, dry_run: bool = False) -> bool:
    """Undo what the hosts' ledgers have and say so, a line each; return whether all is well."""
    results = await asyncio.gather(*(_heal(host, dry_run=dry_run) for host in hosts))
    for host, found in zip(hosts, results, strict=True):
        for one in found or [Found("nothing to heal")]:
            say(f"{host.name}: {' '.join(one.text.split())}")
    return all(one.ok for found in results for one in found)


async def _heal(host: Host, *, dry_run: bool) -> list[Found]:
    node = SshNode(host)
    try:
        return await heal_node(node, host.ledger, dry_run=dry_run)
    except JepsenBlkError as error:
        return [Found(str(error), ok=False)]
    finally:
        await node.close()
