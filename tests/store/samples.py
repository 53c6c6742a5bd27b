"""A record of every noun, and another version of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mcp_server.domain.audit import AuditRow
from mcp_server.domain.backups import Backup, Branch, TableSum
from mcp_server.domain.conflicts import KeptConflict
from mcp_server.domain.databases import Access, Database, DatabaseServer, Place, PortAllocation
from mcp_server.domain.deployments import Deployment, Release, Step
from mcp_server.domain.domains import DomainName
from mcp_server.domain.environments import EnvironmentVersion, ProjectEnvironment
from mcp_server.domain.idempotency import Remembered
from mcp_server.domain.keys import ApiKey
from mcp_server.domain.locks import Lock, LockScope, LostLock
from mcp_server.domain.members import Member
from mcp_server.domain.plans import Plan
from mcp_server.domain.projects import Project
from mcp_server.domain.receipts import Receipt
from mcp_server.domain.records import Record
from mcp_server.domain.slots import Slot, SlotPair, Switch
from mcp_server.domain.tasks import Note, Task
from mcp_server.domain.teams import DeploymentDefaults, Notifications, Team, TeamSettings
from mcp_server.domain.workloads import Owner
from mcp_server.ports.store import Intent, Transaction

T0 = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
SETUP = Intent("create_project", "test")


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def team(id: str = "acme", **fields: Any) -> Team:
    values: dict[str, Any] = {
        "name": "Acme",
        "slug": id,
        "owner": "o@acme.example",
        "created_at": T0,
        "updated_at": T0,
    }
    return Team(id=id, **{**values, **fields})


def member(id: str = "m1", **fields: Any) -> Member:
    values: dict[str, Any] = {
        "team_id": "acme",
        "email": f"{id}@acme.example",
        "role": "member",
        "joined_at": T0,
    }
    return Member(id=id, **{**values, **fields})


def key(id: str = "k1", **fields: Any) -> ApiKey:
    values: dict[str, Any] = {
        "key_hash": f"{abs(hash(id)) % 10**12:064x}",
        "key_prefix": "qm_acme_member_abcde",
        "name": id,
        "team_id": "acme",
        "role": "member",
        "created_at": T0,
    }
    return ApiKey(id=id, **{**values, **fields})


def project(name: str = "app", **fields: Any) -> Project:
    values: dict[str, Any] = {
        "uid": f"uid-{name}"[:32],
        "team_id": "acme",
        "created_at": T0,
        "updated_at": T0,
    }
    return Project(name=name, **{**values, **fields})


PLACE = Place(
    container="quaymaster-db-app",
    volume="quaymaster-data-app",
    network="quaymaster-net-app",
    owner=Owner(installation="i", home="h", project="uid-app"),
    image="postgres:16",
    port=5433,
)
ACCESS = Access(database="app", role="app", password="v1.k.x", reader="app_reader", reader_password="v1.k.y")


def database(environment: Any = None, **fields: Any) -> Database:
    values: dict[str, Any] = {
        "project": "app",
        "uid": f"db-{environment}",
        "project_uid": "uid-app",
        "team_id": "acme",
    }
    values |= {"home": "h", "host": "m", "host_name": "box", "engine": "postgres", "requested": "auto"}
    values |= {"isolation": "container", "place": PLACE, "created_at": T0, "updated_at": T0}
    return Database(environment=environment, **{**values, **fields})


def database_server(id: str = "s1", **fields: Any) -> DatabaseServer:
    values: dict[str, Any] = {"kind": "standby", "home": "h", "host": "m", "place": PLACE, "created_at": T0}
    return DatabaseServer(id=id, **{**values, **fields})


def port(number: int = 5433, **fields: Any) -> PortAllocation:
    values: dict[str, Any] = {"host": "m", "holder": "db-1", "purpose": "database", "created_at": T0}
    return PortAllocation(port=number, **{**values, **fields})


def branch(name: str = "try", **fields: Any) -> Branch:
    values: dict[str, Any] = {
        "project": "app",
        "uid": f"br-{name}",
        "database_uid": "db-1",
        "project_uid": "uid-app",
    }
    values |= {"team_id": "acme", "home": "h", "host": "m", "host_name": "box", "engine": "postgres"}
    return Branch(name=name, **{**values, "created_at": T0, "expires_at": at(3600), **fields})


def backup(id: str = "b1", **fields: Any) -> Backup:
    values: dict[str, Any] = {
        "team_id": "acme",
        "project": "app",
        "project_uid": "uid-app",
        "database_uid": "db-1",
    }
    values |= {"home": "h", "host": "m", "host_name": "box", "engine": "postgres", "file": f"{id}.qmbackup"}
    return Backup(id=id, **{**values, "created_at": T0, **fields})


def slots(environment: Any = "staging", **fields: Any) -> SlotPair:
    return SlotPair(**{"project": "app", "environment": environment, "updated_at": T0, **fields})


def deployment(id: str = "d1", **fields: Any) -> Deployment:
    values: dict[str, Any] = {"project": "app", "environment": "staging", "slot": "blue", "created_at": T0}
    return Deployment(id=id, **{**values, **fields})


def domain(name: str = "app.example.com", **fields: Any) -> DomainName:
    return DomainName(**{"domain": name, "project": "app", "created_at": T0, "updated_at": T0, **fields})


def environment(name: Any = "staging", **fields: Any) -> ProjectEnvironment:
    values: dict[str, Any] = {"project": "app", "environment": name, "env_data": {"A": "1", "B": "zwei\nÜ"}}
    return ProjectEnvironment(**{**values, "created_at": T0, "updated_at": T0, **fields})


def environment_version(version: int = 1, **fields: Any) -> EnvironmentVersion:
    values: dict[str, Any] = {
        "project": "app",
        "environment": "staging",
        "env_data": {"A": "1"},
        "created_at": T0,
    }
    return EnvironmentVersion(version=version, **{**values, **fields})


def task(id: str = "t1", **fields: Any) -> Task:
    values: dict[str, Any] = {"team_id": "acme", "project": "app", "title": f"Task {id}", "author": "ann"}
    return Task(id=id, **{**values, "created_at": T0, "updated_at": T0, **fields})


def scope(name: str = "app", **fields: Any) -> LockScope:
    return LockScope(project=name, **fields)


def lock(id: str = "l1", **fields: Any) -> Lock:
    values: dict[str, Any] = {
        "team_id": "acme",
        "project": "app",
        "path": f"src/{id}.py",
        "mode": "editing",
        "holder": "k1",
        "fence": 1_000_001,
        "locked_at": T0,
        "expires_at": at(900),
        "lease_seconds": 900,
    }
    return Lock(id=id, **{**values, **fields})


def plan(id: str = "p1", **fields: Any) -> Plan:
    values: dict[str, Any] = {
        "team_id": "acme",
        "caller": "k1",
        "action": "delete_project",
        "target": {"project": "app"},
    }
    values |= {"state": {"projects/app": 1}, "effects": ("one",), "created_at": T0, "expires_at": at(900)}
    return Plan(id=id, **{**values, **fields})


def remembered(id: str = "r1", **fields: Any) -> Remembered:
    values: dict[str, Any] = {"team_id": "acme", "caller": "k1", "tool": "create_task", "arguments": "0" * 32}
    return Remembered(id=id, **{**values, "created_at": T0, "expires_at": at(900), **fields})


def conflict(id: str = "c1", **fields: Any) -> KeptConflict:
    values: dict[str, Any] = {
        "team_id": "acme",
        "line_id": "x",
        "target_noun": "projects",
        "target_key": "app",
    }
    return KeptConflict(id=id, **{**values, "reason": "both changed", "at": T0, **fields})


def audit(id: str = "a1", **fields: Any) -> AuditRow:
    values: dict[str, Any] = {
        "timestamp": T0,
        "team_id": "acme",
        "action": "create_task",
        "params": {"title": "x"},
    }
    return AuditRow(id=id, **{**values, **fields})


@dataclass(frozen=True)
class Sample:
    """`make()` a record whose parents are the team `acme` and the project `app`; `other(record)` is its next version."""

    make: Callable[[], Record]
    other: Callable[[Any], Record]


SAMPLES: dict[str, Sample] = {
    "teams": Sample(
        lambda: team("other"),
        lambda r: r.change(
            name="Other Ü",
            plan="pro",
            settings=TeamSettings(
                notifications=Notifications(slack="https://hooks.slack.example/x"),
                deploymentDefaults=DeploymentDefaults(autoPromote=True, graceHours=4),
            ),
            updated_at=at(1),
        ),
    ),
    "members": Sample(member, lambda r: r.change(role="admin", name="Ann", last_active_at=at(3))),
    "keys": Sample(key, lambda r: r.change(revoked_at=at(5), scopes=("tasks", "locks"), rate_limit=10)),
    "projects": Sample(
        lambda: project("web"),
        lambda r: r.change(
            type="go", description='d\'oh "q" $1', path="/srv/web", database_port=5433, updated_at=at(9)
        ),
    ),
    "databases": Sample(
        database,
        lambda r: r.change(
            stage="ready",
            worker="w",
            engine="sqlite",
            isolation="file",
            place=None,
            access=ACCESS,
            next_access=ACCESS.change(password="v1.k.z"),
            path="/srv/app/data/dev.db",
            extensions=("vector",),
            fallback="no engine",
            final_backup=False,
            rotated_at=at(4),
        ),
    ),
    "database_servers": Sample(
        database_server, lambda r: r.change(stage="ready", worker="w", access=ACCESS, extensions=("vector",))
    ),
    "ports": Sample(port, lambda r: r.change(holder="db-2", purpose="standby")),
    "branches": Sample(
        branch,
        lambda r: r.change(stage="ready", worker="w", place=PLACE, access=ACCESS, bytes=2**40, root="/srv"),
    ),
    "backups": Sample(
        backup,
        lambda r: r.change(
            stage="kept",
            bytes=2**40,
            sha256="0" * 64,
            extensions=("vector",),
            tables=(TableSum(name='public."Ü x"', rows=3, hash="ab"),),
            finished_at=at(2),
            verified_at=at(3),
        ),
    ),
    "slots": Sample(
        slots,
        lambda r: r.change(
            active_slot="green",
            green=Slot(
                state="active",
                port=4501,
                version="2",
                image="i",
                deployed_at=at(1),
                deployed_by="ann",
                deployment="d1",
            ),
            blue=Slot(state="grace", port=4500, version="1"),
            grace_expires_at=at(60),
            home="h",
            host="m",
            host_name="box",
            previous="d0",
            switch=Switch(
                id="s1", kind="promote", slot="green", from_slot="blue", deployment="d1", by="ann", at=at(3)
            ),
        ),
    ),
    "deployments": Sample(
        deployment,
        lambda r: r.change(
            status="failed",
            steps=(Step(name="pull", status="failed", duration=12, detail="no"),),
            duration=12,
            completed_at=at(2),
            home="h",
            host="m",
            worker="w",
            release=Release(project_uid="uid-app", image_id="sha256:0", environment_version=3),
            task_id="t1",
            changed_paths=("src/a.py",),
            cancelled_by="bo",
            error="no",
            receipt=Receipt(sent=3, after={"green": 3}),
        ),
    ),
    "domains": Sample(
        domain, lambda r: r.change(status="active", dns_verified_at=at(4), dns_configured=True)
    ),
    "environments": Sample(environment, lambda r: r.change(version=2, env_data={"A": "2"}, encrypted=True)),
    "environment_versions": Sample(environment_version, lambda r: r.change(created_by="ann")),
    "tasks": Sample(
        task,
        lambda r: r.change(
            status="in-progress",
            affected_files=("a.py", "src/"),
            progress_notes=(Note(date=at(1), note="began\nwell", author="ann"),),
            pr_number=7,
            updated_at=at(1),
        ),
    ),
    "lock_scopes": Sample(
        scope,
        lambda r: r.change(
            fence=1_000_002, lost=(LostLock(lock_id="l", holder="h", path="p", reason="r", at=at(1)),)
        ),
    ),
    "locks": Sample(lock, lambda r: r.change(expires_at=at(1800), lease_seconds=1800)),
    "plans": Sample(plan, lambda r: r.change(used_at=at(8))),
    "idempotency": Sample(remembered, lambda r: r.change(result={"id": "x", "notices": []})),
    "conflicts": Sample(conflict, lambda r: r.change(decided="ours", decided_by="ann", waiting=("y",))),
}


async def parents(tx: Transaction) -> None:
    """The team `acme` and the project `app`, which every sample needs."""
    await tx.teams.add(team())
    await tx.projects.add(project())
