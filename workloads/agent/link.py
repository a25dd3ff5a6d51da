"""The guest's end of the link: a port to write to and a memory of what the host has not acked.

The memory is what makes a migration lossless: it moves with the guest, and whatever the old
socket swallowed is sent again. It is bounded; when it is full the workload stops issuing.
"""

import json
import os
import select
import stat
import time
from typing import Any

from workloads.agent.frames import JSON, ROWS, pack_frame

UNACKED_LIMIT_BYTES = 8 << 20
_READ_BYTES = 1 << 16
_WRITE_BYTES = 1 << 15
_RESEND_AFTER_NS = 1_000_000_000
_CONTROL_LIMIT = 64
_LINE_LIMIT_BYTES = 1 << 16


class Outbox:
    """Frames on their way: row frames are numbered from 1 and kept until acked, replies are sent once."""

    def __init__(self) -> None:
        self.sequence = 0
        self.unacked_bytes = 0
        self._frames: dict[int, bytes] = {}
        self._acked = 0
        self._next = 1
        self._control: list[bytes] = []
        self._partial = b""
        self._sent_ns = 0

    def rows(self, payload: bytes) -> None:
        """Number a frame of rows and keep it."""
        self.sequence += 1
        frame = pack_frame(ROWS, self.sequence, payload)
        self._frames[self.sequence] = frame
        self.unacked_bytes += len(frame)

    def control(self, message: dict[str, Any]) -> None:
        """Send a JSON object ahead of the rows; it may be lost, and the host then asks again."""
        if len(self._control) < _CONTROL_LIMIT:
            self._control.append(pack_frame(JSON, 0, json.dumps(message).encode()))

    def ack(self, sequence: int, resend: bool) -> None:
        """Forget the frames up to `sequence`; with `resend` send all others again."""
        for number in range(self._acked + 1, min(sequence, self.sequence) + 1):
            self.unacked_bytes -= len(self._frames.pop(number))
            self._acked = number
        self._next = self._acked + 1 if resend else max(self._next, self._acked + 1)

    def clear(self) -> None:
        """Forget all rows and number from 1 again; a frame half written is still finished."""
        self._frames.clear()
        self.sequence = self.unacked_bytes = self._acked = 0
        self._next = 1

    @property
    def pending(self) -> bool:
        """Tell whether there is something to write now."""
        return bool(self._partial or self._control or self._next <= self.sequence)

    def next_chunk(self, now_ns: int) -> bytes:
        """Return bytes to write (empty: none); the writer gives back what it could not write."""
        if self._partial:
            chunk, self._partial = self._partial, b""
            return chunk
        if self._next > self.sequence and self._frames and now_ns - self._sent_ns > _RESEND_AFTER_NS:
            self._next = self._acked + 1
        parts, self._control = self._control, []
        size = sum(map(len, parts))
        while self._next <= self.sequence and size < _WRITE_BYTES:
            frame = self._frames[self._next]
            parts.append(frame)
            size += len(frame)
            self._next += 1
            self._sent_ns = now_ns
        return b"".join(parts)

    def give_back(self, rest: bytes) -> None:
        """Keep the unwritten end of a chunk; it goes first next time."""
        self._partial = rest


class Port:
    """The virtio-serial port, or a unix socket in its place; never blocks. Raises OSError, EOFError."""

    def __init__(self, path: str) -> None:
        self._is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
        if self._is_socket:
            import socket  # the guest's image has no use for it

            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            connection.setblocking(False)
            self._fd = connection.detach()
        else:
            self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._poll = select.poll()
        self._input = select.poll()
        self._input.register(self._fd, select.POLLIN)
        self._line = b""

    def read_lines(self) -> list[bytes]:
        """Return the complete lines that have come."""
        # Asked first, since a read refused costs an exception, and nearly every turn would pay it.
        if not self._input.poll(0):
            return []
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            if self._is_socket:
                raise EOFError("the host closed the link")
            return []
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _LINE_LIMIT_BYTES:
            self._line = b""
        return lines

    def write(self, outbox: Outbox, now_ns: int) -> None:
        """Write what the outbox has to send, as far as the port takes it."""
        while chunk := outbox.next_chunk(now_ns):
            try:
                done = os.write(self._fd, chunk)
            except BlockingIOError:
                done = 0
            if done < len(chunk):
                outbox.give_back(chunk[done:])
                return

    def wait(self, timeout_s: float, writing: bool) -> None:
        """Wait until there is something to read (or room to write), at most `timeout_s`.

        Without a host the port reports a hang-up at once and for ever: sleep instead of spinning.
        """
        self._poll.register(self._fd, select.POLLIN | (select.POLLOUT if writing else 0))
        for _, events in self._poll.poll(timeout_s * 1000):
            if events & select.POLLHUP and not self._is_socket:
                time.sleep(timeout_s)

    def close(self) -> None:
        """Close the port."""
        os.close(self._fd)
