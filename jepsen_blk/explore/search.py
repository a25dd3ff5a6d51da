"""The search: every state once, every order of events counted.

Depth first, by executing again: a state is reached by playing the events that lead to it in a new world. Two
ways into the same state are the same from there on, so each state is left once, in each way; the number of
interleavings is that of the paths through the states. An event that changes nothing (a poll that finds what
it found before) is none. Where the guest's history is contradicted the search goes no further: nothing that
follows could mend it.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from jepsen_blk import clock
from jepsen_blk.explore.case import Case
from jepsen_blk.explore.register import Past, Register
from jepsen_blk.explore.world import Key, World

_COLLECT_EVERY = 2000


class State(NamedTuple):
    """What a state is known by: what the world is made of, the timers in waiting, the guest's past."""

    body: Hashable
    timers: tuple[Hashable, ...]
    past: Past

    def without(self, timer: int | None) -> State | None:
        """Return it as if one of its timers were not there."""
        if timer is None:
            return None
        return self._replace(timers=self.timers[:timer] + self.timers[timer + 1 :])


@dataclass(slots=True)
class Graph:
    """All states, by number; state 0 is the first. `edges` are the ways out of each.

    `pasts` are what the guest has seen by then; `contradicted` are those in which that fails, and whether it
    is before any handoff.
    """

    edges: list[list[tuple[Key, int]]] = field(default_factory=list)
    pasts: list[Past] = field(default_factory=list)
    contradicted: dict[int, bool] = field(default_factory=dict)

    @property
    def interleavings(self) -> int:
        """How many orders of events there are, from the first state to the last of each."""
        counts: dict[int, int] = {}
        stack = [0]
        while stack:
            state = stack[-1]
            missing = [to for _, to in self.edges[state] if to not in counts]
            if missing:
                stack += missing
            else:
                stack.pop()
                counts[state] = sum(counts[to] for _, to in self.edges[state]) or 1
        return counts[0]

    def shortest(self) -> tuple[Key, ...] | None:
        """Return the fewest events after which the history is contradicted, the first of these."""
        came: dict[int, tuple[int, Key] | None] = {0: None}
        todo = deque([0])
        while todo:
            state = todo.popleft()
            if state in self.contradicted:
                return tuple(reversed([*_way_back(came, state)]))
            for key, to in self.edges[state]:
                if to not in came:
                    came[to] = (state, key)
                    todo.append(to)
        return None


def _way_back(came: dict[int, tuple[int, Key] | None], state: int) -> Iterator[Key]:
    step = came[state]
    while step is not None:
        state, key = step
        yield key
        step = came[state]


class Search:
    """The search of one case; `merge` off takes every way for a state of its own, to count by brute force."""

    def __init__(
        self, case: Case, *, merge: bool = True, say: Callable[[int], None] = lambda states: None
    ) -> None:
        self.graph = Graph()
        self._case, self._spec = case, case.spec()
        self._merge, self._say = merge, say
        self._known: dict[object, int] = {}
        self._worlds = 0

    def run(self) -> Graph:
        """Search everything."""
        with stopped_time():
            world, register = self._world(())
            world.look()
            self._visit(world, register, (), State(*world.fingerprint(), register.past()))
        return self.graph

    def _world(self, path: tuple[Key, ...]) -> tuple[World, Register]:
        """Return a world in which the events of `path` have happened, and who hears of what follows."""
        self._worlds += 1
        if self._worlds % _COLLECT_EVERY == 0:
            gc.collect()
        register = Register()
        world = World(self._case, self._spec, register)
        for key in path:
            world.perform(key)
        return world, register

    def _visit(self, world: World, register: Register, path: tuple[Key, ...], state: State) -> int:
        """Search on from a new state, in which `world` is, and return its number."""
        graph = self.graph
        here = len(graph.edges)
        graph.edges.append([])
        graph.pasts.append(state.past)
        self._say(here + 1)
        if self._merge:
            self._known[state] = here
        if state.past[-1]:
            graph.contradicted[here] = world.done.moved != "moved"
            return here
        fresh = True
        for key in world.choices():
            if not fresh:
                world, register = self._world(path)
            fresh = False
            register.recall(state.past)
            fired = world.waiting_as(key)
            world.perform(key)
            world.look()
            then = State(*world.fingerprint(), register.past())
            if then == state or then == state.without(fired):
                continue
            to = self._known.get(then)
            if to is None:
                to = self._visit(world, register, (*path, key), then)
            graph.edges[here].append((key, to))
        return here


@contextmanager
def stopped_time() -> Iterator[None]:
    """Let time stand still in the block, and no loop be left running after it."""
    gc_was = gc.isenabled()
    gc.disable()
    try:
        with clock.simulated(lambda: 0):
            yield
    finally:
        asyncio._set_running_loop(None)
        if gc_was:
            gc.enable()
