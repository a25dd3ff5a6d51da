"""Linux AIO without a library: many requests in flight from one thread that never blocks in one.

The guest must be able to suspend while the storage holds a write, so the workload may not sit in
a write system call; and a Python thread a request costs twice the time. The four system calls are
made through ctypes. All memory the kernel looks at (control blocks, pointers, events, data) is
laid out once, so that a request costs its caller two stores: its offset when it is prepared, and its
place in the queue when it is submitted.
"""

import ctypes
import errno
import mmap
import os
import struct
from typing import Self

from jepsen_blk.stamp import BLOCK_BYTES
from workloads.agent.operations import REQUESTS

_NUMBERS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""System call numbers of io_setup, io_destroy, io_getevents, io_submit."""
_PREAD, _PWRITE, _FDSYNC = 0, 1, 3
_IOCB = struct.Struct("<QIIHhIQQqQII")
"""data, key, rw_flags, opcode, priority, fd, buffer, length, offset, reserved, flags, event fd."""
_WORDS = _IOCB.size // 8
_OFFSET_WORD = 5
_EVENT = struct.Struct("<q8xq8x")
"""Request, (control block), bytes done or negative errno, (second result)."""
_WAIT_NS = 4_000_000

# The agent has one thread: letting go of the interpreter's lock around a call would cost and give nothing.
# So would keeping errno, in every call but one that has failed.
_libc = ctypes.PyDLL(None)
_call = _libc.syscall
_call.restype = ctypes.c_long
_call_errno = ctypes.PyDLL(None, use_errno=True).syscall
_call_errno.restype = ctypes.c_long


class Aio:
    """A context of requests on one file; slot i reads into and writes from block i of `buffers`.

    Request 4 * i is slot i's read, 4 * i + 1 its write, 4 * i + 2 its flush of the whole file; there is no
    4 * i + 3. The byte offset in the file of a read or write is what `offsets` holds for it, that of a flush
    stays 0; `submit` takes those whose `pointers` were put into `queue`, from its beginning.
    While `ring[0] != ring[1]` (its head and its tail, written by the kernel), `reap` would not wait.
    Raises OSError if the kernel refuses the context.
    """

    def __init__(self, fd: int, slots: int) -> None:
        setup, self._destroy, self._getevents, self._submit = _NUMBERS[os.uname().machine]
        self.buffers = mmap.mmap(-1, slots * BLOCK_BYTES)
        iocbs = mmap.mmap(-1, slots * REQUESTS * _IOCB.size)
        queue = mmap.mmap(-1, slots * 8)
        events = mmap.mmap(-1, slots * _EVENT.size + 16)
        data_at, self._iocb_at = _address(self.buffers), _address(iocbs)
        for slot in range(slots):
            data = (data_at + slot * BLOCK_BYTES, BLOCK_BYTES)
            for kind, opcode, memory in ((0, _PREAD, data), (1, _PWRITE, data), (2, _FDSYNC, (0, 0))):
                request = slot * REQUESTS + kind
                iocb = (request, 0, 0, opcode, 0, fd, *memory, 0, 0, 0, 0)
                _IOCB.pack_into(iocbs, request * _IOCB.size, *iocb)
        self.offsets = memoryview(iocbs).cast("q")[_OFFSET_WORD::_WORDS]
        self.pointers = [self._iocb_at + request * _IOCB.size for request in range(slots * REQUESTS)]
        self.queue = memoryview(queue).cast("q")
        self._queue_at = ctypes.c_void_p(_address(queue))
        self._event_bytes = memoryview(events)
        timeout_at = slots * _EVENT.size
        struct.pack_into("<qq", events, timeout_at, 0, _WAIT_NS)
        self._events_at = ctypes.c_void_p(_address(events))
        self._timeout_at = ctypes.c_void_p(_address(events) + timeout_at)
        self._fd = fd
        self._refused: list[tuple[int, int]] = []
        self._most = slots
        self._context = ctypes.c_ulong(0)
        if _call_errno(setup, slots, ctypes.byref(self._context)) < 0:
            raise OSError(ctypes.get_errno(), "io_setup: " + os.strerror(ctypes.get_errno()))
        ring = (ctypes.c_uint32 * 4).from_address(self._context.value)
        self.ring = memoryview(ring).cast("B").cast("I")[2:]

    @classmethod
    def open(cls, device: str, slots: int) -> Self:
        """Open a device past the page cache; raises OSError."""
        return cls(os.open(device, os.O_RDWR | os.O_DIRECT), slots)

    def limit(self, count: int) -> None:
        """Reap at most `count` requests at a time."""
        self._most = count

    def submit(self, count: int) -> int:
        """Give the kernel the first `count` of the queue; return how many of them it has no room for yet.

        Those are moved to the queue's beginning. One that the kernel refuses is reported by `reap`.
        """
        done = _call(self._submit, self._context, count, self._queue_at)
        while done < count:
            if done > 0:
                count -= done
                self.queue[:count] = self.queue[done : done + count]
            done = _call_errno(self._submit, self._context, count, self._queue_at)
            if done < 0:
                code = ctypes.get_errno()
                if code in (errno.EAGAIN, errno.EINTR):
                    return count
                self._refused.append(((self.queue[0] - self._iocb_at) // _IOCB.size, -code))
                done = 1
        return 0

    def reap(self) -> list[tuple[int, int]]:
        """Return (request, bytes done or negative errno) of what has completed; waits up to 4 ms for one."""
        if self._refused:
            refused, self._refused = self._refused, []
            return refused
        count = _call(self._getevents, self._context, 1, self._most, self._events_at, self._timeout_at)
        if count <= 0:
            return []
        return list(_EVENT.iter_unpack(self._event_bytes[: count * _EVENT.size]))

    def close(self, in_flight: int) -> None:
        """Close the file; the kernel, which would wait for what is in flight, keeps the context then."""
        if not in_flight:
            _call(self._destroy, self._context)
        os.close(self._fd)


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
