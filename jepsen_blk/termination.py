"""SIGTERM ends a verb in the same order as Ctrl-C: who stops a service wants no less healed."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Termination:
    """Whether a SIGTERM has come."""

    came: bool = False


@contextlib.contextmanager
def as_interrupt() -> Iterator[Termination]:
    """Take a SIGTERM for a Ctrl-C while the block runs, also where the shell has Ctrl-C ignored."""
    termination = Termination()

    def end(number: int, frame: FrameType | None) -> None:
        termination.came = True
        interrupt = signal.getsignal(signal.SIGINT)  # an event loop that runs has one of its own
        if callable(interrupt):
            interrupt(signal.SIGINT, frame)

    can_block = hasattr(signal, "pthread_sigmask")  # not on Windows, whose shells do not ignore it either
    ignored = can_block and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:  # an event loop takes no interrupt then: it stays unheard by another way
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield termination
    finally:
        signal.signal(signal.SIGTERM, before)
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
