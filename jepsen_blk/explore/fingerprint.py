"""When two states are the same: what is read off every object that the future can depend on.

The walk goes through all that can be reached, so that a field which is added to a part of the simulator is
part of the state without anyone thinking of it. Left out is what is only told or counted, and times, which
stand still. An object is known by when the walk first meets it: states that differ in nothing but which
objects they are made of are the same.
"""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum
from functools import partial
from typing import Any

from jepsen_blk.errors import InternalError
from jepsen_blk.explore.loop import Timer
from jepsen_blk.lab.sim.bell import Bell
from jepsen_blk.spec import Spec
from jepsen_blk.storage.holds import HoldBook
from jepsen_blk.storage.misbehaviour import MisbehaviourBook
from jepsen_blk.storage.reissues import Reissues
from jepsen_blk.storage.sightings import Sightings

_TOLD = frozenset(
    (
        *("log", "counts", "received", "received_ns", "why", "waited", "under_way", "_dropped"),
        *("_loop", "_last_connection", "_last_s", "value", "process", "begin_ns", "stopped_ns", "end_ns"),
        *("_boot", "_ended", "_attach", "_serials", "_turns", "_serial"),
        *("_last_id", "_life", "found_cached", "dropped", "_random", "_memory_bytes"),
        *("_stopped", "_changed", "changed", "on_migration", "_disconnected", "_network", "_target"),
        *("_model", "_latency_s", "_node", "_drains", "_errors", "_waits_s", "_resends"),
    )
)
"""Fields that are for people, follow from others, number things, never change or lead to who explores."""
_OPAQUE = (
    *(Bell, Spec, Reissues, Sightings, HoldBook, MisbehaviourBook),
    *(asyncio.AbstractEventLoop, asyncio.Future),
)
"""Who waits for what is known from where the tasks stand; the books only count, or are empty here."""
_ATOMS = (int, str, bytes, float, bool, type(None))


def position(task: asyncio.Task[Any] | None) -> Hashable:
    """Return where a task stands: the instructions of all coroutines that it is in."""
    if task is None or task.done():
        return None
    places = []
    inner: Any = task.get_coro()
    while isinstance(inner, types.CoroutineType):
        frame = inner.cr_frame
        places.append((inner.cr_code.co_name, frame.f_lasti if frame else -1))
        inner = inner.cr_await
    return tuple(places)


class Fingerprint:
    """One walk; `of` gives equal results for what is alike, in the order in which it is asked."""

    def __init__(self) -> None:
        self._met: dict[int, int] = {}

    def apart(self) -> Fingerprint:
        """Return a walk that has met the same objects and goes on by itself."""
        other = Fingerprint()
        other._met = dict(self._met)
        return other

    def of(self, value: Any) -> Hashable:
        """Return what is to be compared of a value."""
        kind = type(value)
        if kind in _ATOMS_SET:
            return value  # type: ignore[no-any-return]
        read = _READERS.get(kind)
        if read is not None:
            return read(self, value)
        if isinstance(value, Enum):
            return value.value  # type: ignore[no-any-return]
        if isinstance(value, asyncio.Task):
            return position(value)
        if isinstance(value, _OPAQUE):
            return None
        return self._object(value, kind)

    def _object(self, value: Any, kind: type) -> Hashable:
        number = self._met.get(id(value))
        if number is not None:
            return ("met", number)
        self._met[id(value)] = len(self._met)
        names = _names(value, kind)
        return (kind.__name__, *[self.of(getattr(value, name)) for name in names])


def _names(value: Any, kind: type) -> tuple[str, ...]:
    names = _NAMES.get(kind)
    if names is None:
        slots = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]
        names = tuple(name for name in (*slots, *getattr(value, "__dict__", ())) if name not in _TOLD)
        if not names and kind not in (object,) and not hasattr(value, "__dict__") and not slots:
            raise InternalError(f"the explorer cannot tell what a {kind.__name__} is made of")
        _NAMES[kind] = names
    return names


def _items(walk: Fingerprint, value: Any) -> Hashable:
    return tuple([walk.of(item) for item in value])


def _pairs(walk: Fingerprint, value: dict[Any, Any]) -> Hashable:
    return tuple([(walk.of(key), walk.of(item)) for key, item in value.items()])


def _members(walk: Fingerprint, value: frozenset[Any]) -> Hashable:
    return tuple(sorted(value))


def _method(walk: Fingerprint, value: types.MethodType) -> Hashable:
    return (value.__func__.__name__, walk.of(value.__self__))


def _function(walk: Fingerprint, value: types.FunctionType) -> Hashable:
    cells = value.__closure__ or ()
    return (value.__qualname__, *[walk.of(cell.cell_contents) for cell in cells])


def _partial(walk: Fingerprint, value: partial[Any]) -> Hashable:
    return (walk.of(value.func), *[walk.of(item) for item in value.args])


def _timer(walk: Fingerprint, value: Timer) -> Hashable:
    return (value.method, walk.of(value.owner), *[walk.of(item) for item in value.args])


_ATOMS_SET = frozenset(_ATOMS)
_NAMES: dict[type, tuple[str, ...]] = {}
_READERS: dict[type, Callable[[Fingerprint, Any], Hashable]] = {
    tuple: _items,
    list: _items,
    deque: _items,
    dict: _pairs,
    set: _members,
    frozenset: _members,
    types.MethodType: _method,
    types.FunctionType: _function,
    partial: _partial,
    Timer: _timer,
}
