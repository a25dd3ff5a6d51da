"""Conflict models: what the target does with a write to a block that has one in flight.

Pure decisions, written once and used by the real target and by the simulator: no threads, no clock,
no data. The holder of the arbiter calls `arrive` when a write is received, `begin` at the moment it
would be applied, `finish` when it has ended. Whatever changes the fate of other writes returns
those writes, so that the holder can wake them; their `decision` says what to do now.

Fencing is decided here too, because it meets the conflict model in one place: what is accepted, what
is refused on arrival, and what is refused only when applied.

Standard library only: the target imports this under a Python without third-party packages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum


class ConflictModel(StrEnum):
    """What the target does with a write to a block that has one in flight."""

    ARRIVAL_ORDER = "arrival-order"
    IGNORE_SECOND = "ignore-second"
    SERIALIZE = "serialize"
    REJECT_BUSY = "reject-busy"
    DROP_ON_DISCONNECT = "drop-on-disconnect"


class Decision(Enum):
    """What is to be done with a write.

    APPLY: write its blocks (but `skipped`). IGNORE: acknowledge it, write nothing. WAIT: keep it
    until a new decision comes. BUSY: answer a busy error. REFUSE: answer a fencing error.
    ABORT: it was accepted and must not be applied any more.
    """

    APPLY = "apply"
    IGNORE = "ignore"
    WAIT = "wait"
    BUSY = "busy"
    REFUSE = "refuse"
    ABORT = "abort"


@dataclass(slots=True, eq=False)
class Write:
    """A write in flight; `blocks` are all it touches, the rest belongs to the arbiter."""

    id: int
    node: str
    connection: int
    blocks: Sequence[int]
    epoch: int = 0
    decision: Decision = Decision.APPLY
    why: str = ""
    skipped: frozenset[int] = frozenset()
    waited: bool = False
    begun: bool = False
    behind: frozenset[int] = frozenset()


class Arbiter:
    """Decides the fate of every write under one conflict model and the fences of the moment."""

    def __init__(self, model: ConflictModel) -> None:
        self._model = model
        self._in_flight: dict[int, Write] = {}
        self._queues: dict[int, list[Write]] = {}
        self._waiting: dict[int, Write] = {}
        self._fenced: set[str] = set()
        self._epoch = 0
        self._epochs: dict[str, int] = {}
        self._writer: str | None = None
        self._to_flush: frozenset[int] = frozenset()

    def in_flight(self, node: str) -> list[Write]:
        """Return the node's writes that have arrived and not finished, in order of arrival."""
        return [write for write in self._in_flight.values() if write.node == node]

    def admits(self, node: str) -> bool:
        """Tell whether commands of `node` are accepted at all (reads and flushes ask this)."""
        return node not in self._fenced

    def arrive(self, write: Write) -> Decision:
        """Accept a write that was just received; its `finish` must follow whatever the decision."""
        self._in_flight[write.id] = write
        write.epoch = self._epochs.get(write.node, 0)
        if write.node in self._fenced:
            write.why = f"{write.node} is fenced"
            write.decision = Decision.REFUSE
        elif self._writer is not None and write.node != self._writer:
            write.why = f"{self._writer} is the single writer"
            write.decision = Decision.REFUSE
        elif self._to_flush:
            # Before the flush ends, the conflict model must not see the write: it has not begun.
            write.behind = self._to_flush
            write.why = "waits for the flush of other nodes' writes"
            self._wait(write)
        else:
            self._enter(write)
        return write.decision

    def begin(self, write: Write) -> Decision:
        """Decide at the last moment before a write that was to be applied is applied."""
        if write.decision is Decision.APPLY:
            if write.epoch < self._epoch:
                write.decision = Decision.REFUSE
                write.why = f"epoch {write.epoch} is older than {self._epoch}"
            else:
                write.begun = True
        return write.decision

    def finish(self, write: Write) -> list[Write]:
        """Forget a write that has ended; return the writes that have a new decision."""
        self._in_flight.pop(write.id, None)
        self._waiting.pop(write.id, None)
        self._leave(write)
        if write.id in self._to_flush:
            self._to_flush -= {write.id}
        return self._wake() if self._waiting else []

    def fence(self, node: str, *, abort: bool) -> list[Write]:
        """Refuse new commands of `node`; with `abort`, return its accepted writes, now to be aborted.

        The fence is confirmed when `in_flight(node)` is empty.
        """
        self._fenced.add(node)
        return self._abort(self.in_flight(node), f"{node} was fenced") if abort else []

    def raise_epoch(self, node: str) -> int:
        """Make `node` the holder of a new epoch and return it; older ones are refused when applied."""
        self._epoch += 1
        self._epochs[node] = self._epoch
        return self._epoch

    def single_writer(self, node: str) -> None:
        """Refuse all other nodes from now on; writes of `node` wait until what they have here has ended."""
        self._writer = node
        self._fenced.discard(node)
        self._to_flush = frozenset(w.id for w in self._in_flight.values() if w.node != node)

    def unfence(self, node: str) -> None:
        """Admit the node again; it ends another node's single-writer role too."""
        self._fenced.discard(node)
        if self._writer is not None and self._writer != node:
            self._writer = None
            self._to_flush = frozenset()

    def disconnect(self, connection: int) -> list[Write]:
        """Note a closed connection; return the writes that the model drops for it."""
        if self._model is not ConflictModel.DROP_ON_DISCONNECT:
            return []
        lost = [write for write in self._in_flight.values() if write.connection == connection]
        return self._abort(lost, "its connection closed")

    def _abort(self, writes: Iterable[Write], why: str) -> list[Write]:
        aborted = [write for write in writes if not write.begun]
        for write in aborted:
            write.decision = Decision.ABORT
            write.why = why
            self._waiting.pop(write.id, None)
        return aborted

    def _enter(self, write: Write) -> None:
        """Let the conflict model see the write, and put it into the queues of its blocks."""
        queues = self._queues
        taken = [block for block in write.blocks if block in queues]
        write.decision = Decision.APPLY
        write.why = ""
        if taken:
            if self._model is ConflictModel.REJECT_BUSY:
                write.decision = Decision.BUSY
                write.why = f"block {taken[0]} has a write in flight"
                return
            if self._model is ConflictModel.IGNORE_SECOND:
                write.why = f"block {taken[0]} has a write in flight"
                write.skipped = frozenset(taken)
                if len(taken) == len(write.blocks):
                    write.decision = Decision.IGNORE
                    return
            elif self._model is ConflictModel.SERIALIZE:
                write.why = f"waits for the write in flight to block {taken[0]}"
                self._wait(write)
        for block in write.blocks:
            if block not in write.skipped:
                queues.setdefault(block, []).append(write)

    def _leave(self, write: Write) -> None:
        for block in write.blocks:
            queue = self._queues.get(block)
            if queue is not None and write in queue:
                queue.remove(write)
                if not queue:
                    del self._queues[block]

    def _wait(self, write: Write) -> None:
        write.decision = Decision.WAIT
        write.waited = True
        self._waiting[write.id] = write

    def _wake(self) -> list[Write]:
        woken = []
        for write in list(self._waiting.values()):
            if write.behind:
                if not write.behind.isdisjoint(self._in_flight):
                    continue
                write.behind = frozenset()
                del self._waiting[write.id]
                self._enter(write)
            elif self._is_first(write):
                del self._waiting[write.id]
                write.decision = Decision.APPLY
            if write.decision is not Decision.WAIT:
                woken.append(write)
        return woken

    def _is_first(self, write: Write) -> bool:
        return all(self._queues[block][0] is write for block in write.blocks)
