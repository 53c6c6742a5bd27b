"""What pg_dump writes of a schema, and what of it is meant for people. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

NOISE = re.compile(
    r"^(--.*|CREATE SCHEMA public;|\\(un)?restrict .*|SET \w+ = .*;"
    r"|SELECT pg_catalog\.set_config\('search_path'.*;|)$"
)


def schema_options(schemas: Sequence[str] = (), *, without: Sequence[str] = ()) -> list[str]:
    """For pg_dump: of the named schemas, or of all; not the tables `without`, as a catalog names them."""
    return [
        "--no-owner",
        "--no-privileges",
        "--exclude-schema=quaymaster",
        "--exclude-schema=pg_*",
        *(f"--schema={_pattern(name)}" for name in schemas),
        *(f"--exclude-table={name}" for name in without),
    ]


def plain(text: str) -> str:
    """Without comments and settings, which make the same schema look different from day to day."""
    lines = [line for line in text.splitlines() if not NOISE.match(line)]
    body = re.sub(r";\n(?=[A-Z])", ";\n\n", "\n".join(lines).strip())
    return f"{body}\n" if body else ""


def _pattern(name: str) -> str:
    """Exactly this name, in pg_dump's language of patterns."""
    return '"' + name.replace('"', '""') + '"'
