"""DRBD's configuration (drbd.conf, *.res), read into facts.

Sections in braces, parameters ended by semicolons, as in drbd.conf(5). What `common` says holds for every
resource of the file; where the file has none, it may stand in another one, and what a resource does not say
is not known to be absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jepsen_blk.errors import UserError
from jepsen_blk.lint.facts import Facts, Format, Replica, Said

_TOKEN = re.compile(
    r"""(?P<blank>[\s]+|\#[^\n]*)|(?P<sign>[{};])|(?P<string>"[^"\n]*")|(?P<word>[^\s{};"#]+)"""
)
_MOST_DEPTH = 20
_NO_DISCARD = ("disconnect", "discard-zero-changes", "consensus")
_AFTER_SPLIT_BRAIN = ("after-sb-0pri", "after-sb-1pri", "after-sb-2pri")


@dataclass(slots=True)
class _Section:
    words: list[str]
    line: int
    parameters: list[Said[list[str]]] = field(default_factory=list)
    sections: list[_Section] = field(default_factory=list)

    def said(self, name: str) -> Iterator[Said[str]]:
        """Yield every value of a parameter, in inner sections too; empty if it stands alone."""
        for parameter in self.parameters:
            if parameter.value[0] == name:
                yield Said(" ".join(parameter.value[1:]), parameter.line)
        for section in self.sections:
            yield from section.said(name)


def read_drbd(data: bytes, origin: str) -> Facts:
    """Return what the file says of each resource; UserError with the place for what is no such file."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{origin}: not text in UTF-8: {error.reason} at byte {error.start}") from error
    top = _parse(text, origin)
    common = [section for section in top.sections if section.words[0] == "common"]
    resources = [section for section in top.sections if section.words[0] == "resource"]
    replicas = [_replica(section, common, whole=bool(common)) for section in resources]
    if not resources:
        replicas = [_replica(section, (), whole=True) for section in common]
    unread = [Said(f"what it includes: {said.value}", said.line) for said in top.said("include")]
    return Facts(Format.DRBD, replicas=tuple(replicas), unread=tuple(unread))


def _parse(text: str, origin: str) -> _Section:
    top = _Section(["file"], 1)
    inside, words, begun, line = [top], list[str](), 1, 1
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise UserError(f"{origin}:{line}: a string that does not end in its line")
        at, piece = match.end(), match[0]
        if match.lastgroup == "word" or match.lastgroup == "string":
            begun = begun if words else line
            words.append(piece.strip('"'))
        elif piece == "{":
            if not words or len(inside) == _MOST_DEPTH:
                raise UserError(
                    f"{origin}:{line}: '{{' begins a section, but no name is before it, or too many are open"
                )
            inside[-1].sections.append(_Section(words, begun))
            inside.append(inside[-1].sections[-1])
            words = []
        elif piece == ";" and words:
            inside[-1].parameters.append(Said(words, begun))
            words = []
        elif piece == "}":
            if words or len(inside) == 1:
                what = f"{words[0]!r} is not ended by ';'" if words else "it closes no section"
                raise UserError(f"{origin}:{line}: '}}': {what}")
            inside.pop()
        line += piece.count("\n")
    if words or len(inside) > 1:
        what = words[0] if words else inside[-1].words[0]
        raise UserError(f"{origin}:{line}: the file ends within {what!r}")
    return top


def _replica(own: _Section, common: Sequence[_Section], *, whole: bool) -> Replica:
    def last(name: str) -> Said[str] | None:
        """Return what holds: the resource's own word before that of `common`."""
        said = [*(item for section in common for item in section.said(name)), *own.said(name)]
        return said[-1] if said else None

    discards = (
        Said(f"{name} {said.value}", said.line)
        for name in _AFTER_SPLIT_BRAIN
        if (said := last(name)) and said.value not in _NO_DISCARD
    )
    return Replica(
        name=" ".join(own.words),
        line=own.line,
        whole=whole,
        two_primaries=_on(last("allow-two-primaries")),
        protocol=last("protocol"),
        fencing=last("fencing"),
        quorum=last("quorum"),
        discards=tuple(discards),
    )


def _on(said: Said[str] | None) -> Said[str] | None:
    """Return a switch only where it is on: DRBD takes it without a value too."""
    return said if said and said.value in ("", "yes") else None
