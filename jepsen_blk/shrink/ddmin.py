"""Delta debugging: from what fails to a part of it that still fails and of which nothing can be left out.

The algorithm is ddmin of A. Zeller and R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
IEEE Transactions on Software Engineering 28(2), 2002: try parts, then what is left without one of them, then
the same with smaller parts. Its result is 1-minimal: without any single item it does not fail. That takes at
most n^2 + 3n calls, and about 2 log n where one item alone is to blame.

Written here since the calls are tests of seconds to minutes that have to be awaited; the packages that have
it reduce files, or block. Two choices are ours. The last part is tried first: what has done the damage is
likely to be near the point where it was seen. And once one item is left, none is tried.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")


async def ddmin(items: Sequence[T], fails: Callable[[tuple[T, ...]], Awaitable[bool]]) -> tuple[T, ...]:
    """Return a 1-minimal part of `items`, in their order, that `fails`; all of them are taken to fail.

    What is given to `fails` is always a part of what failed last: wherever it is stopped, what failed last is
    the smallest so far.
    """
    kept = tuple(items)
    parts = 2
    while len(kept) > 1:
        chunks = _split(kept, parts)
        smaller = await _first_that_fails(chunks[::-1], fails)
        if smaller is not None:
            kept, parts = smaller, 2
            continue
        # Of two parts, what is left without one is the other, which has been tried.
        smaller = await _first_that_fails(_complements(chunks) if parts > 2 else (), fails)
        if smaller is not None:
            kept, parts = smaller, max(parts - 1, 2)
        elif parts < len(kept):
            parts = min(2 * parts, len(kept))
        else:
            break
    if len(kept) == 1 and await fails(()):
        return ()
    return kept


async def _first_that_fails(
    candidates: Sequence[tuple[T, ...]], fails: Callable[[tuple[T, ...]], Awaitable[bool]]
) -> tuple[T, ...] | None:
    for candidate in candidates:
        if await fails(candidate):
            return candidate
    return None


def _split(items: tuple[T, ...], parts: int) -> list[tuple[T, ...]]:
    """Split into `parts` neighbours that differ by one item in length at most."""
    bounds = [number * len(items) // parts for number in range(parts + 1)]
    return [items[begin:end] for begin, end in pairwise(bounds)]


def _complements(chunks: Sequence[tuple[T, ...]]) -> list[tuple[T, ...]]:
    """Return what is left without each chunk, first without the first."""
    return [
        tuple(item for other, chunk in enumerate(chunks) if other != without for item in chunk)
        for without in range(len(chunks))
    ]
