"""Databases of projects: the record, what may be asked for, and how one is reached.

A project has one database for all environments, one for each, or both: the environment's own then wins.
What is stored is what was wanted and what was made; whether it runs is observed, never stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal, get_args
from urllib.parse import quote

from pydantic import Field, SecretStr

from mcp_server.domain.errors import Conflict, Invalid, NotFound
from mcp_server.domain.records import Moment, Record, Value
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.workloads import Owner, Ref

Engine = Literal["postgres", "sqlite"]
RequestedEngine = Literal["auto", "postgres", "sqlite"]
Isolation = Literal["container", "shared", "file"]
"""A server of its own, a database on the home's shared server, a file."""

Stage = Literal["creating", "ready", "deleting"]
Wanted = Literal["running", "stopped"]
ObservedState = Literal["running", "stopped", "creating", "error"]

ROLE, READER, DATABASE = "app", "app_reader", "app"
"""The names on a server that serves one project."""

MASK = "********"
ALL = "all"
"""The scope of a database that serves every environment."""

EXTENSIONS: frozenset[str] = frozenset(
    {
        "btree_gin",
        "btree_gist",
        "citext",
        "cube",
        "earthdistance",
        "fuzzystrmatch",
        "hstore",
        "intarray",
        "isn",
        "ltree",
        "pg_trgm",
        "pgcrypto",
        "tablefunc",
        "unaccent",
        "uuid-ossp",
        "vector",
    }
)
"""Those that give a role no way out of its database."""


class Site(Value):
    """Where a server process works: one home of one installation on one host.

    `host` tells machines apart, `host_name` is for people. Host ports are unique per host.
    """

    installation: str
    home: str
    host: str
    host_name: str

    def owner(self, project_uid: str | None = None) -> Owner:
        """Whose the things are that this home makes on its engine; None: of no single project."""
        owner = Owner(installation=self.installation, home=self.home)
        return owner if project_uid is None else owner.change(project=project_uid)

    def labels(self) -> dict[str, str]:
        """The labels that all things of this home carry."""
        return {name: text for name, text in self.owner().labels().items() if not name.endswith(".project")}


class Place(Value):
    """Where a PostgreSQL server is on an engine. Its labels name `owner`: the record is the truth, not the label.

    `port` is the one on 127.0.0.1 of the host.
    """

    container: str
    volume: str
    network: str
    owner: Owner
    image: str
    port: int

    @property
    def ref(self) -> Ref:
        return Ref(name=self.container, owner=self.owner)


class Access(Value):
    """How to log in. Passwords are sealed."""

    database: str
    role: str
    password: str
    reader: str
    reader_password: str


class Database(Record):
    """`worker` is the process that is at work on it: while that lives, nobody else settles it.

    `uid` tells it from a later one of the same scope, `project_uid` is the project's. `claimed` is the name
    under which its container stood in the pool. `adopted`: its volume or file was there before it, and a failed
    creation leaves it. `next_access` is a change of passwords that has begun. `fallback` says why it is not on
    PostgreSQL, though that was preferred. `remembered` is the idempotency record of the call that made it.
    """

    noun: ClassVar[str] = "databases"
    project: str
    environment: EnvironmentName | None = None
    uid: str = Field(min_length=1, max_length=32)
    project_uid: str
    team_id: str
    home: str
    host: str
    host_name: str
    engine: Engine
    requested: RequestedEngine
    isolation: Isolation
    stage: Stage = "creating"
    worker: str | None = None
    wanted: Wanted = "running"
    place: Place | None = None
    access: Access | None = None
    next_access: Access | None = None
    path: str | None = None
    adopted: bool = False
    claimed: str | None = None
    extensions: tuple[str, ...] = ()
    fallback: str | None = Field(default=None, max_length=1000)
    remembered: str | None = None
    final_backup: bool = True
    created_at: Moment
    updated_at: Moment
    rotated_at: Moment | None = None

    @property
    def key(self) -> str:
        return database_key(self.project, self.environment)

    @property
    def scope(self) -> str:
        return self.environment or ALL


class DatabaseServer(Record):
    """What is on the engine and belongs to no project: a standby of the warm pool, the shared server, or what a
    failed creation left and the engine has not given up yet.

    A claimed standby is none any more: its place and access go to the database's record, in one transaction.
    What is `left` in isolation `shared` is one database on that server, else the server itself; with
    `keep_volume` its data stay; `also_named` is another name that its container may bear.
    """

    noun: ClassVar[str] = "database_servers"
    id: str = Field(min_length=1, max_length=100)
    kind: Literal["standby", "shared", "left"]
    home: str
    host: str
    stage: Literal["preparing", "ready", "removing"] = "preparing"
    worker: str | None = None
    place: Place
    access: Access | None = None
    extensions: tuple[str, ...] = ()
    isolation: Literal["container", "shared"] = "container"
    keep_volume: bool = False
    also_named: str | None = None
    created_at: Moment

    @property
    def key(self) -> str:
        return self.id


