"""Repositories: they fetch and keep, they never decide.

Every repository of a transaction keeps one kind of record. Contract of the five basic operations, on every store:

* `get(key)`     the record, or None. Nothing is held.
* `hold(key)`    the record, or None, as committed last, and held: no other transaction changes it before this one ends.
* `add(record)`  keeps a record that did not exist, as `rev` 1 (1 above the tombstone's where it was deleted), and returns
                 it so. Raises Conflict when its key, or what must be unique about it, is taken.
* `save(record)` replaces the record at `record.rev` and returns it with the next `rev`. Raises Conflict when the stored
                 revision is another, or the record is gone, or what must be unique is taken.
* `remove(record)` deletes the record at `record.rev`. Raises Conflict when the stored revision is another.

Operations of one transaction see its own earlier changes. Lists are ordered as they say and paged by keyset:
`limit` items at the most, `after` is the cursor of an earlier page (Invalid when it is not one).
Operations of the seed's reference that only differ in the field that they set (updateStatus, markPromoted, ...) are a `hold`, a domain
function and a `save`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from mcp_server.domain.audit import AuditFilter, AuditRow
from mcp_server.domain.backups import Backup, Branch
from mcp_server.domain.conflicts import KeptConflict
from mcp_server.domain.databases import Database, DatabaseServer, PortAllocation
from mcp_server.domain.deployments import Deployment
from mcp_server.domain.domains import DomainName
from mcp_server.domain.environments import EnvironmentVersion, ProjectEnvironment
from mcp_server.domain.idempotency import Remembered
from mcp_server.domain.keys import ApiKey
from mcp_server.domain.locks import Lock, LockScope, Near
from mcp_server.domain.members import Member
from mcp_server.domain.pages import DEFAULT_LIMIT, Page
from mcp_server.domain.plans import Plan
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Record
from mcp_server.domain.slots import SlotPair
from mcp_server.domain.tasks import Task, TaskStatus
from mcp_server.domain.teams import EnvironmentName, Team

R = TypeVar("R", bound=Record)


class Repository(Protocol[R]):
    """See the module's contract."""

    async def get(self, key: str) -> R | None: ...
    async def hold(self, key: str) -> R | None: ...
    async def add(self, record: R) -> R: ...
    async def save(self, record: R) -> R: ...
    async def remove(self, record: R) -> None: ...


class Teams(Repository[Team], Protocol):
    """Unique: `slug`."""

    async def by_slug(self, slug: str) -> Team | None: ...
    async def list(self, *, limit: int = DEFAULT_LIMIT, after: str | None = None) -> Page[Team]:
        """By id."""
        ...


class Members(Repository[Member], Protocol):
    """Unique: (`team_id`, `email`)."""

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[Member]:
        """By id."""
        ...


class Keys(Repository[ApiKey], Protocol):
    """Unique: `key_hash`."""

    async def by_hash(self, key_hash: str) -> ApiKey | None:
        """Revoked and expired ones too: the caller looks at `good_at`."""
        ...

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[ApiKey]:
        """By id, revoked ones too."""
        ...


class Projects(Repository[Project], Protocol):
    """Key: `name`, unique over all teams."""

    async def foreign_at(self, team_id: str, path: str) -> Project | None:
        """The first by name that another team has at the path, below it, or in a directory that it lies in."""
        ...

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[Project]:
        """By name."""
        ...

    async def count_of_team(self, team_id: str) -> int: ...


class Databases(Repository[Database], Protocol):
    """Key: `project/environment`, `project/all` for one that serves every environment."""

    async def of_project(self, project: str) -> Sequence[Database]:
        """By key; at most four."""
        ...

    async def of_home(self, home: str) -> Sequence[Database]:
        """By key."""
        ...

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[Database]:
        """By key."""
        ...

    async def count_of_team(self, team_id: str) -> int: ...


class DatabaseServers(Repository[DatabaseServer], Protocol):
    async def of_home(self, home: str) -> Sequence[DatabaseServer]:
        """By id."""
        ...


class Ports(Repository[PortAllocation], Protocol):
    """Key: `host/port`: of two transactions that add one port, one fails."""

    async def of_host(self, host: str) -> Sequence[PortAllocation]:
        """By port."""
        ...


class Branches(Repository[Branch], Protocol):
    """Key: `project/environment/name`, `project/all/name` for a branch of one that serves every environment."""

    async def of_project(self, project: str) -> Sequence[Branch]:
        """By key."""
        ...

    async def of_home(self, home: str) -> Sequence[Branch]:
        """By key."""
        ...


