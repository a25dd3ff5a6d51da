"""Who may write, in the target's own words: SCSI-3 persistent reservations, sent on the nodes' own sessions.

A registration is of an I_T nexus, that is of one session, and QEMU's sessions are its own: where a cluster
has an agent on each node, with sg_persist on the kernel's session, here the proxy that every session passes
adds PERSISTENT RESERVE OUT to them. The target registers, reserves and refuses.

    each session of an admitted node, before it works    REGISTER AND IGNORE EXISTING KEY
    the first of all                                     RESERVE (write exclusive, registrants only)
    fence of X                                           PREEMPT, or PREEMPT AND ABORT, by another node
    admit X again                                        REGISTER on the sessions that X has
"""

from __future__ import annotations

import asyncio
import logging
import struct
import zlib
from enum import IntEnum

from jepsen_blk.storage.iscsi_wire import UNIT_ATTENTION, IscsiWire, answer_of
from jepsen_blk.storage.parking import ParkedConnection

UNIT = 1
"""The logical unit that a server of ours offers."""
TIMEOUT_S = 10.0

_log = logging.getLogger("jepsen_blk.storage.proxy")
_OPERATION = 0x5F
_WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 0x05
_PARAMETERS = struct.Struct(">QQ8x")
_MOST_ATTENTIONS = 4


class Action(IntEnum):
    """What a PERSISTENT RESERVE OUT asks for."""

    RESERVE = 0x01
    PREEMPT = 0x04
    PREEMPT_AND_ABORT = 0x05
    REGISTER_AND_IGNORE_EXISTING_KEY = 0x06

    @property
    def title(self) -> str:
        """Return its name in the standard."""
        return self.name.replace("_", " ")


class ReservationError(Exception):
    """The target has refused, or there is nobody to ask it; the message is one line."""


class Reservations:
    """The nodes' sessions, and which nodes are admitted."""

    def __init__(self) -> None:
        self._sessions: dict[ParkedConnection, IscsiWire] = {}
        self._registered: set[str] = set()
        self._out: set[str] = set()
        self._reserved = False
        self._turn = asyncio.Lock()

    async def opened(self, connection: ParkedConnection, wire: IscsiWire) -> None:
        """Register a new session, if its node is admitted."""
        self._sessions[connection] = wire
        try:
            async with asyncio.timeout(TIMEOUT_S), self._turn:
                if connection.node not in self._out:
                    await self._register(connection)
        except (ReservationError, ConnectionError, TimeoutError) as error:
            _log.error("%s: its session is not registered: %s", connection.node, error or "no answer in time")

    def closed(self, connection: ParkedConnection) -> None:
        """Forget a session; the target may keep its registration."""
        self._sessions.pop(connection, None)

    async def fence(self, node: str, *, abort: bool) -> None:
        """Take the node's registrations away, by a session of another node that is admitted.

        Raises ReservationError, ConnectionError or TimeoutError: then the node may write still.
        """
        action = Action.PREEMPT_AND_ABORT if abort else Action.PREEMPT
        async with asyncio.timeout(TIMEOUT_S), self._turn:
            others = [one for one in self._living() if one.node not in self._out | {node}]
            by = others[-1] if others else None
            if by is None:
                raise ReservationError(f"no other node than {node} has a session to send {action.title} on")
            if node in self._registered:
                await self._ask(by, action, _key(by.node), _key(node))
            self._registered.discard(node)
            self._out.add(node)

    async def unfence(self, node: str) -> None:
        """Admit the node: register the sessions that it has, and from now on those that it opens."""
        async with asyncio.timeout(TIMEOUT_S), self._turn:
            if node in self._out:
                self._out.discard(node)
                for connection in [one for one in self._living() if one.node == node]:
                    await self._register(connection)

    def _living(self) -> list[ParkedConnection]:
        """The sessions whose initiators are there: nobody would register what is left of another one."""
        return [one for one in self._sessions if not one.client_left]

    async def _register(self, connection: ParkedConnection) -> None:
        key = _key(connection.node)
        await self._ask(connection, Action.REGISTER_AND_IGNORE_EXISTING_KEY, 0, key)
        self._registered.add(connection.node)
        if not self._reserved:
            await self._ask(connection, Action.RESERVE, key, 0)
            self._reserved = True

    async def _ask(self, connection: ParkedConnection, action: Action, key: int, other_key: int) -> None:
        """Send it, and again after a unit attention, which says what happened before and does nothing."""
        block = struct.pack(
            ">BBBxxIB", _OPERATION, action, _WRITE_EXCLUSIVE_REGISTRANTS_ONLY, _PARAMETERS.size, 0
        )
        wire = self._sessions[connection]
        for _ in range(_MOST_ATTENTIONS):
            command = wire.command(UNIT, block, _PARAMETERS.pack(key, other_key))
            answer = answer_of((await connection.execute(command)).raw)
            if answer.sense[0] != UNIT_ATTENTION:
                break
        if answer.text:
            raise ReservationError(f"the target answers {action.title} with {answer.text}")


def _key(node: str) -> int:
    """Return the node's reservation key, the same whenever it is registered."""
    return zlib.crc32(node.encode()) | 1 << 32
