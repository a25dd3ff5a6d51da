"""When did a client's connection end? nbdkit tells its plugin only once all its requests have ended.

A held write keeps its dead connection's `close` from being called, yet the moment of death matters:
it is logged, and one conflict model acts on it. So this module finds the connection's socket among
the process's own and watches it for the end of the stream. That works for TCP, where a peer's
address names its connection; on a unix socket the end is seen when nbdkit says so.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import stat
import threading
from collections.abc import Callable

_ADDRESS_BYTES = 128
_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_KEEPALIVE_S = 1
_KEEPALIVE_PROBES = 2
_UNREACHABLE_MS = 3000


class PeerWatcher:
    """Calls back, once each, when watched connections end."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[socket.socket, Callable[[], None]]] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the thread that watches."""
        threading.Thread(target=self._run, name="peers", daemon=True).start()

    def watch(self, ended: Callable[[], None], *, keepalive: bool) -> int | None:
        """Watch the connection of the calling nbdkit thread; return a token for `forget`, or None.

        With `keepalive`, a peer that has become unreachable counts as gone after some 3 s.
        """
        peer = _peer_of_this_thread()
        connection = None if peer is None else _find_socket(peer)
        if connection is None:
            return None
        if keepalive:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
            # Keepalive is silent while data wait for an acknowledgement; this bounds that time too.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREACHABLE_MS)
        token = connection.fileno()
        with self._lock:
            self._watched[token] = (connection, ended)
            self._epoll.register(token, _GONE | select.EPOLLONESHOT)
        return token

    def forget(self, token: int) -> None:
        """Stop watching a connection that nbdkit is about to close."""
        with self._lock:
            connection, _ = self._watched.pop(token)
            self._epoll.unregister(token)
            connection.close()

    def _run(self) -> None:
        while True:
            for token, _ in self._epoll.poll():
                with self._lock:
                    watched = self._watched.get(token)
                    # The number may be another connection's by now: believe its own state only.
                    ended = watched[1] if watched is not None and _has_ended(watched[0]) else None
                if ended is not None:
                    ended()


def _has_ended(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def _peer_of_this_thread() -> tuple[int, bytes] | None:
    """Return (family, port and address bytes) of the client that nbdkit serves in this thread."""
    # nbdkit's Python has no peer_name; its C API, which this process exports, has.
    address = ctypes.create_string_buffer(_ADDRESS_BYTES)
    length = ctypes.c_uint32(_ADDRESS_BYTES)
    if ctypes.CDLL(None).nbdkit_peer_name(address, ctypes.byref(length)) != 0:
        return None
    family = int.from_bytes(address.raw[:2], "little")
    if family == socket.AF_INET:
        return family, address.raw[2:8]
    if family == socket.AF_INET6:
        return family, address.raw[2:4] + address.raw[8:24]
    return None


def _find_socket(peer: tuple[int, bytes]) -> socket.socket | None:
    """Return a duplicate of this process's socket that is connected to `peer`."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            candidate = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if _peer_of(candidate) == peer:
            return candidate
        candidate.close()
    return None


def _peer_of(connection: socket.socket) -> tuple[int, bytes] | None:
    try:
        name = connection.getpeername()
    except OSError:
        return None
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    host = socket.inet_pton(connection.family, name[0].partition("%")[0])
    return int(connection.family), int(name[1]).to_bytes(2, "big") + host
