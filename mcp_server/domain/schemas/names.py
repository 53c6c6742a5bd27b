"""Names and literals of SQL as they stand in a script."""

from __future__ import annotations

import re


def split_last(qualified: str) -> tuple[str, str, str]:
    match = re.fullmatch(r"(.*)\.(\"(?:[^\"]|\"\")*\"|[^.\"]+)", qualified, re.DOTALL)
    return (match[1], ".", match[2]) if match else (qualified, "", "")


def unqualified(name: str) -> str:
    return split_last(name)[2]


def literal(text: str) -> str:
    inner = text.replace("'", "''")
    return f"E'{inner.replace(chr(92), chr(92) * 2)}'" if "\\" in text else f"'{inner}'"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
