"""The hot path: stamp, submit, reap, verify, record, all in one thread at full queue depth.

A history is only worth what was not recorded at its cost, so everything here is laid out once and
one operation touches little: a tuple, a 4 KiB copy, a checksum of 56 bytes, 32 bytes of row. As many
operations as the queue holds are prepared ahead, so that what completed is replaced at once and
recorded while the storage works again; they are issued in the order of their sequence numbers. A
start is stamped before its batch is submitted and a finish after its batch is reaped, so that an
interval never looks shorter than it was.
"""

from collections.abc import Callable
from struct import Struct
from zlib import crc32

from jepsen_blk.stamp import BLOCK_BYTES, MAGIC, SEQUENCE_BITS, STAMP_BYTES
from workloads.agent.link import Outbox
from workloads.agent.machine import Disk
from workloads.agent.observe import observe
from workloads.agent.operations import BURST, FLUSH, FOLLOW, KIND_BITS, READ, REQUESTS, SWEEP, WRITE, Source

MAX_DEPTH = 256
_SLOTS = 3
"""Slots for each request of the queue's depth: one is in flight, one prepared, one being recorded."""
MOST_SLOTS = _SLOTS * MAX_DEPTH
"""What the engine's disk has to be opened for."""
FRAME_ROWS = 127
"""Rows of a full frame: with its header just under a page of the guest's memory."""

_ABANDONED = 7
"""Reported as indeterminate already: its completion, if it ever comes, is not recorded."""

_IDLE = -1
_NOTHING = (0, 0, _IDLE)
"""Block, value and kind of a request that is neither prepared nor in flight."""

_INFO = 2
_PENDING = 2**63 - 1
_BLOCK_SHIFT = BLOCK_BYTES.bit_length() - 1
_REPEAT = BLOCK_BYTES // STAMP_BYTES
_ROW = Struct("<BBHIqqq")
"""f, outcome, process, block, value, start, finish."""
_ROW_BYTES = _ROW.size
_FRAME_BYTES = FRAME_ROWS * _ROW_BYTES
_KINDS = (1 << KIND_BITS) - 1
_pack_row = _ROW.pack_into
_pack_body = Struct("<QQIIQ24x").pack
_pack_head = Struct("<4sI").pack


