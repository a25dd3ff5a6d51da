"""The controller's side of storage control: the `Storage` seam over a unix socket.

One request a connection, so a wait that lasts never stands in the way of another request, and a
cancelled wait is just a closed socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jepsen_blk.errors import LabError
from jepsen_blk.storage.holds import InFlight
from jepsen_blk.storage.misbehaviour import Misbehaved, Misbehaviour

_REPLY_TIMEOUT_S = 15.0
"""Bound on a request that does not wait; a fence may take the target's own 10 s."""
_GRACE_S = 5.0
"""How much longer than the server's own time-out a wait may take to be answered."""
_MAX_REPLY_BYTES = 16 << 20
_POLL_S = 0.02
_SEE = "see logs/storage.log of its run"
"""The socket's own path is gone with the lab, and another one in each run."""


class StorageControl:
    """Speaks to the policy target or the proxy behind `socket_path`; all errors are LabError."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path

    async def wait_ready(self, timeout_s: float) -> None:
        """Return once the storage answers; raises LabError after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    with contextlib.suppress(LabError):
                        await self.stats()
                        return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise LabError(f"the storage did not start within {timeout_s:g} s; {_SEE}") from error

    async def in_flight(self, node: str) -> Sequence[InFlight]:
        """Return the node's writes in flight, in order of arrival."""
        reply = await self._request("in_flight", node=node)
        return [InFlight(**write) for write in reply["writes"]]

    async def wait_in_flight(
        self, node: str, blocks: Sequence[int], count: int, timeout_s: float
    ) -> Sequence[InFlight]:
        """Return the writes that were in flight once `node` had `count` (to one of `blocks`, if given)."""
        reply = await self._request("wait_in_flight", timeout_s, node=node, blocks=list(blocks), count=count)
        return [InFlight(**write) for write in reply["writes"]]

    async def hold(self, node: str, blocks: Sequence[int] = ()) -> int:
        """Arm a hold on the next write of `node` (to one of `blocks`, if given); return its id."""
        reply = await self._request("hold", node=node, blocks=list(blocks))
        return int(reply["hold"])

    async def wait_held(self, hold: int, timeout_s: float) -> InFlight:
        """Return the write that the hold caught."""
        reply = await self._request("wait_held", timeout_s, hold=hold)
        return InFlight(**reply["write"])

    async def wait_writes(self, node: str, block: int, count: int, timeout_s: float) -> None:
        """Return once `node` has had `count` writes to `block` completed since the hold caught its write."""
        await self._request("wait_writes", timeout_s, node=node, block=block, count=count)

    async def reissues(self, node: str) -> int:
        """Return how many writes `node` has sent again, because it never learned of their end."""
        return int((await self._request("reissues", node=node))["count"])

    async def wait_reissues(self, node: str, count: int, timeout_s: float) -> None:
        """Return once `node` has sent `count` writes again."""
        await self._request("wait_reissues", timeout_s, node=node, count=count)

    async def release(self, hold: int) -> None:
        """Let the held write go on; an armed hold that caught nothing is disarmed."""
        await self._request("release", hold=hold)

    async def wait_landed(self, hold: int, timeout_s: float) -> None:
        """Return once the released write has been applied, ignored or refused."""
        await self._request("wait_landed", timeout_s, hold=hold)

    async def fence(self, node: str, *, abort: bool) -> None:
        """Refuse new commands of `node`; with `abort` also end the accepted ones, and confirm both."""
        await self._request("fence", node=node, abort=abort)

    async def raise_epoch(self, node: str) -> None:
        """Make `node` the holder of a new epoch: writes of older ones are refused when applied."""
        await self._request("raise_epoch", node=node)

    async def admit_single_writer(self, node: str) -> None:
        """Make `node` the one active writer; its writes wait until every other node's are flushed."""
        await self._request("single_writer", node=node)

    async def unfence(self, node: str) -> None:
        """Admit the node again."""
        await self._request("unfence", node=node)

    async def misbehave(self, what: Misbehaviour) -> int:
        """Answer requests late or with an error from now on; return the id of the misbehaviour."""
        reply = await self._request("misbehave", **asdict(what))
        return int(reply["misbehaviour"])

    async def wait_misbehaved(self, misbehaviour: int, count: int, timeout_s: float) -> Misbehaved:
        """Return once `count` requests have been answered as the misbehaviour says."""
        reply = await self._request("wait_misbehaved", timeout_s, misbehaviour=misbehaviour, count=count)
        return Misbehaved(**{name: value for name, value in reply.items() if name != "ok"})

    async def behave(self, misbehaviour: int) -> None:
        """End a misbehaviour, also for the requests that it delays; no error if it has ended."""
        await self._request("behave", misbehaviour=misbehaviour)

    async def stats(self) -> dict[str, Any]:
        """Return counters: writes received, applied, ignored, refused, aborted, held, in flight."""
        reply = await self._request("stats")
        return dict(reply["stats"])

    async def _request(self, do: str, timeout_s: float | None = None, **fields: Any) -> dict[str, Any]:
        if timeout_s is not None:
            fields["timeout_s"] = timeout_s
        bound_s = _REPLY_TIMEOUT_S if timeout_s is None else timeout_s + _GRACE_S
        what = " ".join([do, *(f"{name}={value}" for name, value in fields.items() if name != "blocks")])
        try:
            async with asyncio.timeout(bound_s):
                line = await self._exchange(json.dumps({"do": do, **fields}).encode() + b"\n")
        except TimeoutError as error:
            raise LabError(f"the storage: no answer to {what} within {bound_s:g} s; {_SEE}") from error
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            raise LabError(f"the storage does not answer {what} ({why}); {_SEE}") from error
        try:
            reply = json.loads(line)
        except ValueError as error:
            raise LabError(f"the storage ended without answering {what}; {_SEE}") from error
        if not reply["ok"]:
            raise LabError(f"the storage: {what}: {reply['error']}")
        return dict(reply)

    async def _exchange(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=_MAX_REPLY_BYTES)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.readline()
        finally:
            writer.close()
