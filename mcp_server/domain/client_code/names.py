"""Python's names for what a database calls as it likes."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable

TAKEN = frozenset(
    {
        *("connection", "after", "limit", "self", "row", "dt", "dataclass", "Literal", "Any", "TypeAlias"),
        *("str", "int", "float", "bool", "bytes", "list", "dict", "tuple", "object", "None", "True", "False"),
        *("Decimal", "UUID", "Json", "Unset", "UNSET", "Connection", "Row", "Table"),
    }
)
"""What the generated code uses itself."""


def identifier(name: str) -> str:
    """A name that Python takes: `order-items` -> `order_items`, `2fa` -> `n_2fa`, `class` -> `class_`."""
    word = re.sub(r"\W", "_", unicodedata.normalize("NFKC", name))
    if not word.isidentifier():
        word = f"n_{word}"
    return f"{word}_" if keyword.iskeyword(word) or word in TAKEN else word


def camel(name: str) -> str:
    words = re.split(r"[\W_]+", unicodedata.normalize("NFKC", name))
    joined = "".join(word[:1].upper() + word[1:] for word in words if word)
    return joined if joined.isidentifier() else f"N{joined}"


def distinct(names: Iterable[str]) -> list[str]:
    """The same names in their order; a repeated one (case does not count) gets `_2`, `_3`, ..."""
    seen: set[str] = set()
    found = []
    for name in names:
        free, number = name, 2
        while free.lower() in seen:
            free, number = f"{name}_{number}", number + 1
        seen.add(free.lower())
        found.append(free)
    return found


def literal(text: str) -> str:
    """A string literal as a formatter leaves it."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    escaped = text.replace("\\", "\\\\").replace(quote, f"\\{quote}")
    return quote + "".join(each if each.isprintable() else _escape(each) for each in escaped) + quote


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
