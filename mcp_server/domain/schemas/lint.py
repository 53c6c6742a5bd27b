"""Statements that stop others or lose data on a database in use, found by reading them.

Only PostgreSQL's locks are known here; of SQLite only losses are told. A line `-- lint: allow` before or in a statement
silences it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from mcp_server.domain.schemas.statements import Engine, Statement, split


class Finding(NamedTuple):
    line: int
    rule: str
    message: str


class Rule(NamedTuple):
    name: str
    pattern: re.Pattern[str]
    message: str
    engines: tuple[Engine, ...] = ("postgres",)


def _rule(name: str, pattern: str, message: str, *engines: Engine) -> Rule:
    return Rule(name, re.compile(pattern, re.IGNORECASE | re.DOTALL), message, engines or ("postgres",))


RULES = (
    _rule("drop-table", r"^drop\s+table\b", "the table's rows are lost", "postgres", "sqlite"),
    _rule("drop-column", r"\bdrop\s+column\b", "the column's values are lost, and running code that reads it fails",
          "postgres", "sqlite"),
    _rule("truncate", r"^truncate\b", "every row is lost"),
    _rule("delete-all", r"^delete\s+from\s+(?!.*\bwhere\b)", "every row is lost", "postgres", "sqlite"),
    _rule("update-all", r"^update\s+(?!.*\bwhere\b)", "every row is rewritten and locked until the end"),
    _rule("rewrite", r"^alter\s+table\b.*\balter\s+(column\s+)?(\"[^\"]+\"|\w+)\s+(set\s+data\s+)?type\b",
          "the table may be rewritten while nobody can read it; rehearse to see"),
    _rule("rewrite", r"^alter\s+table\b.*\badd\s+(column\s+)?.*\bdefault\s+\w*(random|clock_timestamp|uuid|nextval)\w*\s*\(",
          "a default that changes from row to row rewrites the table while nobody can read it"),
    _rule("rewrite", r"^alter\s+table\b.*\bset\s+(logged|unlogged|tablespace)\b", "the table is rewritten"),
    _rule("rewrite", r"^(vacuum\s*\(?\s*full|cluster)\b", "the table is rewritten while nobody can read it"),
    _rule("not-null-without-default",
          r"^alter\s+table\b.*\badd\s+(?:column\s+)(?=[^,]*\bnot\s+null\b)(?![^,]*\b(default|generated)\b)",
          "fails on a table that has rows: give a default, or add it nullable, fill it, then set NOT NULL",
          "postgres", "sqlite"),
    _rule("set-not-null", r"^alter\s+table\b.*\bset\s+not\s+null\b",
          "reads the whole table while nobody can use it; a validated CHECK (... IS NOT NULL) before avoids that"),
    _rule("missing-concurrently", r"^create\s+(unique\s+)?index\s+(?!concurrently)",
          "blocks writes while it is built: CREATE INDEX CONCURRENTLY in a file marked '-- no-transaction'"),
    _rule("missing-concurrently", r"^drop\s+index\s+(?!concurrently)", "waits for every reader: DROP INDEX CONCURRENTLY"),
    _rule("missing-concurrently", r"^(reindex\b(?!.*\bconcurrently\b)|refresh\s+materialized\s+view\s+(?!concurrently))",
          "blocks readers while it runs: CONCURRENTLY"),
    _rule("constraint-not-valid",
          r"^alter\s+table\b.*\badd\s+(constraint\s+(\"[^\"]+\"|\w+)\s+)?(foreign\s+key|check)\b(?!.*\bnot\s+valid\b)",
          "checks every row under a lock: add it NOT VALID, then VALIDATE CONSTRAINT in a later migration"),
    _rule("rename", r"^alter\s+table\b.*\brename\b", "running code that uses the old name fails", "postgres", "sqlite"),
    _rule("cascade", r"\bcascade\s*$", "drops whatever depends on it, too", "postgres"),
)  # fmt: skip
EMPTYING = frozenset({"truncate", "delete-all"})
"""Those whose statements lose rows of a table that stays."""
LOSSES = EMPTYING | {"drop-table", "drop-column"}
"""The rules whose statements lose rows or values."""
ALLOW = re.compile(r"--\s*lint:\s*allow\b", re.IGNORECASE)


def lint(text: str, engine: Engine, *, where: str = "the SQL text") -> tuple[Finding, ...]:
    """Findings in the order of their lines. What concerns only tables that the same text creates is left out."""
    made: set[str] = set()
    found: list[Finding] = []
    drops: dict[int, str] = {}
    lines = text.splitlines()
    for statement in split(text, engine, where=where):
        if (old := _renamed_to(statement)) is not None:
            dropped = f"drop table {old}"
            found = [
                each
                for each in found
                if not (each.rule == "drop-table" and dropped in drops.get(each.line, ""))
            ]
        drops[statement.line] = " ".join(statement.text.lower().replace('"', "").split())
        above = lines[statement.line - 2] if statement.line > 1 else ""
        if not ALLOW.search(above) and not ALLOW.search(statement.text):
            found += _findings(statement, engine, made)
        if (name := _created(statement)) is not None:
            made.add(name)
    return tuple(found)


def _findings(statement: Statement, engine: Engine, made: set[str]) -> Iterator[Finding]:
    plain = re.sub(r"--[^\n]*|/\*.*?\*/", " ", statement.text, flags=re.DOTALL).strip()
    if (name := _altered(plain)) is not None and name in made:
        return
    seen = set()
    for rule in RULES:
        if engine in rule.engines and rule.name not in seen and rule.pattern.search(plain):
            seen.add(rule.name)
            yield Finding(statement.line, rule.name, rule.message)


def _created(statement: Statement) -> str | None:
    match = re.match(
        r"create\s+(?:\w+\s+)?table\s+(?:if\s+not\s+exists\s+)?([\w.\"]+)", statement.text, re.IGNORECASE
    )
    return match[1].replace('"', "").lower() if match else None


def _renamed_to(statement: Statement) -> str | None:
    """The name that a copy of a table takes, as in SQLite's way of changing one: then nothing was lost."""
    match = re.match(r"alter\s+table\s+\S+\s+rename\s+to\s+(\S+)$", statement.text, re.IGNORECASE)
    return match[1].replace('"', "").lower() if match else None


def _altered(text: str) -> str | None:
    match = re.match(
        r"(?:alter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?|insert\s+into\s+|update\s+)([\w.\"]+)",
        text,
        re.IGNORECASE,
    ) or re.match(
        r"create\s+(?:unique\s+)?index\b.*?\bon\s+(?:only\s+)?([\w.\"]+)", text, re.IGNORECASE | re.DOTALL
    )
    return match[1].replace('"', "").lower() if match else None
