"""What PostgreSQL says of an object, in a form that a dump and its restore do not change."""

from __future__ import annotations

from collections.abc import Iterator

BEGIN = "(ARRAY["
END = ")::text[]"


def settled(text: str) -> str:
    """`IN` over a column of VARCHAR is kept as a cast of the list, and comes back from a dump as a list of casts."""
    found, start = [], 0
    while (at := text.find(BEGIN, start)) >= 0:
        inner = at + len(BEGIN)
        parts = list(_elements(text, inner))
        end = parts[-1][1] + 1
        found.append(text[start:at])
        if text.startswith(END, end):
            found.append(f"ARRAY[{', '.join(f'({text[a:b].strip()})::text' for a, b in parts)}]")
            start = end + len(END)
        else:
            found.append(BEGIN)
            start = inner
    return "".join([*found, text[start:]])


def _elements(text: str, start: int) -> Iterator[tuple[int, int]]:
    """From and to of each element of a list; the last one ends at its `]`, or at the end of the text."""
    depth, quote, at = 0, "", start
    while at < len(text):
        letter = text[at]
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([":
            depth += 1
        elif letter in ")]" and depth:
            depth -= 1
        elif letter == "]" or (letter == "," and not depth):
            yield start, at
            start = at + 1
            if letter == "]":
                return
        at += 1
    yield start, len(text)
