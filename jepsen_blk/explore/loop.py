"""An event loop in which no timer ever fires by itself: whoever explores says which comes next.

What is ready runs to its end after each choice, in its order, as on any loop. Of the timers three kinds are
told apart by what they call: a sleep is over at once, since how long it takes stands for nothing here; a
time-out never comes; every other is a choice, until it is taken or cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar, TypeVarTuple

from jepsen_blk.errors import InternalError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Timer(asyncio.TimerHandle):
    """A timer that is a choice; `owner` is whose method it calls."""

    def __init__(
        self,
        loop: ChoiceLoop,
        number: int,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> None:
        super().__init__(0.0, callback, args, loop, context)
        self.number = number
        self.owner: Any = getattr(callback, "__self__", None)
        self.method: str = getattr(callback, "__name__", "")
        self.args = args
        self._timers = loop.timers

    def cancel(self) -> None:
        """Take it from the choices."""
        self._timers.pop(self.number, None)
        super().cancel()


class ChoiceLoop(asyncio.AbstractEventLoop):
    """The loop; `timers` are the choices, by their numbers, in the order in which they were set."""

    def __init__(self) -> None:
        self.timers: dict[int, Timer] = {}
        self.now_s = 0.0
        self._set = 0
        self._ready: deque[asyncio.Handle] = deque()
        self._error: BaseException | None = None

    def take(self, number: int) -> None:
        """Let a timer come, and all that follows from it at once."""
        self.timers.pop(number)._run()
        self.settle()

    def settle(self) -> None:
        """Run what is ready until nothing is; raises what a callback has raised."""
        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()
        if self._error is not None:
            raise self._error

    def time(self) -> float:
        """Time stands still, but while something comes late."""
        return self.now_s

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always, for those who ask."""
        return True

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        """Return a task of this loop."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Have it run with what is ready."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have it be a choice, or nothing, or come at once."""
        return self.call_at(0.0, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have it be a choice, or nothing, or come at once."""
        self._set += 1
        timer = Timer(self, self._set, callback, args, context)
        if timer.owner is None:
            self._ready.append(timer)
        elif not isinstance(timer.owner, asyncio.Timeout):
            self.timers[timer.number] = timer
        return timer

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep the first error of a callback for `settle`; a task that is dropped with its loop is none."""
        if self._error is None:
            self._error = context.get("exception")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing is kept of it."""


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run to its end what never waits; raises InternalError if it does."""
    try:
        work.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    raise InternalError("the explorer did not expect that call to wait")
