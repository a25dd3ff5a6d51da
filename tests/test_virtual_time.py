"""Virtual time: timers come in their order and nothing is waited for."""

import asyncio
import selectors
import time

import pytest

from jepsen_blk import clock, virtual_time


def test_the_machine_is_never_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    select = selectors.DefaultSelector.select

    def spy(self: selectors.DefaultSelector, timeout: float | None = None) -> object:
        waits.append(timeout)
        return select(self, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", spy)
    virtual_time.run(asyncio.sleep(86_400))
    assert waits
    assert set(waits) == {0}


def test_the_clock_of_what_runs_in_it_is_the_loops() -> None:
    async def look() -> tuple[int, float]:
        await asyncio.sleep(2.5)
        return clock.monotonic_ns(), await asyncio.to_thread(clock.monotonic)

    assert virtual_time.run(look()) == (2_500_000_000, 2.5)
    assert abs(clock.monotonic_ns() - time.monotonic_ns()) < 10**12
    assert not clock.is_simulated()


def test_work_in_a_thread_takes_no_time_and_its_error_comes_back() -> None:
    async def look() -> float:
        with pytest.raises(ValueError, match="no"):
            await asyncio.to_thread(int, "no")
        return asyncio.get_running_loop().time()

    assert virtual_time.run(look()) == 0


def test_who_waits_for_what_never_comes_is_told() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="never comes"):
        virtual_time.run(wait())
