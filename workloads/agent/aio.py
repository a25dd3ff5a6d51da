"""Linux AIO without a library: many requests in flight from one thread that never blocks in one.

The guest must be able to suspend while the storage holds a write, so the workload may not sit in
a write system call; and a Python thread a request costs twice the time. The four system calls are
made through ctypes. All memory the kernel looks at (control blocks, pointers, events, data) is
laid out once, so that queueing a request writes two words.
"""

import ctypes
import errno
import mmap
import os
import struct

from jepsen_blk.stamp import BLOCK_BYTES

_BLOCK_SHIFT = BLOCK_BYTES.bit_length() - 1
_NUMBERS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""System call numbers of io_setup, io_destroy, io_getevents, io_submit."""
_PREAD, _PWRITE = 0, 1
_IOCB = struct.Struct("<QIIHhIQQqQII")
"""data, key, rw_flags, opcode, priority, fd, buffer, length, offset, reserved, flags, event fd."""
_WORDS = _IOCB.size // 8
_OFFSET_WORD = 5
_EVENT = struct.Struct("<q8xq8x")
"""Slot, (control block), bytes done or negative errno, (second result)."""
_WAIT_NS = 4_000_000

# The agent has one thread: letting go of the interpreter's lock around a call would cost and give nothing.
_syscall = ctypes.PyDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class Aio:
    """A context of `slots` requests on one file; slot i reads into and writes from block i of `buffers`.

    Raises OSError if the kernel refuses the context.
    """

    def __init__(self, fd: int, slots: int) -> None:
        setup, destroy, getevents, submit = _NUMBERS[os.uname().machine]
        self.buffers = mmap.mmap(-1, slots * BLOCK_BYTES)
        self._iocbs = mmap.mmap(-1, slots * 2 * _IOCB.size)
        self._pointers = mmap.mmap(-1, slots * 8)
        self._events = mmap.mmap(-1, slots * _EVENT.size + 16)
        self._iocb_words = memoryview(self._iocbs).cast("q")
        self._pointer_words = memoryview(self._pointers).cast("q")
        self._event_bytes = memoryview(self._events)
        self._iocb_at = _address(self._iocbs)
        self._queued = 0
        self._refused: list[tuple[int, int]] = []
        data_at = _address(self.buffers)
        for slot in range(slots):
            for opcode in (_PREAD, _PWRITE):
                at = (slot * 2 + opcode) * _IOCB.size
                data = data_at + slot * BLOCK_BYTES
                _IOCB.pack_into(self._iocbs, at, slot, 0, 0, opcode, 0, fd, data, BLOCK_BYTES, 0, 0, 0, 0)
        context = ctypes.c_ulong(0)
        if _syscall(ctypes.c_long(setup), ctypes.c_uint(slots), ctypes.byref(context)) < 0:
            raise OSError(ctypes.get_errno(), "io_setup: " + os.strerror(ctypes.get_errno()))
        self._context = context
        self._destroy = ctypes.c_long(destroy)
        timeout_at = slots * _EVENT.size
        struct.pack_into("<qq", self._events, timeout_at, 0, _WAIT_NS)
        events_at = _address(self._events)
        self._limit = ctypes.c_long(slots)
        self._reap_arguments = (
            ctypes.c_long(getevents),
            context,
            ctypes.c_long(1),
            self._limit,
            ctypes.c_void_p(events_at),
            ctypes.c_void_p(events_at + timeout_at),
        )
        self._count = ctypes.c_long(0)
        pointers_at = ctypes.c_void_p(_address(self._pointers))
        self._submit_arguments = (ctypes.c_long(submit), context, self._count, pointers_at)

    def limit(self, count: int) -> None:
        """Reap at most `count` requests at a time."""
        self._limit.value = count

    def queue(self, slot: int, write: int, block: int) -> None:
        """Queue the slot's read (`write` 0) or write (`write` 1) of `block` for the next `submit`."""
        iocb = slot * 2 + write
        self._iocb_words[iocb * _WORDS + _OFFSET_WORD] = block << _BLOCK_SHIFT
        self._pointer_words[self._queued] = self._iocb_at + iocb * _IOCB.size
        self._queued += 1

    def submit(self) -> None:
        """Give the kernel what is queued; what it has no room for stays queued."""
        done = 0
        while done < self._queued:
            if done:
                rest = self._pointer_words[done : self._queued].tolist()
                self._queued = len(rest)
                for index, pointer in enumerate(rest):
                    self._pointer_words[index] = pointer
            self._count.value = self._queued
            done = _syscall(*self._submit_arguments)
            if done < 0:
                code = ctypes.get_errno()
                if code in (errno.EAGAIN, errno.EINTR):
                    return
                self._refused.append((self._slot_of(self._pointer_words[0]), -code))
                done = 1
        self._queued = 0

    def reap(self) -> list[tuple[int, int]]:
        """Return (slot, bytes done or negative errno) of completed requests, waiting at most 4 ms for one."""
        if self._refused:
            refused, self._refused = self._refused, []
            return refused
        count = _syscall(*self._reap_arguments)
        if count <= 0:
            return []
        return list(_EVENT.iter_unpack(self._event_bytes[: count * _EVENT.size]))

    def close(self) -> None:
        """Give the context back; only when nothing is in flight, since the kernel waits for what is."""
        _syscall(self._destroy, self._context)

    def _slot_of(self, pointer: int) -> int:
        return (pointer - self._iocb_at) // (2 * _IOCB.size)


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
