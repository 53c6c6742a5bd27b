"""Records and transactions that the tests of this room share."""

from datetime import UTC, datetime, timedelta
from typing import Any

from mcp_server.adapters.postgres.primary import PostgresPrimary
from mcp_server.domain.changes import Line
from mcp_server.domain.locks import Lock, LockScope
from mcp_server.domain.projects import Project
from mcp_server.domain.teams import Team
from mcp_server.ports.store import Intent

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
INTENT = Intent("create_project", "k1")


def team(id: str = "local", **fields: Any) -> Team:
    fields = {"name": "L", "slug": id, "owner": "o", "created_at": NOW, "updated_at": NOW} | fields
    return Team(id=id, **fields)


def project(name: str = "app", **fields: Any) -> Project:
    fields = {"uid": f"p-{name}", "team_id": "local", "created_at": NOW, "updated_at": NOW} | fields
    return Project(name=name, **fields)


def lock(id: str = "lock-1", **fields: Any) -> Lock:
    fields = {
        "team_id": "local",
        "project": "app",
        "path": "a.py",
        "mode": "editing",
        "holder": "k1/agent:ann",
        "fence": 1,
        "locked_at": NOW,
        "expires_at": NOW + timedelta(minutes=15),
        "lease_seconds": 900,
    } | fields
    return Lock(id=id, **fields)


async def add(primary: PostgresPrimary, *records: Any, line_id: str) -> tuple[Line, int]:
    """The records in one transaction, in order."""

    async def fn(tx: Any) -> None:
        for record in records:
            await tx.repository(record.noun).add(record)

    logged = await primary.run(fn, INTENT, line_id=line_id, epoch=1)
    return logged.line, logged.seq


async def begin_with_project(primary: PostgresPrimary, name: str = "app") -> None:
    await add(primary, team(), project(name), LockScope(project=name), line_id="begin")
