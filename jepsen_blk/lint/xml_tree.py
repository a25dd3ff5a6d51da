"""XML into a tree whose elements know their lines, without what makes XML dangerous.

It is expat itself, since ElementTree drops the lines. A document type is refused, so there is no entity to
expand and nothing to fetch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from jepsen_blk.errors import UserError

_MOST_DEPTH = 200


@dataclass(slots=True)
class Element:
    """An element: its name as written with its prefix, attributes, children, text, and line (from 1)."""

    tag: str
    attributes: Mapping[str, str]
    line: int
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def find(self, tag: str) -> Element | None:
        """Return the first direct child of that name."""
        return next(self.all(tag), None)

    def all(self, tag: str) -> Iterator[Element]:
        """Yield the direct children of that name."""
        return (child for child in self.children if child.tag == tag)

    def get(self, name: str) -> str:
        """Return an attribute, empty where it is not there."""
        return self.attributes.get(name, "")


class _Builder:
    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._open: list[Element] = []
        self.root: Element | None = None
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, attributes, self.parser.CurrentLineNumber)
        if len(self._open) == _MOST_DEPTH:
            raise UserError(
                f"{self._origin}:{element.line}: elements are nested more than {_MOST_DEPTH} deep"
            )
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, _tag: str) -> None:
        self._open.pop()

    def _characters(self, text: str) -> None:
        self._open[-1].text += text

    def _doctype(self, *_told: object) -> None:
        line = self.parser.CurrentLineNumber
        raise UserError(
            f"{self._origin}:{line}: a document type (<!DOCTYPE>) is not read; take it out, libvirt needs "
            f"none"
        )


def parse_xml(data: bytes, origin: str) -> Element:
    """Return the root; raises UserError with `origin` and the line for what is no XML, or has a document
    type.
    """
    builder = _Builder(origin)
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise UserError(
            f"{origin}:{error.lineno}: not valid XML: {expat.errors.messages[error.code]}"
        ) from error
    except (ValueError, LookupError) as error:
        raise UserError(f"{origin}: its encoding cannot be read: {error}") from error
    if builder.root is None:
        raise UserError(f"{origin}: there is no element in it")
    return builder.root
