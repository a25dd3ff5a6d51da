"""Waiting for something to become so, in a simulation: whoever changes something rings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jepsen_blk.errors import LabError


class Bell:
    """Those who wait, and what for; costs nothing while nobody does."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}

    def ring(self) -> None:
        """Have those go on for whom it has become so."""
        if self._waiting:
            for future, condition in self._waiting.items():
                if not future.done():
                    try:
                        met = condition()
                    except LabError as error:
                        future.set_exception(error)
                    else:
                        if met:
                            future.set_result(None)

    async def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Return once the condition holds; raises LabError saying `what` did not come, or as it does."""
        if condition():
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = condition
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError as error:
            raise LabError(f"{what} within {timeout_s:g} s") from error
        finally:
            del self._waiting[future]