class PortAllocation(Record):
    """A port of 127.0.0.1 of a host. `holder` is the uid of what it belongs to; it stays while that is stopped."""

    noun: ClassVar[str] = "ports"
    host: str
    port: int = Field(ge=1, le=65535)
    holder: str
    purpose: str
    created_at: Moment

    @property
    def key(self) -> str:
        return port_key(self.host, self.port)


def database_key(project: str, environment: EnvironmentName | None) -> str:
    return f"{project}/{environment or ALL}"


def port_key(host: str, port: int) -> str:
    return f"{host}/{port}"


SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class Login(Value):
    """Where and as whom to log in. `ssl` is one of libpq's modes; on the loopback of this host there is none.

    `ours`: Quaymaster made the role, so it is known what it may do.
    """

    host: str
    port: int
    database: str
    role: str
    password: SecretStr
    ssl: SslMode = "disable"
    ours: bool = True


# -- which one is meant ------------------------------------------------------------------------------------


def chosen(databases: Sequence[Database], environment: EnvironmentName | None, project: str) -> Database:
    """The database that serves this environment; without one the only database, or the one for all.

    Raises NotFound, and Conflict when several could be meant.
    """
    by_scope = {database.scope: database for database in databases}
    for scope in (environment or ALL, ALL):
        if scope in by_scope:
            return by_scope[scope]
    if environment is None and len(by_scope) > 1:
        scopes = ", ".join(sorted(by_scope))
        raise Conflict(
            f"the project '{project}' has databases for {scopes}", next=f"Pass environment: {scopes}."
        )
    if environment is None and by_scope:
        return next(iter(by_scope.values()))
    place = f" for {environment}" if environment else ""
    raise NotFound(f"the project '{project}' has no database{place}", next="create_database makes one.")


def known_extensions(names: Iterable[str], engine: RequestedEngine) -> tuple[str, ...]:
    """The names once each, in order. Raises Invalid for one that is not offered, and for any on SQLite."""
    wanted = tuple(sorted(set(names)))
    unknown = [name for name in wanted if name not in EXTENSIONS]
    if unknown:
        raise Invalid.field("extensions", f"out of {', '.join(sorted(EXTENSIONS))}")
    if wanted and engine == "sqlite":
        raise Invalid.field("extensions", "only with PostgreSQL")
    return wanted


def differs(database: Database, engine: RequestedEngine, extensions: Sequence[str]) -> str | None:
    """What of a request the existing database does not give; None when it satisfies it."""
    if engine not in ("auto", database.engine):
        return f"it is on {database.engine}"
    missing = sorted(set(extensions) - set(database.extensions))
    return f"it lacks the extensions {', '.join(missing)}" if missing else None


# -- names ---------------------------------------------------------------------------------------------------


def named(pattern: str, project: str, environment: EnvironmentName | None) -> str:
    """A name on the engine from the operator's pattern, in which `{project}` stands for the project."""
    scope = project if environment is None else f"{project}-{environment}"
    return pattern.replace("{project}", scope)


def parse_ports(text: str) -> range:
    """`5432-5500` as a range with both ends inside. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text.strip())
    if match is None:
        raise ValueError("two ports with '-' between them")
    first, last = int(match[1]), int(match[2])
    if not 1 <= first <= last <= 65535:
        raise ValueError("ports out of 1 to 65535, the lower first")
    return range(first, last + 1)


# -- addresses -------------------------------------------------------------------------------------------------


def postgres_url(access: Access, password: str, host: str, port: int) -> str:
    user, name = quote(access.role, safe=""), quote(access.database, safe="")
    return f"postgresql://{user}:{password}@{host}:{port}/{name}"


def sqlite_url(path: str) -> str:
    return f"file:{quote(path)}"


ENVIRONMENTS: tuple[EnvironmentName, ...] = get_args(EnvironmentName)


# -- where a secret belongs ------------------------------------------------------------------------------------


def secret_context(holder: str, name: str) -> tuple[str, ...]:
    """Under which a password is sealed: `holder` is the uid of the database or the id of the server."""
    return ("database", holder, name)
