"""SQL text cut into its statements, as PostgreSQL or SQLite would: strings, comments, dollar quotes and bodies
are kept whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from mcp_server.domain.errors import Invalid

Engine = Literal["postgres", "sqlite"]

TOKEN = re.compile(
    r"""
    (?P<space>\s+) | (?P<line>--[^\n]*) | (?P<block>/\*) | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*'?)
    | (?P<string>'(?:[^']|'')*'?) | (?P<quoted>"(?:[^"]|"")*"?) | (?P<tick>`(?:[^`]|``)*`?)
    | (?P<dollar>\$(?:[A-Za-z_\u0080-\uffff][\w]*)?\$) | (?P<word>[^\W\d][\w$]*) | (?P<end>;) | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
OPENS = {"begin", "case"}
NO_TRANSACTION = re.compile(r"^[ \t]*--[ \t]*no-transaction[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
CONTROLS = {"begin", "commit", "rollback", "end", "abort", "savepoint", "release"}
ALTERING = {"create", "alter", "drop", "reassign"}
SHARED = {"role", "user", "group", "database", "tablespace", "system", "owned"}


class Statement(NamedTuple):
    """`line` counts from 1 in its file; `words` are its first words in lower case, comments left out."""

    text: str
    line: int
    words: tuple[str, ...]

    @property
    def controls_transaction(self) -> bool:
        first = self.words[0] if self.words else ""
        return first in CONTROLS or self.words[:2] in {("start", "transaction"), ("prepare", "transaction")}

    @property
    def is_for_all_databases(self) -> bool:
        """Whether it concerns what the databases of a PostgreSQL server share."""
        return len(self.words) > 1 and self.words[0] in ALTERING and self.words[1] in SHARED


def split(text: str, engine: Engine, *, where: str = "the SQL text") -> tuple[Statement, ...]:
    """The statements in order, without their semicolons; what holds only comments is none.

    Raises Invalid, with the line, for a string, comment or body that does not end.
    """
    return tuple(_statements(text, engine, where))


def wants_no_transaction(text: str) -> bool:
    """Whether a line of the text says `-- no-transaction`."""
    return NO_TRANSACTION.search(text) is not None


class _Body:
    """Whether a `;` belongs to the body of a trigger or of a function in standard SQL."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.depth = 0
        self._before = ""

    def word(self, word: str, words: list[str]) -> None:
        if self.depth:
            self.depth += (word in OPENS) - (word == "end")
        elif self._opens(word, words):
            self.depth = 1
        self._before = word

    def _opens(self, word: str, words: list[str]) -> bool:
        if self._engine == "sqlite":
            return word == "begin" and words[:1] == ["create"] and "trigger" in words[1:3]
        return word == "atomic" and self._before == "begin" and words[:1] == ["create"]


def _statements(text: str, engine: Engine, where: str) -> Iterator[Statement]:
    at, length, line = 0, len(text), 1
    begin: int | None = None
    begin_line, words, body = 1, list[str](), _Body(engine)
    while at < length:
        match = TOKEN.match(text, at)
        assert match is not None  # noqa: S101 - the last alternative takes any character
        kind, stop = match.lastgroup or "other", match.end()
        token = match.group()
        if kind == "dollar" and engine == "sqlite":
            kind = "other"
        if kind == "block":
            stop = _comment_end(text, at, engine)
        elif kind == "dollar":
            found = text.find(token, stop)
            stop = -1 if found < 0 else found + len(token)
        if stop < 0 or (kind in {"escaped", "string", "quoted", "tick"} and _open(token, kind)):
            raise Invalid(f"{where}, line {line}: what begins here does not end")
        if kind == "end" and not body.depth:
            if begin is not None:
                yield Statement(text[begin:at].rstrip(), begin_line, tuple(words[:8]))
            begin, words, body = None, [], _Body(engine)
        elif kind not in {"space", "line", "block"} and not (kind == "end" and begin is None):
            if begin is None:
                begin, begin_line = at, line
            if kind == "word":
                body.word(token.lower(), words)
                if len(words) < 8:
                    words.append(token.lower())
        line += text.count("\n", at, stop)
        at = stop
    if body.depth:
        raise Invalid(f"{where}, line {begin_line}: the body that begins here has no END")
    if begin is not None:
        yield Statement(text[begin:].rstrip(), begin_line, tuple(words[:8]))


def _comment_end(text: str, at: int, engine: Engine) -> int:
    """PostgreSQL's comments nest; SQLite's last one may stay open."""
    if engine == "sqlite":
        found = text.find("*/", at + 2)
        return len(text) if found < 0 else found + 2
    depth = 0
    for match in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    return -1


def _open(token: str, kind: str) -> bool:
    quote = {"quoted": '"', "tick": "`"}.get(kind, "'")
    inner = token[1:] if kind != "escaped" else token[2:]
    if not inner.endswith(quote):
        return True
    if kind == "escaped":
        return re.fullmatch(r"(?:[^'\\]|\\.|'')*'", inner, re.DOTALL) is None
    return (len(inner) - len(inner.rstrip(quote))) % 2 == 0
