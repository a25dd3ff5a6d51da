"""An event loop whose clock jumps to the next timer, so that a test of hours takes no time.

Its order is that of the timers alone: what would run in a thread runs at once, and nothing that has to be
waited for in real time belongs into it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from jepsen_blk import clock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Selector(selectors.DefaultSelector):
    """Waits for nothing; the time that it would have waited is added up."""

    waited_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the test waits for what never comes")
        if timeout > 0:
            self.waited_s += timeout
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self._clock_resolution = 1e-9  # the machine's own would let timers come together that should not

    def time(self) -> float:
        return self._virtual.waited_s

    def time_ns(self) -> int:
        return round(self._virtual.waited_s * 1e9)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop of its own, whose clock begins at 0.

    Raises RuntimeError where everything waits and no timer is left that could end that.
    """
    loop = _Loop()
    with clock.simulated(loop.time_ns), asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)
