"""Dotenv text as variables: what is quoted how, and what is refused instead of guessed.

    NAME=plain text        spaces around it are cut; a comment begins with ' #'
    NAME='as it stands'    nothing is replaced; may go over several lines
    NAME="with \\n and \\""  \\n \\r \\t \\\\ \\" \\$ stand for what they do in a shell's $'...'; several lines
    export NAME=value      the word is ignored

References ($NAME, ${NAME}) are refused: nothing here would replace them. So are placeholders, which a template
has where a secret belongs.
"""

from __future__ import annotations

import re

from mcp_server.domain.errors import Invalid

MAX_TEXT = 1024 * 1024
_HEAD = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_PLAIN = re.compile(r"[^\n]*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?=\n|\Z)")
_REFERENCE = re.compile(r"(?<!\\)\$(?:\{|[A-Za-z_])")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$", "'": "'", "\n": ""}
_PLACEHOLDER = re.compile(
    r"<[^<>]*>|\[[A-Za-z _-]+\]|\{\{.*\}\}|x{3,}|\*{3,}|\.{3,}|…"
    r"|(?:please[-_ ])?(?:change|replace|fill)[-_ ]?(?:me|this|in)"
    r"|to[-_ ]?do|fix[-_ ]?me|placeholder"
    r"|(?:(?:insert|put|add|enter)[-_ ])?your[-_ ].*"
    r"|(?:insert|put|add|enter|key|secret|token|password|value)[-_ ](?:.*[-_ ])?here",
    re.IGNORECASE,
)
_BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_INDENT = re.compile(r"[ \t]*")


def parsed(text: str) -> dict[str, str]:
    """The variables in the order of the text. Raises Invalid naming line and rule, never a value."""
    if len(text) > MAX_TEXT or "\x00" in text:
        raise Invalid.field("dotenv_content", f"at most {MAX_TEXT} characters, without NUL")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        if (blank := _BLANK.match(text, at)) and blank.end() > at:
            at = blank.end()
            continue
        name, value, at = _variable(text, at)
        if name in found:
            raise _broken(text, at, f"{name} stands there twice")
        found[name] = value
    return found


def is_placeholder(value: str) -> bool:
    """Whether this is what a template has in place of a value."""
    return _PLACEHOLDER.fullmatch(value.strip()) is not None


def _variable(text: str, at: int) -> tuple[str, str, int]:
    indent = _INDENT.match(text, at)
    begin = indent.end() if indent else at
    head = _HEAD.match(text, begin)
    if head is None:
        raise _broken(text, begin, "is not NAME=value")
    name = head[1]
    value, end = _value(text, head.end(), name)
    if is_placeholder(value):
        raise _broken(text, begin, f"{name} has a placeholder in place of a value")
    return name, value, end


def _value(text: str, at: int, name: str) -> tuple[str, int]:
    quote = text[at : at + 1]
    if quote not in ("'", '"'):
        line = _PLAIN.match(text, at)
        plain = re.split(r"(?:^|[ \t])#", line[0] if line else "", maxsplit=1)[0].strip()
        _refuse_reference(text, at, name, plain)
        return plain, line.end() if line else at
    match = (_SINGLE if quote == "'" else _DOUBLE).match(text, at)
    rest = _REST.match(text, match.end()) if match else None
    if match is None or rest is None:
        raise _broken(text, at, f"the quotes of {name} are not closed, or something follows them")
    if quote == "'":
        return match[1], rest.end()
    _refuse_reference(text, at, name, match[1])
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[0]), match[1]), rest.end()


def _refuse_reference(text: str, at: int, name: str, raw: str) -> None:
    if _REFERENCE.search(raw):
        raise _broken(text, at, f"{name} refers to another variable; write its value, or quote it with '...'")


def _broken(text: str, at: int, rule: str) -> Invalid:
    return Invalid.field("dotenv_content", f"line {text.count(chr(10), 0, at) + 1}: {rule}")
