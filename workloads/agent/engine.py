"""The hot path: stamp, submit, reap, verify, record, all in one thread at full queue depth.

A history is only worth what was not recorded at its cost, so everything here is laid out once and
one operation touches little: its slot's entries in a few lists, a 4 KiB copy, a checksum of 56
bytes, 32 bytes of row. Operations are prepared ahead, so that what completed is replaced at once and
recorded while the storage works again; they are issued in the order of their sequence numbers. A
start is stamped before its batch is submitted and a finish after its batch is reaped, so that an
interval never looks shorter than it was.
"""

import os
from array import array
from collections import deque
from collections.abc import Sequence
from struct import Struct
from time import monotonic_ns
from zlib import crc32

from jepsen_blk.stamp import BLOCK_BYTES, MAGIC, SEQUENCE_BITS, STAMP_BYTES, decode_one
from workloads.agent.aio import Aio
from workloads.agent.link import Outbox
from workloads.agent.register import BURST, KIND_BITS, READ, SWEEP, WRITE, Register

MAX_DEPTH = 256
_SLOTS = 2 * MAX_DEPTH
"""In flight, and prepared to be."""
FRAME_ROWS = 127
"""Rows of a full frame: with its header just under a page of the guest's memory."""

_FOLLOW = 4
"""The second write of a burst; a read of its block comes next."""
_ABANDONED = 5
"""Reported as indeterminate already: its completion, if it ever comes, is not recorded."""
_IDLE = 6

_F_READ, _F_WRITE = 0, 1
_OK, _INFO = 0, 2
_INITIAL, _PHANTOM, _TORN, _FOREIGN = 0, -1, -2, -3
_PENDING = 2**63 - 1
_BLOCK_SHIFT = BLOCK_BYTES.bit_length() - 1
_REPEAT = BLOCK_BYTES // STAMP_BYTES
_ROW_WORDS = 4
"""A row ("<BBHIqqq") as four int64: f | outcome << 8 | process << 16 | block << 32, value, start, finish."""
_FRAME_WORDS = FRAME_ROWS * _ROW_WORDS
_KINDS = (1 << KIND_BITS) - 1
_BODY = Struct("<QQIIQ24x")
_HEAD = Struct("<4sI")
_ZEROS = bytes(BLOCK_BYTES)


