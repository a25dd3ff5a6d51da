"""A strict reader of EDN, as much of it as a Jepsen history needs, with the line of every form.

The EDN readers on offer are several times slower than this one, and do not say where a form
stands. Integers, keywords, booleans, nil, vectors and maps come out as values; anything else (strings,
floats, sets, tagged values) is read over and comes out as `Other`, since no rule of ours looks
into it. The grammar is that of github.com/edn-format/edn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

_TOKEN = re.compile(
    r"""(?:[\s,]+|;[^\n]*)*+
    (?: (?P<open>\#?\{|[\[(]) | (?P<close>[\])}]) | (?P<discard>\#_) | (?P<tag>\#[A-Za-z][^\s,;"\[\](){}]*)
      | (?P<atom>\\?[^\s,;"\[\](){}\\]+|\\.) | (?P<string>"(?:[^"\\]|\\.)*+") | (?P<end>\Z) )""",
    re.VERBOSE | re.DOTALL,
)
_ATOM = r"""[^\s,;"\[\](){}\\#]+"""
_FLAT_MAP = re.compile(
    rf"(?:[\s,]*+:{_ATOM}[\s,]++(?:{_ATOM}|\[{_ATOM}[\s,]++{_ATOM}\])(?=[\s,}}]))*+[\s,]*+\}}"
)
"""What follows the brace of a map from keywords to atoms and pairs of atoms, as nearly all operations are."""
_PAIR = re.compile(rf"(:{_ATOM})[\s,]+(?:({_ATOM})|\[({_ATOM})[\s,]+({_ATOM})\])")
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)N?")
_CLOSING = {"{": "}", "#{": "}", "[": "]", "(": ")"}
_CONSTANTS = {"nil": None, "true": True, "false": False}
_MOST_DIGITS = 40


class Other(NamedTuple):
    """A value that is none of the kinds that matter here, as its text."""

    text: str


Value = int | str | bool | tuple["Value", ...] | dict[str, "Value"] | Other | None
"""A keyword is a str with its colon; a map keeps what it has under keywords."""


class SyntaxMistake(Exception):
    """The text is not EDN; `line` counts from 1."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


def forms(text: str) -> Iterator[tuple[int, Value]]:
    """Yield each form with the line (from 1) on which it begins; one vector or list around all is entered.

    Raises SyntaxMistake.
    """
    reader = _Reader(text)
    kind, lexeme = reader.take()
    around = _CLOSING[lexeme] if kind == "open" and lexeme in "[(" else ""
    if around:
        kind, lexeme = reader.take()
    while True:
        if kind == "end":
            if around:
                reader.refuse(f"the text ends, but {around!r} is missing")
            return
        if kind == "close" and lexeme == around:
            break
        line = reader.line()
        try:
            value = reader.value(kind, lexeme)
        except RecursionError:
            reader.refuse("nested too deeply")
        if kind != "discard":
            yield line, value
        kind, lexeme = reader.take()
    kind, lexeme = reader.take()
    if kind != "end":
        reader.refuse(f"{lexeme!r} stands after the end of the vector")


class _Reader:
    """Takes one token after the other, and makes values of them."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._match = _TOKEN.match
        self._at = 0
        self._begin = 0
        self._counted = 0
        self._line = 1

    def take(self) -> tuple[str, str]:
        """Return the next token's kind and text."""
        found = self._match(self._text, self._at)
        if found is None or found.lastgroup is None:
            self._begin = self._at
            self.refuse("a string that does not end, or a stray # or backslash, comes after this")
        kind = found.lastgroup
        self._begin = found.start(kind)
        self._at = found.end()
        return kind, found[kind]

    def line(self) -> int:
        """Return the line (from 1) of the last token; calls must go forward."""
        self._line += self._text.count("\n", self._counted, self._begin)
        self._counted = self._begin
        return self._line

    def refuse(self, what: str) -> NoReturn:
        """Raise SyntaxMistake at the last token."""
        raise SyntaxMistake(self.line(), what)

    def value(self, kind: str, lexeme: str) -> Value:
        """Return the value that begins with this token."""
        if kind == "atom":
            return self._atom(lexeme)
        if kind == "open":
            return self._map() if lexeme == "{" else self._sequence(lexeme)
        if kind == "string":
            return Other(lexeme)
        if kind == "tag":
            inner = self._next_value()
            return inner if isinstance(inner, dict) else Other(lexeme)  # a record is a map with a name
        if kind == "discard":
            self._next_value()
            return None
        self.refuse(f"{lexeme!r} closes nothing" if kind == "close" else "the text ends within a form")
        return None

    def _next_value(self) -> Value:
        kind, lexeme = self.take()
        while kind == "discard":
            self._next_value()
            kind, lexeme = self.take()
        return self.value(kind, lexeme)

    def _items(self, closing: str) -> list[Value]:
        items: list[Value] = []
        while True:
            kind, lexeme = self.take()
            if kind == "close":
                if lexeme != closing:
                    self.refuse(f"{lexeme!r} stands where {closing!r} must")
                return items
            value = self.value(kind, lexeme)
            if kind != "discard":
                items.append(value)

    def _sequence(self, opening: str) -> Value:
        items = self._items(_CLOSING[opening])
        return Other("#{...}") if opening == "#{" else tuple(items)

    def _map(self) -> dict[str, Value]:
        flat = _FLAT_MAP.match(self._text, self._at)
        items = self._flat_items(flat.end()) if flat else self._items("}")
        if len(items) % 2:
            self.refuse("a map with a key that has no value ends here")
        found: dict[str, Value] = {}
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str):
                if key in found:
                    self.refuse(f"a map that has {key} twice ends here")
                found[key] = value
        return found

    def _flat_items(self, end: int) -> list[Value]:
        items: list[Value] = []
        for key, atom, first, second in _PAIR.findall(self._text, self._at, end):
            items.append(key)
            items.append(self._atom(atom) if atom else (self._atom(first), self._atom(second)))
        self._begin, self._at = end - 1, end
        return items

    def _atom(self, lexeme: str) -> Value:
        if lexeme[0] == ":":
            return lexeme
        if lexeme in _CONSTANTS:
            return _CONSTANTS[lexeme]
        if len(lexeme) < _MOST_DIGITS and _INTEGER.fullmatch(lexeme):
            return int(lexeme.rstrip("N"))
        return Other(lexeme)
