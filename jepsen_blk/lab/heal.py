"""Undo on a node what its ledger says that a controller, which was killed, has left there.

Nothing is taken on trust: whether a deed stands is asked of the node's kernel, before and after. Every line
is told as soon as it is known, and what fails on one deed keeps no other from being undone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from jepsen_blk.errors import LabError
from jepsen_blk.lab.deeds import undo
from jepsen_blk.lab.ledger import Entry, NodeLedger, Unrecognised, read_ledger
from jepsen_blk.lab.seams import Node


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that a ledger had, in words; `ok` is false where a person has to look."""

    text: str
    ok: bool = True


async def heal_node(node: Node, folder: PurePosixPath, *, dry_run: bool = False) -> list[Found]:
    """Undo what the node's ledger has, newest first, and return what was found; an empty list: nothing.

    `dry_run` changes nothing. Raises LabError when the ledger cannot be read.
    """
    entries, others = await read_ledger(node, folder)
    found = [await _look(node, entry) if dry_run else await _heal(node, folder, entry) for entry in entries]
    return [*found, *_named(others)]


async def _heal(node: Node, folder: PurePosixPath, entry: Entry) -> Found:
    try:
        stood = await entry.deed.stands(node)
        if stood:
            await undo(node, entry.deed)
        await NodeLedger(entry.run, folder).strike(node, entry.deed)
    except LabError as error:
        return Found(f"NOT undone: {_words(entry)}: {error}", ok=False)
    return Found(f"{'undone' if stood else 'gone already'}: {_words(entry)}")


async def _look(node: Node, entry: Entry) -> Found:
    try:
        stands = await entry.deed.stands(node)
    except LabError as error:
        return Found(f"cannot be seen: {_words(entry)}: {error}", ok=False)
    return Found(f"{'would be undone' if stands else 'gone already'}: {_words(entry)}")


def _named(others: list[Unrecognised]) -> Iterator[Found]:
    for other in others:
        yield Found(
            f"NOT run, no entry of ours: {other.path}: {other.why}; look at it, then remove it", ok=False
        )


def _words(entry: Entry) -> str:
    return f"{entry.deed} (run {entry.run}, {entry.done_at:%Y-%m-%d %H:%M:%S %Z})"
