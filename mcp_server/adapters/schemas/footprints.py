"""What a transaction of PostgreSQL has done so far, asked on its own connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcp_server.ports.schemas import Footprint

FILES = (
    "SELECT oid::regclass::text AS name, relfilenode::bigint AS file FROM pg_class"
    " WHERE relkind IN ('r', 'm') AND relnamespace::regnamespace::text NOT LIKE 'pg\\_%'"
    " AND relnamespace::regnamespace::text NOT IN ('information_schema', 'quaymaster')"
    " ORDER BY name"
)
LOCKS = (
    "SELECT DISTINCT relation::regclass::text || ': ' || mode AS held FROM pg_locks"
    " WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation >= 16384"
    " AND mode NOT IN ('AccessShareLock', 'RowShareLock') ORDER BY held"
)
TOUCHED = (
    "SELECT relid::regclass::text AS name, n_tup_ins + n_tup_upd + n_tup_del AS rows"
    " FROM pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0"
    " AND schemaname <> 'quaymaster' ORDER BY 1"
)
QUESTIONS = {"files": FILES, "locks": LOCKS, "touched": TOUCHED}
Answers = Mapping[str, Sequence[Sequence[Any]]]


def footprint_of(before: Answers, after: Answers) -> Footprint:
    """From the answers to the questions, asked before and after the work."""
    files: dict[str, int] = {name: file for name, file in after["files"]}  # noqa: C416 - rows are no tuples
    return Footprint(
        locks=tuple(held for (held,) in after["locks"]),
        rewritten=tuple(name for name, file in before["files"] if files.get(name, file) != file),
        touched={name: rows for name, rows in after["touched"]},  # noqa: C416
    )
