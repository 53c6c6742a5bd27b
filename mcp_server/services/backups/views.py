"""Backups as callers see them."""

from __future__ import annotations

from mcp_server.domain.backups import Backup, Reason
from mcp_server.domain.databases import Engine
from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import Result
from mcp_server.domain.teams import EnvironmentName


class BackupView(Result):
    """`verified_at`: restored into a scratch database, and every table had the same rows and hashes."""

    id: str
    project: str | None = None
    environment: EnvironmentName | None = None
    engine: Engine | None
    reason: Reason
    state: str
    bytes: int = 0
    tables: int = 0
    rows: int = 0
    created_at: Moment
    verified_at: Moment | None = None
    error: str | None = None
    next: str | None = None


class BackupItem(Value):
    id: str
    project: str | None = None
    environment: EnvironmentName | None = None
    engine: Engine | None
    reason: Reason
    state: str
    bytes: int
    created_at: Moment
    verified_at: Moment | None = None
    error: str | None = None


class BackupList(Result):
    items: tuple[BackupItem, ...]
    cursor: str | None = None


def item_of(backup: Backup) -> BackupItem:
    return BackupItem(
        id=backup.id,
        project=backup.project,
        environment=backup.environment,
        engine=backup.engine,
        reason=backup.reason,
        state="verified" if backup.stage == "kept" else backup.stage,
        bytes=backup.bytes,
        created_at=backup.created_at,
        verified_at=backup.verified_at,
        error=backup.error,
    )


def view_of(backup: Backup) -> BackupView:
    return BackupView(
        **item_of(backup).model_dump(),
        tables=len(backup.tables),
        rows=sum(table.rows for table in backup.tables),
        next="list_backups tells when it is verified." if backup.stage == "writing" else None,
    )
