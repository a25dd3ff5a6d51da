"""The ledger on a node: what was done to it that outlives the controller, so that another one can undo it.

An entry is written before its deed, and removed once the deed was seen to be undone: whatever moment the
controller is killed at, all that stands is written down. One small file a deed, named after it:

    {"deed":{"kind":"nft-table","table":"jepsen_blk_x_storage"},"what":"...","run":"...",
     "done_at":"2026-01-31T12:00:00+00:00","undo":[["nft","..."]]}

`undo` is for people who have to do it by hand; it is compared and never run (see deeds.py). The folder is
under /run, which is empty after a boot, as are the kernel's tables and queues.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from jepsen_blk.errors import InternalError, LabError
from jepsen_blk.lab.deeds import Deed
from jepsen_blk.lab.seams import Node
from jepsen_blk.mistakes import mistakes

LEDGER = PurePosixPath("/run/jepsen-blk/ledger")
_SUFFIX = ".json"
_MOST_BYTES = 16 << 10
_ENTER = """
umask 077
mkdir -p -- "$1" && chmod 700 -- "$1" && printf %s "$3" >"$1/.$2" && mv -f -- "$1/.$2" "$1/$2"
"""
"""The text comes as an argument, which arrives whole or not at all; a stream could end anywhere."""
_LIST = """
if said=$(LC_ALL=C ls -d -- "$1" 2>&1); then exec find "$1" -maxdepth 1 -type f -name "$2" -printf '%f\\0'; fi
case $said in *': No such file or directory') ;; *) echo "$said" >&2; exit 1 ;; esac
"""
"""No folder is no entry; a folder that may not be looked into is an error."""


class Ledger(Protocol):
    """Where deeds on nodes are written down."""

    async def enter(self, node: Node, deed: Deed) -> None:
        """Write a deed down before it is done; raises LabError when the node could not."""

    async def strike(self, node: Node, deed: Deed) -> None:
        """See that a deed is undone and remove its entry, if any; raises LabError where it stands."""


class NoLedger:
    """For nodes that end with their controller: nothing outlives it, so nothing is written down."""

    async def enter(self, node: Node, deed: Deed) -> None:
        """Do nothing."""

    async def strike(self, node: Node, deed: Deed) -> None:
        """Do nothing."""


class Entry(BaseModel):
    """A deed as it stands in a ledger."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    deed: Deed
    what: str
    run: str
    done_at: AwareDatetime
    undo: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """A file in a ledger that is no entry of ours; nothing in it is ever run."""

    path: PurePosixPath
    why: str


class NodeLedger:
    """A ledger that each node keeps of itself, in a folder of its own."""

    def __init__(
        self,
        run: str,
        folder: PurePosixPath = LEDGER,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._run = run
        self._folder = folder
        self._now = now

    async def enter(self, node: Node, deed: Deed) -> None:
        """Write a deed down before it is done, in one step; an entry of the same deed is replaced."""
        entry = Entry(deed=deed, what=str(deed), run=self._run, done_at=self._now(), undo=deed.undo)
        file, text = deed.name + _SUFFIX, entry.model_dump_json()
        if isinstance(read := _recognise(PurePosixPath(file), text), Unrecognised):
            raise InternalError(f"{deed} could not be undone from a ledger: {read.why}")
        await node.run(["sh", "-c", _ENTER, "sh", str(self._folder), file, text])

    async def strike(self, node: Node, deed: Deed) -> None:
        """See that a deed is undone and remove its entry, if any; raises LabError where it stands."""
        if await deed.stands(node):
            raise LabError(f"node {node.name}: {deed}: it still stands after it was undone")
        await node.run(["rm", "-f", "--", str(self._folder / (deed.name + _SUFFIX))])


async def read_ledger(node: Node, folder: PurePosixPath) -> tuple[list[Entry], list[Unrecognised]]:
    """Return the entries of a node's ledger, newest first, and the files in it that are none."""
    listed = await node.run(["sh", "-c", _LIST, "sh", str(folder), "*" + _SUFFIX])
    entries, others = [], []
    for name in sorted(filter(None, listed.stdout.split("\0"))):
        shown = await node.run(["head", "-c", str(_MOST_BYTES), "--", str(folder / name)])
        read = _recognise(folder / name, shown.stdout)
        if isinstance(read, Unrecognised):
            others.append(read)
        else:
            entries.append(read)
    return sorted(entries, key=lambda entry: entry.done_at, reverse=True), others


def _recognise(path: PurePosixPath, text: str) -> Entry | Unrecognised:
    """Return the entry if all of it is what our own code would have written in that file."""
    try:
        entry = Entry.model_validate(json.loads(text), strict=False)
    except ValidationError as error:
        return Unrecognised(path, mistakes(error))
    except ValueError:
        return Unrecognised(path, "it is not whole" if text.startswith("{") else "it is not JSON")
    if path.name != entry.deed.name + _SUFFIX:
        return Unrecognised(path, f"what it says belongs into {entry.deed.name}{_SUFFIX}")
    if entry.undo != entry.deed.undo:
        return Unrecognised(path, f"this does not undo {entry.deed}: {_shown(entry.undo)}")
    return entry


def _shown(undo: Sequence[Sequence[str]]) -> str:
    """Return commands as one line of printable text, whatever is in them."""
    return json.dumps(undo)[:200]
