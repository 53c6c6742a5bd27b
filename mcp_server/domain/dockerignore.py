"""What a .dockerignore leaves out. The engine leaves that to whoever sends it the files.

# words      a comment, at the beginning of a line only
keys         that path and everything below it; a slash before or behind it means nothing
*.pem        `*`, `?` and `[a-z]` stay within one part of a path, `**` stands for any number of parts
!demo.pem    an exception; the last line that matches decides
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from mcp_server.domain.errors import Invalid

MOST_LINES = 2000
_ANY = re.compile(r"", re.DOTALL)
"""Stands for `**`; told apart by identity."""

_SIGN = re.compile(r"\*+|\?|\[\^?\]?[^\]]*\]|\\.|.", re.DOTALL)
Parts = Sequence[re.Pattern[str]]


class Ignored:
    """`exceptions`: whether something may be wanted below a directory that is left out."""

    def __init__(self, text: str = "") -> None:
        """Raises Invalid for a line that is no pattern."""
        self._rules = [_rule(line) for line in _lines(text)]
        self.exceptions = any(exception for _, exception in self._rules)

    def leaves_out(self, path: str) -> bool:
        """`path`: relative, with slashes."""
        names, out = path.split("/"), False
        for parts, exception in self._rules:
            if exception is out and _reaches(parts, names):
                out = not exception
        return out


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines() if not line.startswith("#")]
    found = [line for line in lines if line]
    if len(found) > MOST_LINES:
        raise Invalid(f".dockerignore has more than {MOST_LINES} lines")
    return found


def _rule(line: str) -> tuple[Parts, bool]:
    exception = line.startswith("!")
    pattern = posixpath.normpath("/" + line.removeprefix("!").strip().lstrip("/"))[1:]
    parts: list[re.Pattern[str]] = []
    try:
        for part in pattern.split("/"):
            if part.startswith("**"):
                parts.append(_ANY)
            if rest := part.removeprefix("**"):
                parts.append(re.compile(_expression(rest), re.DOTALL))
    except re.error as error:
        raise Invalid(f".dockerignore has a line that is no pattern: {line[:100]}") from error
    return parts, exception


def _expression(part: str) -> str:
    """Each run of characters is taken where it is first met and never looked for again, which for such patterns is
    enough: no name takes long."""
    runs = [""]
    for sign in _SIGN.findall(part):
        if sign.startswith("*"):
            runs.append("")
        else:
            runs[-1] += _one(sign)
    first, *others = runs
    middle = "".join(f"(?>.*?{run})" for run in others[:-1])
    return first + middle + (f".*{others[-1]}" if others else "")


def _one(sign: str) -> str:
    if sign == "?":
        return "."
    if len(sign) > 1 and sign.startswith("["):
        return sign
    return re.escape(sign.removeprefix("\\") if len(sign) > 1 else sign)


def _reaches(parts: Parts, names: Sequence[str]) -> bool:
    """Whether the pattern is the path or a directory above it."""
    at, here, again, resumed = 0, 0, -1, 0
    while at < len(parts):
        if parts[at] is _ANY:
            again, resumed, at = at, here, at + 1
        elif here < len(names) and parts[at].fullmatch(names[here]):
            at, here = at + 1, here + 1
        elif again >= 0 and resumed < len(names):
            resumed += 1
            at, here = again + 1, resumed
        else:
            return False
    return bool(parts)
