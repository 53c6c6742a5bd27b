"""Records for tests, each valid with few words."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from mcp_server.adapters.registry.keyring import RegistryKeyRing
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.domain.audit import AuditRow
from mcp_server.domain.changes import Change, Line
from mcp_server.domain.keys import ApiKey, digest
from mcp_server.domain.locks import Lock
from mcp_server.domain.plans import Plan
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Record
from mcp_server.domain.tasks import Task
from mcp_server.domain.teams import Team
from mcp_server.ports.mirror import Position
from mcp_server.ports.store import Intent

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
INTENT = Intent("tasks.write", "tester")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


def team(id_: str = "t1", **fields: Any) -> Team:
    return Team(
        **{
            "id": id_,
            "name": id_,
            "slug": id_,
            "owner": "o",
            "created_at": NOON,
            "updated_at": NOON,
            **fields,
        }
    )


def project(name: str = "shop", team_id: str = "t1") -> Project:
    return Project(name=name, uid=f"uid-{name}", team_id=team_id, created_at=NOON, updated_at=NOON)


def task(id_: str = "k1", project: str = "shop", at: datetime = NOON, **fields: Any) -> Task:
    given = {"title": "Do it", "author": "ann", "team_id": "t1", **fields}
    return Task(id=id_, project=project, created_at=at, updated_at=at, **given)


def key(id_: str = "key1", text: str = "secret-1", team_id: str = "t1", **fields: Any) -> ApiKey:
    given = {"role": "member", "name": id_, "key_prefix": "qm_t1_member", **fields}
    return ApiKey(id=id_, key_hash=digest(text), team_id=team_id, created_at=NOON, **given)


def lock(id_: str, path: str, holder: str = "h1", mode: str = "editing", **fields: Any) -> Lock:
    given = {"team_id": "t1", "project": "shop", "fence": 1, "lease_seconds": 900, **fields}
    expires = NOON + timedelta(seconds=900)
    return Lock(id=id_, path=path, holder=holder, mode=mode, locked_at=NOON, expires_at=expires, **given)


def plan(id_: str = "p1", expires_at: datetime = NOON) -> Plan:
    return Plan(
        id=id_,
        team_id="t1",
        caller="c",
        action="a",
        target={},
        state={},
        effects=(),
        created_at=NOON,
        expires_at=expires_at,
    )


def row(id_: str, at: datetime = NOON, **fields: Any) -> AuditRow:
    return AuditRow(**{"id": id_, "timestamp": at, "team_id": "t1", "action": "task.create", **fields})


def line(*records: Record, id_: str | None = None, gone: tuple[tuple[str, str, int], ...] = ()) -> Line:
    """A line of the primary's log that sets these records at their revisions."""
    changes = [Change(record.noun, record.key, record.rev - 1, record.rev, record) for record in records]
    changes += [Change(noun, key, rev - 1, rev, None) for noun, key, rev in gone]
    return Line(id_ or uuid.uuid4().hex, NOON, "pg", "x", tuple(changes))


def position(seq: int, horizon: int = 100) -> Position:
    return Position("installation-1", "cluster-1", horizon, seq, f"line-{seq}")


async def add(
    mirror: RegistryMirror, *records: Record, pending: bool = False, audit: tuple[AuditRow, ...] = ()
) -> str:
    """One transaction that adds records; returns its line's id."""
    line_id = uuid.uuid4().hex

    async def fn(tx: Any) -> None:
        for record in records:
            await tx.repository(record.noun).add(record)
        for each in audit:
            await tx.audit.add(each)

    await mirror.run(fn, INTENT, line_id=line_id, pending=pending)
    return line_id


async def found(mirror: RegistryMirror, noun: str, key: str) -> Any:
    """The committed record as another reader sees it."""
    return await mirror.read(lambda r: getattr(r, noun).get(key))


async def rename(mirror: RegistryMirror, title: str, *, id_: str = "k1", pending: bool = False) -> str:
    line_id = uuid.uuid4().hex

    async def fn(tx: Any) -> None:
        await tx.tasks.save((await tx.tasks.hold(id_)).change(title=title))

    await mirror.run(fn, INTENT, line_id=line_id, pending=pending)
    return line_id


async def found_key(ring: RegistryKeyRing, text: str) -> ApiKey:
    """The record of a key that must be known."""
    record = await ring.find(digest(text))
    assert record is not None
    return record


async def until(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """Bounded polling that lets the other tasks of the loop run."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.lowlevel.checkpoint()


def segment_of(root: Path) -> Path:
    (path,) = root.glob("journal-*.ndjson")
    return path
