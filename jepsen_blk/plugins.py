"""What packages installed beside this one bring: faults and workloads, found by their entry points.

What is built in is not registered so: it has to work where the tester runs from a checkout without being
installed, and no other package may take its place. So a name that is built in never costs a look at the
installed packages, and a package that is broken troubles only those who ask for what it brings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jepsen_blk.errors import UserError
from jepsen_blk.mistakes import unknown_name

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class PluginError(UserError):
    """A package registers something that cannot be used; the message names the package and the remedy."""


class UnknownName(UserError):
    """There is nothing of that name; the message has the choices."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing of a catalogue: what it is, or the `problem` that makes it unusable.

    `package` is empty for what is built in.
    """

    name: str
    package: str
    item: Any = None
    problem: str = ""


@dataclass
class Catalogue:
    """Things by name: those built in, and those that packages register in the entry point `group`.

    `why_not(name, item)` says what is wrong with a registered item, and nothing if it can be used.
    """

    kind: str
    group: str
    built_in: Mapping[str, Any]
    why_not: Callable[[str, Any], str]
    _loaded: dict[str, Entry] = field(default_factory=dict, init=False, repr=False)

    def get(self, name: str) -> Any:
        """Return what has this name; raises UnknownName, and PluginError if its package is broken."""
        return self.entry(name).item

    def entry(self, name: str) -> Entry:
        """Return what has this name with its package; raises as `get` does."""
        if name in self.built_in:
            return Entry(name, "", self.built_in[name])
        if name not in self._loaded:
            registered = self._registered().get(name)
            if registered is None:
                raise UnknownName(self._unknown(name))
            self._loaded[name] = Entry(name, _package(registered[0]), self._load(name, registered))
        return self._loaded[name]

    def names(self) -> list[str]:
        """Return all names in order; nothing is loaded for it."""
        return sorted({*self.built_in, *self._registered()})

    def entries(self) -> Iterator[Entry]:
        """Yield everything, the built-in first, and what cannot be used with its problem."""
        for name in sorted(self.built_in):
            yield Entry(name, "", self.built_in[name])
        for name, registered in sorted(self._registered().items()):
            package = " and ".join(map(_package, registered))
            try:
                yield Entry(name, package, self._load(name, registered))
            except PluginError as error:
                yield Entry(name, package, problem=str(error))

    def _registered(self) -> dict[str, list[EntryPoint]]:
        from importlib.metadata import entry_points  # slow to load, and most tests need nothing of it

        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            found.setdefault(point.name, []).append(point)
        return found

    def _load(self, name: str, registered: list[EntryPoint]) -> Any:
        if len(registered) > 1:
            packages = " and ".join(map(_package, registered))
            raise PluginError(f"{self.kind} {name!r}: {packages} both register it; uninstall one of them")
        (point,) = registered
        what = f"{self.kind} {name!r} of package {_package(point)}"
        remove = f"`pip uninstall {point.dist.name}`" if point.dist else "uninstall it"
        if name in self.built_in:
            raise PluginError(
                f"{what}: a built-in {self.kind} has this name and is used; give it another one, or {remove}"
            )
        try:
            item = point.load()
        except (Exception, SystemExit) as error:  # whatever a stranger's module does when it is imported
            raise PluginError(
                f"{what}: {point.value} cannot be loaded: {_said(error)}; mend it, or {remove}"
            ) from error
        problem = self.why_not(name, item)
        if problem:
            raise PluginError(f"{what}: {point.value}: {problem}; mend it, or {remove}")
        return item

    def _unknown(self, name: str) -> str:
        return unknown_name(self.kind, name, self.names())


def _package(point: EntryPoint) -> str:
    distribution = point.dist
    return f"{distribution.name} {distribution.version}" if distribution else point.module


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
