"""A stock server that keeps a write in flight by itself: the throttle of qemu-storage-daemon.

The policy target holds a chosen write because it was built to; a throttle is what a provider limits a
tenant with, and a write that waits in one outlives its connection just the same. A throttle is a leaky
bucket: the first write passes whatever its size, the next waits until the first has leaked away.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from qemu.qmp import ExecuteError, QMPClient, QMPError

from jepsen_blk.errors import LabError

_TIMEOUT_S = 5.0


def throttle_group(node: str) -> str:
    """Return the id of the throttle before a node's export."""
    return f"throttle-{node}"


async def limit_writes(monitor: Path, node: str, bytes_per_s: int) -> None:
    """Let the node write no more than that from now on, 0 for no limit; what waits already waits on.

    Raises LabError if the server does not do it.
    """
    client = QMPClient("storage")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await client.connect(str(monitor))
            arguments = {
                "path": f"/objects/{throttle_group(node)}",
                "property": "limits",
                "value": {"bps-write": bytes_per_s},
            }
            await client.execute("qom-set", arguments)
            await client.disconnect()
    except TimeoutError as error:
        raise LabError(f"the storage daemon did not set a throttle within {_TIMEOUT_S:g} s") from error
    except (ExecuteError, QMPError, OSError) as error:
        raise LabError(f"the storage daemon did not set a throttle: {error}") from error
