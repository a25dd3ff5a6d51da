"""A workload that the image does not have: its source comes over the link, from a package on the host.

Whatever such a source does wrong is told to the host. It must not end the guest, whose history would then end
in a panic instead of the reason; so what it draws is looked at before the engine has it.
"""

from _random import Random
from collections.abc import Callable
from typing import Any

from workloads.agent.operations import BURST, FLUSH, KIND_BITS, READ, WRITE

CLASS = "Workload"
"""What the class is called that the source defines; it is made as `Workload(random, options)`."""

Make = Callable[[Random, dict[str, Any]], Any]

_KINDS = (READ, WRITE, BURST)
_HARMLESS = [READ]
"""A read of block 0: what is drawn in the turn in which the source has failed."""


class SourceError(ValueError):
    """The source cannot be used, or has done what it must not; the message is one line."""


def load(name: str, source: str) -> Make:
    """Run the source's module and return its class; raises SourceError."""
    module: dict[str, Any] = {"__name__": f"workload {name}"}
    try:
        exec(compile(source, f"<workload {name}>", "exec"), module)  # noqa: S102  # sent to run it here
    except Exception as error:
        raise SourceError(f"workload {name!r}: its module: {said(error)}") from error
    if not callable(module.get(CLASS)):
        raise SourceError(f"workload {name!r}: its module has no class {CLASS}")
    make: Make = module[CLASS]
    return make


class Sent:
    """Operations of a source that was sent; `failure` says what it has done wrong, if it has.

    Raises SourceError for a source that is wrong from the start.
    """

    def __init__(self, make: Make, random: Random, workload: dict[str, Any]) -> None:
        self.failure = ""
        self.blocks = int(workload["blocks"])
        self.hot_blocks = 0
        self._name = workload["name"]
        try:
            self._source = make(random, workload)
            self.hot_blocks = self._source.hot_blocks
            blocks = self._source.blocks
        except Exception as error:
            raise SourceError(f"workload {self._name!r}: {CLASS}(random, options): {said(error)}") from error
        if blocks != self.blocks or not 0 <= self.hot_blocks <= blocks:
            raise SourceError(
                f"workload {self._name!r}: it has blocks {blocks} and hot_blocks {self.hot_blocks}, "
                f"and the option blocks is {self.blocks}"
            )
        self._next = self._draw()
        if self.failure:
            raise SourceError(self.failure)

    def batch(self) -> list[int]:
        """Return the next operations, or after a failure what does no harm until the engine is stopped."""
        batch, self._next = self._next or self._draw(), []
        return batch

    def _draw(self) -> list[int]:
        if self.failure:
            return _HARMLESS[:]
        try:
            batch = list(self._source.batch())
            odd = [operation for operation in batch if not self._is_operation(operation)]
        except Exception as error:
            self.failure = f"workload {self._name!r}: batch(): {said(error)}"
            return _HARMLESS[:]
        if odd or not batch:
            self.failure = f"workload {self._name!r}: batch(): " + (
                f"{odd[0]!r} is no `block << KIND_BITS | kind` of a read, flush, write or burst within "
                f"{self.blocks} blocks"
                if odd
                else "it returned no operation"
            )
            return _HARMLESS[:]
        return batch

    def _is_operation(self, operation: Any) -> bool:
        return type(operation) is int and (
            operation == FLUSH
            or (0 <= operation >> KIND_BITS < self.blocks and operation & ((1 << KIND_BITS) - 1) in _KINDS)
        )


def said(error: Exception) -> str:
    """Return an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