class Engine:
    """Issues one boot's operations on the disk, of MOST_SLOTS slots, and puts their rows into the outbox.

    The history's clock is `ahead_ns` ahead of the guest's `clock`, by which the callers here count.
    """

    def __init__(
        self, disk: Disk, clock: Callable[[], int], outbox: Outbox, run: int, boot: int, ahead_ns: int = 0
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._outbox = outbox
        self._run = run
        self._boot = boot
        self._ahead_ns = ahead_ns
        self._sequence = 0
        self._frame = bytearray(_FRAME_BYTES)
        self._framed_bytes = 0
        self._emitted = 0
        self._requests = [_NOTHING] * (MOST_SLOTS * REQUESTS)
        """Block, value and kind of each request that is prepared or in flight."""
        self._starts = [0] * (MOST_SLOTS * REQUESTS)
        self._ready: list[int] = []
        self._idle: list[int] = []
        self._depth = 0
        self._source: Source | None = None
        self._operations: list[int] = []
        self._busy = bytearray()
        self._hot_blocks = 0
        self._overlapping = False
        self._issuing = False
        self.throttled = False
        self.in_flight = 0
        self.indeterminate = 0

    def start(self, source: Source, depth: int, overlapping: bool) -> None:
        """Begin to issue the source's operations, `depth` at a time."""
        if self.in_flight and (overlapping != self._overlapping or source.blocks != len(self._busy)):
            raise ValueError("a workload of another shape must wait until nothing is in flight")
        if not self.in_flight:
            self._busy = bytearray(source.blocks)
        self._source = source
        self._hot_blocks = source.hot_blocks
        self._overlapping = overlapping
        self._open(depth, [])

    def stop(self) -> None:
        """Issue nothing more; what is in flight completes and is recorded, what is prepared never was."""
        self._issuing = False
        self._operations = []
        for request in self._ready:
            block, value, _ = self._requests[request]
            self._requests[request] = _NOTHING
            if value:
                self._busy[block] = 0
                # They are the last that were given, so the next write has the first again.
                self._sequence -= 1
        self._ready.clear()

    def sweep(self, depth: int) -> None:
        """Read every block once, `depth` at a time."""
        self._source = None
        self._open(depth, [block << KIND_BITS | SWEEP for block in reversed(range(len(self._busy)))])

    def issue(self, block: int, *, write: bool) -> None:
        """Issue one operation on the block, also while a write to it is in flight.

        Raises ValueError while the workload runs, or for a block that there is not.
        """
        if self._issuing:
            raise ValueError("one operation cannot be told from others: quiesce first")
        if not 0 <= block < len(self._busy):
            raise ValueError(f"block {block} is not within 0..{len(self._busy) - 1}")
        self._source = None
        self._overlapping = True
        self._open(MAX_DEPTH, [block << KIND_BITS | (WRITE if write else READ)])

    @property
    def issued(self) -> bool:
        """Tell whether all that was to be issued is in flight, or was."""
        return not (self._operations or self._ready)

    @property
    def last_value(self) -> int:
        """The value of the last write that was prepared."""
        return self._boot << SEQUENCE_BITS | self._sequence

    @property
    def completed(self) -> int:
        """Number of operations recorded."""
        return self._emitted + self._framed_bytes // _ROW_BYTES

    @property
    def swept(self) -> bool:
        """Tell whether every read of the sweep has completed."""
        return not self._operations and all(kind != SWEEP for _, _, kind in self._requests)

    @property
    def busy(self) -> bool:
        """Tell whether there is something to reap or to issue."""
        return self.in_flight > 0 or (self._issuing and not self.throttled)

    @property
    def could_issue(self) -> bool:
        """Tell whether a further round would issue or prepare something, whatever completes meanwhile."""
        more = self._ready or self._operations or self._source is not None
        return self._issuing and not self.throttled and self.in_flight < self._depth and bool(more)

    def pump(self, until_ns: int) -> None:
        """Reap and issue until `until_ns`, or until there is nothing to do; once round at least.

        One function on purpose, all it touches in locals: a call or a look-up costs as much as a step.
        """
        disk, requests, starts, busy, idle = self._disk, self._requests, self._starts, self._busy, self._idle
        reap, ring, submit, clock = disk.reap, disk.ring, disk.submit, self._clock
        pointers, queue, offsets, buffers = disk.pointers, disk.queue, disk.offsets, disk.buffers
        pack_row, pack_body, pack_head, crc = _pack_row, _pack_body, _pack_head, crc32
        frame, framed = self._frame, self._framed_bytes
        run, boot, sequence = self._run, self._boot, self._sequence
        ahead_ns = self._ahead_ns
        until_ns += ahead_ns
        first_value = boot << SEQUENCE_BITS
        whole, shift, row_bytes, frame_bytes = BLOCK_BYTES, _BLOCK_SHIFT, _ROW_BYTES, _FRAME_BYTES
        magic, repeat, nothing = MAGIC, _REPEAT, _NOTHING
        issuing = self._issuing and not self.throttled
        ready = self._ready if issuing else []
        source, operations, overlapping = self._source, self._operations, self._overlapping
        depth, in_flight, left = self._depth, self.in_flight, 0
        enough = (depth + 1) // 2
        while True:
            done = reap() if in_flight and (in_flight >= depth or left or not ready) else ()
            now_ns = clock() + ahead_ns
            in_flight -= len(done)
            if ready and in_flight < depth:  # before a look at what completed: storage must not wait for that
                count = 0
                for request in ready[: depth - in_flight]:
                    starts[request] = now_ns
                    queue[count] = pointers[request]
                    count += 1
                left = submit(count)
                count -= left
                in_flight += count
                del ready[:count]

            for request, result in done:
                block, value, kind = requests[request]
                requests[request] = nothing
                slot = request >> 2
                idle.append(slot)
                outcome = 0
                if value:
                    busy[block] = 0
                if result != whole:
                    outcome = _INFO if result or kind != FLUSH else 0
                elif not value:
                    at = slot << shift
                    value = observe(buffers[at : at + whole], run)
                if kind > WRITE and self._follow(block, kind):
                    continue
                pack_row(frame, framed, request & 3, outcome, slot, block, value, starts[request], now_ns)
                framed += row_bytes
                if framed == frame_bytes:
                    self._emit(framed)
                    framed = 0
                if outcome:
                    self.indeterminate += 1

            if issuing:
                for _ in range(min(2 * depth - in_flight - len(ready), len(idle))):
                    if ring[0] != ring[1] and len(ready) >= enough:
                        break  # what has completed is to be replaced first
                    if not operations:
                        if source is None:
                            break
                        operations += source.batch()
                    operation = operations.pop()
                    block, kind = operation >> KIND_BITS, operation & _KINDS
                    if kind >= WRITE and busy[block] and not overlapping:
                        block = self._free_block(block)
                        if block < 0:
                            block, kind = operation >> KIND_BITS, READ
                    slot = idle.pop()
                    if kind >= WRITE:
                        sequence += 1
                        body = pack_body(run, block, boot, slot, sequence)
                        at = slot << shift
                        buffers[at : at + whole] = (pack_head(magic, crc(body)) + body) * repeat
                        busy[block] = 1
                        request = slot << 2 | 1
                        requests[request] = (block, first_value + sequence, kind)
                    else:
                        request = slot << 2 | kind & FLUSH
                        requests[request] = (block, 0, kind)
                    offsets[request] = block << shift
                    ready.append(request)

            if now_ns >= until_ns or not (in_flight or ready):
                break
        self._framed_bytes, self._sequence, self.in_flight = framed, sequence, in_flight

    def flush(self, older_than_ns: int | None = None) -> None:
        """Put the rows of a frame begun into the outbox, unless its first is newer than `older_than_ns`."""
        if self._framed_bytes and (
            older_than_ns is None or _ROW.unpack_from(self._frame)[-1] < older_than_ns + self._ahead_ns
        ):
            self._emit(self._framed_bytes)

    def abandon(self) -> int:
        """Record everything in flight as indeterminate and pending; return how many there were."""
        self.stop()
        count = 0
        for request, (block, value, kind) in enumerate(self._requests):
            if kind not in (_ABANDONED, _IDLE):
                self._requests[request] = (block, value, _ABANDONED)
                row = (request & 3, _INFO, request >> 2, block, value, self._starts[request], _PENDING)
                _pack_row(self._frame, self._framed_bytes, *row)
                self._framed_bytes += _ROW_BYTES
                if self._framed_bytes == _FRAME_BYTES:
                    self._emit(_FRAME_BYTES)
                count += 1
        self.indeterminate += count
        return count

    def close(self) -> None:
        """Give the disk back."""
        self._disk.close(self.in_flight)

    def _open(self, depth: int, operations: list[int]) -> None:
        self._issuing = True
        self._depth = depth
        self._operations = operations
        self._idle = [
            slot
            for slot in reversed(range(_SLOTS * depth))
            if all(self._requests[slot << 2 | f] is _NOTHING for f in range(REQUESTS))
        ]
        self._disk.limit(depth)

    def _emit(self, size: int) -> None:
        """Put the frame's first `size` bytes into the outbox."""
        self._outbox.rows(bytes(self._frame[:size]))
        self._emitted += size // _ROW_BYTES
        self._framed_bytes = 0

    def _follow(self, block: int, kind: int) -> bool:
        """Draw what follows a write of a burst; True if what completed is in the history already."""
        if kind == _ABANDONED:
            return True
        if self._issuing and self._source is not None:
            self._operations.append(block << KIND_BITS | (FOLLOW if kind == BURST else READ))
        return False

    def _free_block(self, block: int) -> int:
        """Return the next block of the same set (hot or cold) with no write in flight, or -1."""
        hot = self._hot_blocks
        first, end = (0, hot) if block < hot else (hot, len(self._busy))
        found = self._busy.find(0, block + 1, end)
        return found if found >= 0 else self._busy.find(0, first, block)
