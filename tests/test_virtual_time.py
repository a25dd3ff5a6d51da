"""Virtual time: timers come in their order and nothing is waited for."""

import asyncio
import selectors
import signal
import time

import pytest

from jepsen_blk import clock, virtual_time


def test_the_machine_is_never_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(*args: object) -> None:
        raise AssertionError("it waits for the machine")

    monkeypatch.setattr(time, "sleep", wait)
    monkeypatch.setattr(selectors.DefaultSelector, "select", wait)
    virtual_time.run(asyncio.sleep(86_400))


def test_what_is_due_together_comes_in_the_order_in_which_it_was_asked_for() -> None:
    async def look() -> list[int]:
        came: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(50):
            loop.call_at(1.0, came.append, number)
        loop.call_at(1.0, came.append, -1).cancel()
        loop.call_at(0.5, came.append, 100)
        await asyncio.sleep(1)
        return came

    assert virtual_time.run(look()) == [100, *range(50)]


def test_an_error_of_a_timer_ends_the_run() -> None:
    async def look() -> None:
        asyncio.get_running_loop().call_later(1, int, "no")
        await asyncio.sleep(2)

    with pytest.raises(ValueError, match="no"):
        virtual_time.run(look())


def test_an_interrupt_cancels_what_runs() -> None:
    healed = []

    async def wait() -> None:
        try:
            while True:
                await asyncio.sleep(1)
                signal.raise_signal(signal.SIGINT)
        finally:
            healed.append(True)

    with pytest.raises(KeyboardInterrupt):
        virtual_time.run(wait())
    assert healed


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