class Engine:
    """Issues one boot's operations on the device and puts their rows into the outbox.

    Raises OSError if the device cannot be opened without the page cache.
    """

    def __init__(self, device: str, outbox: Outbox, run: int, boot: int) -> None:
        self._fd = os.open(device, os.O_RDWR | os.O_DIRECT)
        self._aio = Aio(self._fd, _SLOTS)
        self._outbox = outbox
        self._run = run
        self._boot = boot
        self._sequence = 0
        self._rows: list[int] = []
        self._stages = [_IDLE] * _SLOTS
        self._blocks = [0] * _SLOTS
        self._values = [0] * _SLOTS
        self._starts = [0] * _SLOTS
        self._ready: deque[int] = deque()
        self._depth = 0
        self._idle: list[int] = []
        self._source: Register | None = None
        self._operations: list[int] = []
        self._busy = bytearray()
        self._hot_blocks = 0
        self._overlapping = False
        self._issuing = False
        self.throttled = False
        self.in_flight = 0
        self.indeterminate = 0
        self._framed = 0

    def start(self, source: Register, depth: int, overlapping: bool) -> None:
        """Begin to issue the source's operations, `depth` at a time."""
        if self.in_flight and (overlapping != self._overlapping or source.blocks != len(self._busy)):
            raise ValueError("a workload of another shape must wait until nothing is in flight")
        if not self.in_flight:
            self._busy = bytearray(source.blocks)
        self._source = source
        self._hot_blocks = source.hot_blocks
        self._overlapping = overlapping
        self._operations = []
        self._open(depth)

    def stop(self) -> None:
        """Issue nothing more; what is in flight completes and is recorded, what is prepared never was."""
        self._issuing = False
        self._operations = []
        for slot in self._ready:
            self._stages[slot] = _IDLE
            if self._values[slot]:
                self._busy[self._blocks[slot]] = 0
                self._sequence -= (
                    1  # they are the last that were given, so the next write has the first again
                )
        self._ready.clear()

    def sweep(self, depth: int) -> None:
        """Read every block once, `depth` at a time."""
        self._source = None
        self._operations = [block << KIND_BITS | SWEEP for block in reversed(range(len(self._busy)))]
        self._open(depth)

    @property
    def completed(self) -> int:
        """Number of operations recorded."""
        return self._framed + len(self._rows) // _ROW_WORDS

    @property
    def swept(self) -> bool:
        """Tell whether every read of the sweep has completed."""
        return not self._operations and SWEEP not in self._stages

    @property
    def busy(self) -> bool:
        """Tell whether there is something to reap or to issue."""
        return self.in_flight > 0 or (self._issuing and not self.throttled)

    def pump(self, until_ns: int) -> None:
        """Reap and issue until `until_ns`, or until there is nothing to do; once round at least."""
        while True:
            done = self._aio.reap() if self.in_flight else ()
            now_ns = monotonic_ns()
            self.in_flight -= len(done)
            self._launch()  # before what completed is looked at: the storage must not wait for that
            self._complete(done, now_ns)
            self._prepare()
            self._launch()
            if not self.in_flight or now_ns >= until_ns:
                return

    def flush(self, older_than_ns: int | None = None) -> None:
        """Put the rows of a frame begun into the outbox, unless its first is newer than `older_than_ns`."""
        rows = self._rows
        if rows and (older_than_ns is None or rows[_ROW_WORDS - 1] < older_than_ns):
            self._outbox.rows(array("q", rows).tobytes())
            self._framed += len(rows) // _ROW_WORDS
            rows.clear()

    def abandon(self) -> int:
        """Record everything in flight as indeterminate and pending; return how many there were."""
        self.stop()
        slots = [slot for slot, stage in enumerate(self._stages) if stage not in (_IDLE, _ABANDONED)]
        for slot in slots:
            value = self._values[slot]
            f = _F_WRITE if value else _F_READ
            self._record(f, _INFO, slot, self._blocks[slot], value, self._starts[slot], _PENDING)
            self._stages[slot] = _ABANDONED
        return len(slots)

    def close(self) -> None:
        """Close the device; a context with requests in flight is left to the kernel."""
        if not self.in_flight:
            self._aio.close()
        os.close(self._fd)

    def _open(self, depth: int) -> None:
        self._issuing = True
        self._depth = depth
        self._idle = [slot for slot in reversed(range(2 * depth)) if self._stages[slot] == _IDLE]
        # Half at a time, so that the storage has work while the other half is recorded and issued again.
        self._aio.limit(max(depth // 2, 1))

    def _launch(self) -> None:
        """Submit what is ready, in order, up to the queue's depth; its start is stamped just before."""
        ready, aio = self._ready, self._aio
        room = self._depth - self.in_flight
        if not ready or room <= 0 or self.throttled:
            return
        now_ns = monotonic_ns()
        starts, blocks, values = self._starts, self._blocks, self._values
        count = min(room, len(ready))
        for _ in range(count):
            slot = ready.popleft()
            starts[slot] = now_ns
            aio.queue(slot, 1 if values[slot] else 0, blocks[slot])
        self.in_flight += count
        aio.submit()

    def _prepare(self) -> None:
        """Have as much ready as fills the queue, and half of it ahead."""
        idle = self._idle
        if self._issuing and not self.throttled:
            wanted = self._depth - self.in_flight + (self._depth + 1) // 2
            while idle and len(self._ready) < wanted and self._issue(idle[-1]):
                idle.pop()

    def _complete(self, done: Sequence[tuple[int, int]], now_ns: int) -> None:
        """Record what was reaped at `now_ns`, and prepare what follows from it."""
        stages, blocks, values = self._stages, self._blocks, self._values
        buffers, record = self._aio.buffers, self._record
        for slot, result in done:
            stage, block, value = stages[slot], blocks[slot], values[slot]
            stages[slot] = _IDLE
            outcome = _OK if result == BLOCK_BYTES else _INFO
            if value:
                self._busy[block] = 0
                f = _F_WRITE
            else:
                f = _F_READ
                if outcome == _OK:
                    value = self._observe(buffers[slot << _BLOCK_SHIFT : (slot + 1) << _BLOCK_SHIFT])
            if stage != _ABANDONED:
                record(f, outcome, slot, block, value, self._starts[slot], now_ns)
            if not self._issuing:
                continue
            if stage == BURST:
                self._write(slot, block, _FOLLOW)
            elif stage == _FOLLOW:
                self._read(slot, block, READ)
            else:
                self._idle.append(slot)

    def _issue(self, slot: int) -> bool:
        """Prepare the slot's next operation of the source; False if there is none."""
        operations = self._operations
        if not operations:
            if self._source is None:
                return False
            operations = self._operations = self._source.batch()
        operation = operations.pop()
        block = operation >> KIND_BITS
        kind = operation & _KINDS
        if kind in (WRITE, BURST):
            if self._busy[block] and not self._overlapping:
                block = self._free_block(block)
            if block >= 0:
                self._write(slot, block, kind)
                return True
            block, kind = operation >> KIND_BITS, READ
        self._read(slot, block, kind)
        return True

    def _free_block(self, block: int) -> int:
        """Return the next block of the same set (hot or cold) with no write in flight, or -1."""
        hot = self._hot_blocks
        first, end = (0, hot) if block < hot else (hot, len(self._busy))
        found = self._busy.find(0, block + 1, end)
        return found if found >= 0 else self._busy.find(0, first, block)

    def _read(self, slot: int, block: int, stage: int) -> None:
        self._stages[slot] = stage
        self._blocks[slot] = block
        self._values[slot] = 0
        self._ready.append(slot)

    def _write(self, slot: int, block: int, stage: int) -> None:
        self._sequence = sequence = self._sequence + 1
        body = _BODY.pack(self._run, block, self._boot, slot, sequence)
        at = slot << _BLOCK_SHIFT
        self._aio.buffers[at : at + BLOCK_BYTES] = (_HEAD.pack(MAGIC, crc32(body)) + body) * _REPEAT
        self._stages[slot] = stage
        self._blocks[slot] = block
        self._values[slot] = self._boot << SEQUENCE_BITS | sequence
        self._busy[block] = 1
        self._ready.append(slot)

    def _observe(self, data: bytes) -> int:
        """Return the value that a read found, or the sentinel of what is no value."""
        head = data[:STAMP_BYTES]
        if data != head * _REPEAT:
            chunks = {data[at : at + STAMP_BYTES] for at in range(0, BLOCK_BYTES, STAMP_BYTES)}
            return _TORN if any(decode_one(chunk) for chunk in chunks) else _PHANTOM
        body = head[8:]
        if head[:8] == _HEAD.pack(MAGIC, crc32(body)):
            run, _, boot, _, sequence = _BODY.unpack(body)
            return boot << SEQUENCE_BITS | sequence if run == self._run else _FOREIGN
        return _INITIAL if data == _ZEROS else _PHANTOM

    def _record(
        self, f: int, outcome: int, process: int, block: int, value: int, start_ns: int, finish_ns: int
    ) -> None:
        rows = self._rows
        rows += (f | outcome << 8 | process << 16 | block << 32, value, start_ns, finish_ns)
        if outcome:
            self.indeterminate += 1
        if len(rows) == _FRAME_WORDS:
            self.flush()
