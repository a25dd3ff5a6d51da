"""The syntax of an xl configuration: what libxlu's own grammar takes, and nothing that would have to be run.

It looks like Python and is not: assignments of strings, numbers and lists of them, ended by a newline or a
semicolon. Lists may go over lines and be nested, and `+=` appends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jepsen_blk.errors import UserError
from jepsen_blk.lint.facts import Said

_MOST_DEPTH = 20
_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r]+|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>-?[0-9][0-9A-Fa-fxX.]*)
      | (?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
      | (?P<sign>\+=|[=,;\[\]])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


def parse_xl(text: str, origin: str) -> dict[str, list[Said[str]]]:
    """Return each setting with its values, a single one as a list of one; raises UserError with the line."""
    return _Parser(text, origin).settings()


class _Parser:
    def __init__(self, text: str, origin: str) -> None:
        self._origin = origin
        self._tokens = list(self._scan(text))
        self._at = 0

    def settings(self) -> dict[str, list[Said[str]]]:
        found: dict[str, list[Said[str]]] = {}
        while self._token.kind != "end":
            if self._token.kind == "newline" or self._token.text == ";":
                self._at += 1
                continue
            name = self._take("name", "the name of a setting")
            sign = self._take("sign", "'=' after it")
            if sign.text not in ("=", "+="):
                raise self._mistake(sign, "'=' after the name of a setting")
            values = self._values(0) if self._token.text == "[" else [self._atom()]
            found[name.text] = (found.get(name.text, []) if sign.text == "+=" else []) + values
            if not (self._token.kind in ("newline", "end") or self._token.text == ";"):
                raise self._mistake(self._token, "the end of the line")
        return found

    @property
    def _token(self) -> _Token:
        return self._tokens[self._at]

    def _scan(self, text: str) -> Iterator[_Token]:
        at, line = 0, 1
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise UserError(f"{self._origin}:{line}: not the syntax of xl.cfg at {_excerpt(text[at:])}")
            if match.lastgroup != "blank":
                yield _Token(match.lastgroup, match[0], line)
            line += match[0].count("\n")
            at = match.end()
        yield _Token("end", "", line)

    def _values(self, depth: int) -> list[Said[str]]:
        """Read a list and all lists in it: which value stood in which is of no interest here."""
        if depth == _MOST_DEPTH:
            raise self._mistake(self._token, f"lists at most {_MOST_DEPTH} deep")
        self._at += 1
        values: list[Said[str]] = []
        self._skip_newlines()
        while self._token.text != "]" or self._token.kind != "sign":
            values += self._values(depth + 1) if self._is_sign("[") else [self._atom()]
            self._skip_newlines()
            if self._is_sign(","):
                self._at += 1
                self._skip_newlines()
            elif not self._is_sign("]"):
                raise self._mistake(self._token, "',' or ']' in a list")
        self._at += 1
        return values

    def _atom(self) -> Said[str]:
        token = self._token
        if token.kind not in ("string", "number"):
            raise self._mistake(token, "a string, a number or a list (xl runs no Python)")
        self._at += 1
        return Said(_dequote(token.text) if token.kind == "string" else token.text, token.line)

    def _take(self, kind: str, what: str) -> _Token:
        token = self._token
        if token.kind != kind:
            raise self._mistake(token, what)
        self._at += 1
        return token

    def _is_sign(self, text: str) -> bool:
        return self._token.kind == "sign" and self._token.text == text

    def _skip_newlines(self) -> None:
        while self._token.kind == "newline":
            self._at += 1

    def _mistake(self, token: _Token, expected: str) -> UserError:
        seen = {"end": "the file ends", "newline": "the line ends"}.get(
            token.kind, f"it has {_excerpt(token.text)}"
        )
        return UserError(
            f"{self._origin}:{token.line}: not the syntax of xl.cfg: {seen} where there should be {expected}"
        )


def _dequote(text: str) -> str:
    return _ESCAPE.sub(_unescape, text[1:-1])


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "x" and len(code) > 1:
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8))
    return _ESCAPES.get(code, code)


def _excerpt(text: str) -> str:
    return repr(text.partition("\n")[0][:30])
