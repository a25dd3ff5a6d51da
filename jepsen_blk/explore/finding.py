"""What is said of a case: safe in all interleavings, or the shortest that fails, and on what that rests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from jepsen_blk.errors import UserError
from jepsen_blk.explore.case import Case, Frontend, Scope, Wire
from jepsen_blk.explore.search import Search
from jepsen_blk.explore.world import Key
from jepsen_blk.mistakes import unknown_name
from jepsen_blk.spec import HandoffPolicy
from jepsen_blk.storage.conflict import ConflictModel

Choice = TypeVar("Choice", bound=StrEnum)
Say = Callable[[str], None]
_SAY_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The end of a search; `path` is empty where the case is safe, `prompt` the case without a late wire.

    `interleavings` counts those up to the first contradiction; `seconds` are of the processor.
    """

    case: Case
    interleavings: int
    states: int
    seconds: float
    path: tuple[Key, ...]
    before_handoff: bool = False
    prompt: Finding | None = None

    @property
    def safe(self) -> bool:
        """Tell whether no interleaving fails."""
        return not self.path

    @property
    def rests_on_wire(self) -> bool:
        """Tell whether it fails only if something is left on the wire when the handoff begins."""
        return not self.safe and self.prompt is not None and self.prompt.safe


class Progress:
    """Says how far it is, once a second, and nothing of what takes less."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._last_s = time.monotonic()

    def __call__(self, line: str) -> None:
        """Say the line, if it is time."""
        now_s = time.monotonic()
        if now_s - self._last_s >= _SAY_EVERY_S:
            self._last_s = now_s
            self._say(line)


def parse_case(conflict: str, frontend: str, policy: str, scope: str) -> Case:
    """Return the case of these names; raises UserError with the choices."""
    return Case(
        _choose("conflict model", ConflictModel, conflict),
        _choose("frontend", Frontend, frontend),
        _choose("handoff policy", HandoffPolicy, policy),
        _choose("scope", Scope, scope),
    )


def explore(case: Case, say: Say) -> Finding:
    """Search the case; where it fails also without a late wire. `say` hears how far it is, at each state."""
    found = _search(case, say)
    if found.safe or found.before_handoff:
        return found
    return replace(found, prompt=_search(replace(case, wire=Wire.PROMPT), say))


def _search(case: Case, say: Say) -> Finding:
    used = time.process_time()
    told = f"{case.policy.value} on {case.conflict.value}"
    graph = Search(case, say=lambda states: say(f"{told}: {states} states")).run()
    path = graph.shortest() or ()
    return Finding(
        case,
        interleavings=graph.interleavings,
        states=len(graph.edges),
        seconds=time.process_time() - used,
        path=path,
        before_handoff=any(graph.contradicted.values()),
    )


def _choose(kind: str, choices: Iterable[Choice], name: str) -> Choice:
    for choice in choices:
        if choice.value == name:
            return choice
    raise UserError(unknown_name(kind, name, [choice.value for choice in choices]))
