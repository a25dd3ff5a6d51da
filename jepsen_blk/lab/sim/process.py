"""A process that can be made to stand still, as by SIGSTOP: its kernel keeps what comes for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


class Process:
    """Whoever gives it something to do asks whether it is `frozen`, and has it kept then."""

    def __init__(self) -> None:
        self.frozen = False
        self._kept: list[Callable[[], None]] = []

    def freeze(self) -> None:
        """Let it do nothing any more."""
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on, first with what has come meanwhile, in order."""
        self.frozen = False
        kept, self._kept = self._kept, []
        for call in kept:
            call()

    def keep(self, call: Callable[..., None], *what: Any) -> None:
        """Have it do this when it goes on."""
        self._kept.append(partial(call, *what))

    def end(self) -> None:
        """Kill it: what was kept nobody does."""
        self.frozen = False
        self._kept.clear()
