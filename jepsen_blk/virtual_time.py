"""An event loop whose clock jumps to the next timer, so that a test of hours takes no time.

Its order is that of the timers alone, and that in which they were set where they are due together. What would
run in a thread runs at once, and nothing that has to be waited for in real time belongs into it: so it has no
sockets, pipes or threads, and is alike on every system and Python.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple

from jepsen_blk import clock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Timer(asyncio.TimerHandle):
    """A call to come; without a context of its own it is made in that of the loop."""

    __slots__ = ("call", "context", "dropped", "due_s")

    def __init__(
        self, due_s: float, call: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> None:
        self.due_s = due_s
        self.call: tuple[Callable[..., object], tuple[Any, ...]] = (call, args)
        self.context = context
        self.dropped = False

    def cancel(self) -> None:
        self.dropped = True

    def cancelled(self) -> bool:
        return self.dropped

    def when(self) -> float:
        return self.due_s


class _Loop(asyncio.BaseEventLoop):
    """What asyncio's tasks, futures and time-outs ask of a loop, without anything of the system's.

    An error of a call that belongs to no task ends the run: nobody else would learn of it.
    """

    _runs = _ends = False

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._calls: deque[_Timer] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._made = 0

    def time(self) -> float:
        return self._now_s

    def time_ns(self) -> int:
        return round(self._now_s * 1e9)

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        timer = _Timer(self._now_s, callback, args, context)
        self._calls.append(timer)
        return timer

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Timer(when, callback, args, context)
        self._made += 1
        heappush(self._timers, (when, self._made, timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def run_forever(self) -> None:
        asyncio._set_running_loop(self)
        self._runs, self._ends = True, False
        try:
            while not self._ends:
                self._take_round()
        finally:
            self._runs = False
            asyncio._set_running_loop(None)

    def stop(self) -> None:
        self._ends = True

    def is_running(self) -> bool:
        return self._runs

    def _take_round(self) -> None:
        """Make the calls that are ready, or jump to the next timer; what they make ready comes next."""
        timers, calls = self._timers, self._calls
        while timers and (timers[0][2].dropped or not calls or timers[0][0] <= self._now_s):
            due_s, _, timer = heappop(timers)
            if not timer.dropped:
                self._now_s = max(self._now_s, due_s)
                calls.append(timer)
        if not calls:
            raise RuntimeError("the test waits for what never comes")
        for _ in range(len(calls)):
            timer = calls.popleft()
            if timer.dropped:
                continue
            call, args = timer.call
            if timer.context is None:
                call(*args)
            else:
                timer.context.run(call, *args)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop of its own, whose clock begins at 0.

    Raises RuntimeError where everything waits and no timer is left that could end that.
    """
    loop = _Loop()
    with clock.simulated(loop.time_ns), asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)
