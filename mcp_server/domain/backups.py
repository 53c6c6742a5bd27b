"""Backups: what was kept of a database, how it was proved, and when it may go; and branches, copies for a task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from mcp_server.domain.databases import ALL, Access, Engine, Place
from mcp_server.domain.errors import Invalid
from mcp_server.domain.records import Moment, Record, Value
from mcp_server.domain.redaction import redacted_text
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.wording import counted

Subject = Literal["database", "outside", "control_plane", "registry"]
"""`outside`: a database of a code base that Quaymaster did not make."""

Reason = Literal["asked", "schedule", "deletion", "restore", "promotion", "schema"]

SUFFIX = ".qmbackup"
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z0-9]|[a-z]")


class Stored(NamedTuple):
    """Of a file as it lies on the disk: its length, and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


class TableSum(Value):
    """A table's rows, and a hash of them that does not depend on their order."""

    name: str
    rows: int
    hash: str


class Backup(Record):
    """A sealed file in the home's directory of backups. `verified_at`: when it was restored into a scratch
    database and every table had the rows and hashes that `tables` names. Nothing that is not verified is `kept`.

    It outlives its database and its project. `engine` None: of a registry. `worker` is at work on it; when that
    process is dead, it failed.
    """

    noun: ClassVar[str] = "backups"
    id: str = Field(min_length=1, max_length=64)
    team_id: str = ""
    subject: Subject = "database"
    project: str | None = None
    project_uid: str | None = None
    environment: EnvironmentName | None = None
    database_uid: str | None = None
    home: str
    host: str
    host_name: str
    engine: Engine | None
    reason: Reason = "asked"
    stage: Literal["writing", "kept", "failed"] = "writing"
    worker: str | None = None
    file: str
    bytes: int = 0
    sha256: str = ""
    server_version: str = ""
    extensions: tuple[str, ...] = ()
    tables: tuple[TableSum, ...] = ()
    created_at: Moment
    finished_at: Moment | None = None
    verified_at: Moment | None = None
    error: str | None = Field(default=None, max_length=500)

    @property
    def key(self) -> str:
        return self.id

    def proved(self, written: Backup, stored: Stored, now: Moment) -> Backup:
        """Kept: what was `written` came out of the stored file as it had gone in. May be proved again."""
        return self.change(
            stage="kept",
            worker=None,
            bytes=stored.bytes,
            sha256=stored.sha256,
            tables=written.tables,
            extensions=written.extensions,
            server_version=written.server_version,
            finished_at=self.finished_at or now,
            verified_at=now,
            error=None,
        )

    def failed(self, why: str, now: Moment) -> Backup:
        """Given up; its file is gone."""
        return self.change(stage="failed", worker=None, finished_at=now, error=redacted_text(why)[:500])

    def context(self) -> tuple[str, ...]:
        """Under which its file is sealed: a file does not open as another backup's."""
        return (
            "backup",
            self.id,
            self.subject,
            self.team_id,
            self.project_uid or "",
            self.database_uid or "",
        )


class Branch(Record):
    """A copy of a database, with roles of its own, that goes by itself at `expires_at`. `place` is the server on
    which it stands beside its source; `path` its file."""

    noun: ClassVar[str] = "branches"
    project: str
    environment: EnvironmentName | None = None
    name: str
    uid: str = Field(min_length=1, max_length=32)
    database_uid: str
    project_uid: str
    team_id: str
    home: str
    host: str
    host_name: str
    engine: Engine
    stage: Literal["creating", "ready", "removing"] = "creating"
    worker: str | None = None
    place: Place | None = None
    access: Access | None = None
    path: str | None = None
    root: str | None = None
    bytes: int = 0
    created_at: Moment
    expires_at: Moment

    @property
    def key(self) -> str:
        return branch_key(self.project, self.environment, self.name)


def branch_key(project: str, environment: EnvironmentName | None, name: str) -> str:
    return f"{project}/{environment or ALL}/{name}"


def branch_name(text: str) -> str:
    """Raises Invalid."""
    if not NAME.fullmatch(text):
        raise Invalid.field("name", "1-32 characters of a-z, 0-9 and '-', a letter first, no '-' at the end")
    return text


def differences(expected: Sequence[TableSum], found: Sequence[TableSum]) -> tuple[str, ...]:
    """How the tables of a copy differ, one line each; empty when they are the same."""
    there = {table.name: table for table in found}
    lines: list[str] = []
    for table in expected:
        other = there.pop(table.name, None)
        if other is None:
            lines.append(f"{table.name} is missing")
        elif other.rows != table.rows:
            lines.append(f"{table.name} has {counted(other.rows, 'row')} instead of {table.rows}")
        elif other.hash != table.hash:
            lines.append(f"{table.name} has other contents")
    return (*lines, *(f"{name} is too much" for name in sorted(there)))


class Retention(Value):
    """The newest `most` verified backups of a database stay, and those younger than `days`; the others go."""

    most: int = Field(default=7, ge=1)
    days: int = Field(default=30, ge=1)


RETRY_SECONDS = 3600
"""As long after a failure the schedule lets be what would fail again."""


def due(backups: Sequence[Backup], hours: float, now: Moment) -> bool:
    """Whether the schedule asks for another one. `backups` are all of one thing."""

    def younger(stage: str, seconds: float) -> bool:
        return any(one.stage == stage and (now - one.created_at).total_seconds() < seconds for one in backups)

    retry = min(RETRY_SECONDS, hours * 3600)
    return not younger("kept", hours * 3600) and not younger("failed", retry)


def expired(backups: Sequence[Backup], retention: Retention, now: Moment) -> tuple[Backup, ...]:
    """Which of one home's backups may go. Of each database the newest verified one stays for ever; failed ones
    go after a day. What somebody restores stays until that is over."""
    gone: list[Backup] = []
    by_database: dict[tuple[str, str | None, str | None], list[Backup]] = {}
    for backup in backups:
        if backup.stage == "failed" and (now - backup.created_at).days >= 1:
            gone.append(backup)
        elif backup.stage == "kept":
            identity = (backup.subject, backup.database_uid, backup.project_uid)
            by_database.setdefault(identity, []).append(backup)
    for kept in by_database.values():
        kept.sort(key=lambda backup: (backup.created_at, backup.id), reverse=True)
        for backup in kept[retention.most :]:
            if backup.worker is None and (now - backup.created_at).days >= retention.days:
                gone.append(backup)
    return tuple(sorted(gone, key=lambda backup: (backup.created_at, backup.id)))