class Backups(Repository[Backup], Protocol):
    """They outlive their project and its team."""

    async def of_team(
        self,
        team_id: str,
        *,
        project: str | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[Backup]:
        """Newest first, then by id. `project` is a name: of a deleted project, too."""
        ...

    async def of_home(self, home: str) -> Sequence[Backup]:
        """Oldest first, then by id."""
        ...


class Slots(Repository[SlotPair], Protocol):
    """Key: `project/environment`."""

    async def of_project(self, project: str) -> Sequence[SlotPair]:
        """By environment; at most three."""
        ...

    async def of_home(self, home: str) -> Sequence[SlotPair]:
        """By key."""
        ...

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[SlotPair]:
        """By project, then environment."""
        ...


class Deployments(Repository[Deployment], Protocol):
    """Unique: (`project`, `environment`) among running ones."""

    async def running(self, project: str, environment: EnvironmentName) -> Deployment | None:
        """The one that is at work there."""
        ...

    async def running_of_home(self, home: str) -> Sequence[Deployment]:
        """By id."""
        ...

    async def of_project(
        self,
        project: str,
        *,
        environment: EnvironmentName | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[Deployment]:
        """Newest first, then by id."""
        ...


class Domains(Repository[DomainName], Protocol):
    """Key: `domain`."""

    async def of_project(
        self, project: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[DomainName]:
        """By domain."""
        ...

    async def count_of_team(self, team_id: str) -> int:
        """Of all its projects."""
        ...


class Environments(Repository[ProjectEnvironment], Protocol):
    """Key: `project/environment`."""

    async def of_project(self, project: str) -> Sequence[ProjectEnvironment]:
        """By environment; at most three."""
        ...


class EnvironmentVersions(Repository[EnvironmentVersion], Protocol):
    """Key: `project/environment/version`."""

    async def of_environment(
        self,
        project: str,
        environment: EnvironmentName,
        *,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[EnvironmentVersion]:
        """Newest version first."""
        ...


class Tasks(Repository[Task], Protocol):
    async def of_project(
        self,
        project: str,
        *,
        statuses: Sequence[TaskStatus] | None = None,
        author: str | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[Task]:
        """Newest first, then by id."""
        ...

    async def count_open(self, team_id: str) -> int:
        """How many tasks of the team have not ended."""
        ...


class LockScopes(Repository[LockScope], Protocol):
    """Key: `project`."""


class Locks(Repository[Lock], Protocol):
    """Unique: (`project`, `path`) among `editing` locks that are not removed, and (`project`, `path`, `holder`)."""

    async def of_project(self, project: str) -> Sequence[Lock]:
        """All, expired ones too, by path and then id. Read under the held scope it is the truth."""
        ...

    async def near(
        self,
        project: str,
        paths: Sequence[str],
        holder: str,
        *,
        until: datetime,
        whole: bool,
    ) -> Near:
        """By path and then id: the locks that may overlap one of the canonical `paths` (their roots lie above or
        below each other), those whose lease ends by `until`, and with `whole` all of the holder's.

        Read under the held scope it is the truth.
        """
        ...

    async def hold_near(
        self,
        project: str,
        paths: Sequence[str],
        holder: str,
        *,
        ahead: timedelta,
        whole: bool,
        ids: Sequence[str] = (),
    ) -> tuple[LockScope, Near] | None:
        """Hold the project's scope, and then what `near` says, until so long after the moment of the hold.

        `ids` are locks on these paths that may be added next: a store may look ahead. None when there is no scope; then
        nothing is held.
        """
        ...

    async def of_task(self, task_id: str) -> Sequence[Lock]:
        """By path and then id."""
        ...

    async def ended_in(self, now: datetime, *, limit: int) -> Sequence[str]:
        """The names of up to `limit` projects in which a lease has ended at `now`, sorted."""
        ...


class Plans(Repository[Plan], Protocol):
    async def expired(self, now: datetime, *, limit: int) -> Sequence[Plan]:
        """Those with `expires_at` before `now`, oldest first."""
        ...


class Idempotency(Repository[Remembered], Protocol):
    async def claim(self, record: Remembered) -> Remembered | None:
        """Keep `record` as the first of its id and return None, or return the one that stands, held.

        Waits while another transaction has claimed the id and not ended.
        """
        ...

    async def expired(self, now: datetime, *, limit: int) -> Sequence[Remembered]:
        """Those with `expires_at` before `now`, oldest first."""
        ...


class Conflicts(Repository[KeptConflict], Protocol):
    async def open(self, *, limit: int = DEFAULT_LIMIT, after: str | None = None) -> Page[KeptConflict]:
        """The undecided ones, oldest first, then by id."""
        ...


class Audit(Protocol):
    """Rows are written once, by id; writing one again changes nothing."""

    async def add(self, row: AuditRow) -> None: ...

    async def find(
        self, filter: AuditFilter, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[AuditRow]:
        """Newest first, then by id. Never an exact total."""
        ...

    async def clean(self, before: datetime, *, limit: int) -> int:
        """Delete at most `limit` of the rows older than `before`; returns how many."""
        ...
