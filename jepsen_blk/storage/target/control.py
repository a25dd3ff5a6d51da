"""The target's control socket: one thread a connection, since a wait may last as long as a hold.

It is a pathname unix socket, so the controller reaches it whatever the networks do.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jepsen_blk.storage.holds import HoldError
from jepsen_blk.storage.misbehaviour import MisbehaviourError
from jepsen_blk.storage.requests import MAX_REQUEST_BYTES, RequestError, ok, parse_request, refused

_REQUEST_TIMEOUT_S = 5.0

Handler = Callable[..., dict[str, Any]]


class ControlServer:
    """Answers requests at `path` by `handlers`, which are named and called as the protocol says."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if path.is_socket():
            path.unlink()
        self._socket.bind(str(path))

    def start(self) -> None:
        """Listen and answer from now on."""
        self._socket.listen(64)
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._socket.accept()
            threading.Thread(target=self._serve, args=(client,), name="control-client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # A client that is gone wants no answer.
        with client, contextlib.suppress(OSError):
            client.settimeout(_REQUEST_TIMEOUT_S)
            client.sendall(self._answer(_read_line(client)))

    def _answer(self, line: bytes) -> bytes:
        try:
            request = parse_request(line)
            return ok(**self._handlers[request.do](**request.fields))
        except (RequestError, HoldError, MisbehaviourError) as error:
            return refused(str(error))
        except TimeoutError:
            return refused("timeout")


def _read_line(client: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) <= MAX_REQUEST_BYTES:
        part = client.recv(65536)
        if not part:
            break
        line += part
    return line
