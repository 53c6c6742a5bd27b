"""The repositories over a view: they fetch and keep, as `ports.repositories` says."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Generic, TypeVar, cast

from mcp_server.adapters.registry import indexes
from mcp_server.adapters.registry.indexes import PARENTS, UNIQUES_OF, Listing, Order
from mcp_server.adapters.registry.overlay import View
from mcp_server.domain.backups import Backup, Branch
from mcp_server.domain.conflicts import KeptConflict
from mcp_server.domain.databases import Database, DatabaseServer, PortAllocation
from mcp_server.domain.deployments import Deployment
from mcp_server.domain.domains import DomainName
from mcp_server.domain.environments import EnvironmentVersion, ProjectEnvironment
from mcp_server.domain.errors import Conflict
from mcp_server.domain.idempotency import Remembered
from mcp_server.domain.keys import ApiKey
from mcp_server.domain.locks import Lock, LockScope, Near
from mcp_server.domain.members import Member
from mcp_server.domain.pages import DEFAULT_LIMIT, Page, decode_cursor, page_of
from mcp_server.domain.paths import root_of, roots_above
from mcp_server.domain.plans import Plan
from mcp_server.domain.projects import Project, overlap
from mcp_server.domain.records import Record
from mcp_server.domain.slots import SlotPair
from mcp_server.domain.tasks import Task, TaskStatus
from mcp_server.domain.teams import EnvironmentName, Team

R = TypeVar("R", bound=Record)


class Kept(Generic[R]):
    """The five operations, for one kind of record."""

    kind: type[R]

    def __init__(self, view: View) -> None:
        self._view = view

    async def get(self, key: str) -> R | None:
        return self._get(key)

    async def hold(self, key: str) -> R | None:
        """The write lock holds everything."""
        return self._get(key)

    async def add(self, record: R) -> R:
        if self._view.get(record.noun, record.key) is not None:
            raise Conflict(f"'{record.key}' is taken in {record.noun}", noun=record.noun)
        self._refuse_orphan(record)
        return self._put(record, self._view.rev_of(record.noun, record.key) + 1)

    async def save(self, record: R) -> R:
        self._refuse_stale(record)
        return self._put(record, record.rev + 1)

    async def remove(self, record: R) -> None:
        self._refuse_stale(record)
        self._view.put(record.noun, record.key, record.rev + 1, None)

    def _get(self, key: str) -> R | None:
        return cast("R | None", self._view.get(self.kind.noun, key))

    def _put(self, record: R, rev: int) -> R:
        self._refuse_twin(record)
        kept = record.change(rev=rev)
        self._view.put(kept.noun, kept.key, rev, kept)
        return kept

    def _refuse_stale(self, record: R) -> None:
        stored = self._view.get(record.noun, record.key)
        if stored is None:
            raise Conflict(f"'{record.key}' is gone from {record.noun}", noun=record.noun)
        if stored.rev != record.rev:
            raise Conflict(f"'{record.key}' in {record.noun} was changed meanwhile", noun=record.noun)

    def _refuse_twin(self, record: R) -> None:
        for unique in UNIQUES_OF[record.noun]:
            value = unique.value(record)
            if value is not None and any(key != record.key for key in self._view.owners(unique, value)):
                raise Conflict(f"{unique.what} is taken in {record.noun}", noun=record.noun)

    def _refuse_orphan(self, record: R) -> None:
        for noun, name in PARENTS.get(record.noun, ()):
            parent = getattr(record, name)
            if self._view.get(noun, parent) is None:
                raise Conflict(f"{record.noun} of '{parent}', which is not in {noun}", noun=record.noun)

    def _records(self, listing: Listing, group: Hashable, after: Order | None = None) -> Iterator[R]:
        return (cast(R, record) for _, record in self._view.walk(listing, group, after))

    def _page(self, listing: Listing, group: Hashable, limit: int, after: str | None) -> Page[R]:
        return cut(self._records(listing, group, position_in(listing, after)), listing, limit)


def position_in(listing: Listing, after: str | None) -> Order | None:
    """Raises Invalid."""
    parts = decode_cursor(after, listing.parts)
    return None if parts is None else listing.position(parts)


def cut(records: Iterator[R], listing: Listing, limit: int) -> Page[R]:
    items = list(islice(records, limit + 1))
    return page_of(items, limit, listing.cursor(items[limit - 1]) if len(items) > limit > 0 else None)


class RegistryTeams(Kept[Team]):
    kind = Team

    async def by_slug(self, slug: str) -> Team | None:
        return next((self._get(key) for key in self._view.owners(indexes.TEAM_SLUG, slug)), None)

    async def list(self, *, limit: int = DEFAULT_LIMIT, after: str | None = None) -> Page[Team]:
        return self._page(indexes.TEAMS, (), limit, after)


class RegistryMembers(Kept[Member]):
    kind = Member

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[Member]:
        return self._page(indexes.MEMBERS_OF_TEAM, team_id, limit, after)


class RegistryKeys(Kept[ApiKey]):
    kind = ApiKey

    async def by_hash(self, key_hash: str) -> ApiKey | None:
        return next((self._get(key) for key in self._view.owners(indexes.KEY_HASH, key_hash)), None)

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[ApiKey]:
        return self._page(indexes.KEYS_OF_TEAM, team_id, limit, after)


class RegistryProjects(Kept[Project]):
    kind = Project

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[Project]:
        return self._page(indexes.PROJECTS_OF_TEAM, team_id, limit, after)

    async def count_of_team(self, team_id: str) -> int:
        return self._view.count(indexes.PROJECTS_OF_TEAM, team_id)

    async def foreign_at(self, team_id: str, path: str) -> Project | None:
        placed = self._records(indexes.PROJECTS_WITH_PATH, ())
        return next(
            (each for each in placed if each.team_id != team_id and overlap(each.path or "", path)), None
        )


class RegistryPorts(Kept[PortAllocation]):
    kind = PortAllocation

    async def of_host(self, host: str) -> Sequence[PortAllocation]:
        return list(self._records(indexes.PORTS_OF_HOST, host))


class RegistryDatabaseServers(Kept[DatabaseServer]):
    kind = DatabaseServer

    async def of_home(self, home: str) -> Sequence[DatabaseServer]:
        return list(self._records(indexes.SERVERS_OF_HOME, home))


class RegistryDatabases(Kept[Database]):
    kind = Database

    async def of_project(self, project: str) -> Sequence[Database]:
        return list(self._records(indexes.DATABASES_OF_PROJECT, project))

    async def of_home(self, home: str) -> Sequence[Database]:
        return list(self._records(indexes.DATABASES_OF_HOME, home))

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[Database]:
        return self._page(indexes.DATABASES_OF_TEAM, team_id, limit, after)

    async def count_of_team(self, team_id: str) -> int:
        return self._view.count(indexes.DATABASES_OF_TEAM, team_id)


class RegistryBranches(Kept[Branch]):
    kind = Branch

    async def of_project(self, project: str) -> Sequence[Branch]:
        return list(self._records(indexes.BRANCHES_OF_PROJECT, project))

    async def of_home(self, home: str) -> Sequence[Branch]:
        return list(self._records(indexes.BRANCHES_OF_HOME, home))


class RegistryBackups(Kept[Backup]):
    kind = Backup

    async def of_team(
        self,
        team_id: str,
        *,
        project: str | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[Backup]:
        if project is None:
            return self._page(indexes.BACKUPS_OF_TEAM, team_id, limit, after)
        return self._page(indexes.BACKUPS_OF_PROJECT, (team_id, project), limit, after)

    async def of_home(self, home: str) -> Sequence[Backup]:
        return list(self._records(indexes.BACKUPS_OF_HOME, home))


class RegistrySlots(Kept[SlotPair]):
    kind = SlotPair

    async def of_project(self, project: str) -> Sequence[SlotPair]:
        return list(self._records(indexes.SLOTS_OF_PROJECT, project))

    async def of_home(self, home: str) -> Sequence[SlotPair]:
        return list(self._records(indexes.SLOTS_OF_HOME, home))

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[SlotPair]:
        position = decode_cursor(after, 2)
        items = list(islice(self._of_team(team_id, position), limit + 1))
        last = (items[limit - 1].project, items[limit - 1].environment) if len(items) > limit > 0 else None
        return page_of(items, limit, last)

    def _owned(self, team_id: str, project: str) -> bool:
        """A cursor is the caller's word: it must not open another team's project."""
        owner = cast("Project | None", self._view.get(Project.noun, project))
        return owner is not None and owner.team_id == team_id

    def _of_team(self, team_id: str, position: tuple[str, ...] | None) -> Iterator[SlotPair]:
        if position is not None and self._owned(team_id, position[0]):
            yield from self._records(indexes.SLOTS_OF_PROJECT, position[0], (position[1],))
        start = None if position is None else (position[0],)
        for _, project in self._view.walk(indexes.PROJECTS_OF_TEAM, team_id, start):
            yield from self._records(indexes.SLOTS_OF_PROJECT, project.key)


class RegistryDeployments(Kept[Deployment]):
    kind = Deployment

    async def of_project(
        self,
        project: str,
        *,
        environment: EnvironmentName | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[Deployment]:
        if environment is None:
            return self._page(indexes.DEPLOYMENTS_OF_PROJECT, project, limit, after)
        return self._page(indexes.DEPLOYMENTS_OF_ENVIRONMENT, (project, environment), limit, after)

    async def running(self, project: str, environment: EnvironmentName) -> Deployment | None:
        return next(self._records(indexes.RUNNING_DEPLOYMENTS, (project, environment)), None)

    async def running_of_home(self, home: str) -> Sequence[Deployment]:
        return list(self._records(indexes.RUNNING_OF_HOME, home))


class RegistryDomains(Kept[DomainName]):
    kind = DomainName

    async def of_project(
        self, project: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[DomainName]:
        return self._page(indexes.DOMAINS_OF_PROJECT, project, limit, after)

    async def count_of_team(self, team_id: str) -> int:
        projects = self._view.walk(indexes.PROJECTS_OF_TEAM, team_id, None)
        return sum(self._view.count(indexes.DOMAINS_OF_PROJECT, one.key) for _, one in projects)


class RegistryEnvironments(Kept[ProjectEnvironment]):
    kind = ProjectEnvironment

    async def of_project(self, project: str) -> Sequence[ProjectEnvironment]:
        return list(self._records(indexes.ENVIRONMENTS_OF_PROJECT, project))


class RegistryEnvironmentVersions(Kept[EnvironmentVersion]):
    kind = EnvironmentVersion

    async def of_environment(
        self,
        project: str,
        environment: EnvironmentName,
        *,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[EnvironmentVersion]:
        return self._page(indexes.VERSIONS_OF_ENVIRONMENT, (project, environment), limit, after)


class RegistryTasks(Kept[Task]):
    kind = Task

    async def of_project(
        self,
        project: str,
        *,
        statuses: Sequence[TaskStatus] | None = None,
        author: str | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[Task]:
        tasks = self._records(indexes.TASKS_OF_PROJECT, project, position_in(indexes.TASKS_OF_PROJECT, after))
        wanted = (
            task
            for task in tasks
            if (statuses is None or task.status in statuses) and (author is None or task.author == author)
        )
        return cut(wanted, indexes.TASKS_OF_PROJECT, limit)

    async def count_open(self, team_id: str) -> int:
        return self._view.count(indexes.OPEN_TASKS_OF_TEAM, team_id)


class RegistryLockScopes(Kept[LockScope]):
    kind = LockScope


class RegistryLocks(Kept[Lock]):
    kind = Lock

    def __init__(self, view: View, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(view)
        self._now = now

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
        scope = cast("LockScope | None", self._view.get(LockScope.noun, project))
        if scope is None:
            return None
        return scope, await self.near(project, paths, holder, until=self._now() + ahead, whole=whole)

    async def of_project(self, project: str) -> Sequence[Lock]:
        return list(self._records(indexes.LOCKS_OF_PROJECT, project))

    async def near(
        self,
        project: str,
        paths: Sequence[str],
        holder: str,
        *,
        until: datetime,
        whole: bool,
    ) -> Near:
        found = {
            lock.id: lock
            for root in {root_of(path) for path in paths}
            for lock in self._around(project, root)
        }
        ending = self._records(indexes.LOCKS_BY_EXPIRY, project)
        found |= {lock.id: lock for lock in takewhile(lambda lock: lock.expires_at <= until, ending)}
        if whole:
            found |= {lock.id: lock for lock in self._records(indexes.LOCKS_OF_HOLDER, (project, holder))}
        return Near(
            tuple(sorted(found.values(), key=lambda lock: (lock.path, lock.id))),
            self._view.count(indexes.LOCKS_OF_HOLDER, (project, holder)),
        )

    def _around(self, project: str, root: str) -> Iterator[Lock]:
        """The locks whose root lies above `root`, there or below."""
        for above in roots_above(root)[:-1]:
            yield from takewhile(lambda lock: root_of(lock.path) == above, self._from(project, above))  # noqa: B023
        yield from takewhile(lambda lock: root_of(lock.path).startswith(root), self._from(project, root))

    def _from(self, project: str, root: str) -> Iterator[Lock]:
        return self._records(indexes.LOCKS_BY_ROOT, project, (root,))

    async def of_task(self, task_id: str) -> Sequence[Lock]:
        return list(self._records(indexes.LOCKS_OF_TASK, task_id))

    async def ended_in(self, now: datetime, *, limit: int) -> Sequence[str]:
        ended = takewhile(lambda lock: lock.expires_at <= now, self._records(indexes.LOCKS_ENDING, ()))
        return sorted({lock.project for lock in ended})[:limit]


class RegistryPlans(Kept[Plan]):
    kind = Plan

    async def expired(self, now: datetime, *, limit: int) -> Sequence[Plan]:
        plans = self._records(indexes.PLANS_BY_EXPIRY, ())
        return [plan for plan in islice(plans, limit) if plan.expires_at < now]


class RegistryIdempotency(Kept[Remembered]):
    kind = Remembered

    async def claim(self, record: Remembered) -> Remembered | None:
        """Nobody else is inside a transaction: there is nothing to wait for."""
        standing = self._get(record.key)
        if standing is None:
            await self.add(record)
        return standing

    async def expired(self, now: datetime, *, limit: int) -> Sequence[Remembered]:
        remembered = self._records(indexes.IDEMPOTENCY_BY_EXPIRY, ())
        return [record for record in islice(remembered, limit) if record.expires_at < now]


class RegistryConflicts(Kept[KeptConflict]):
    kind = KeptConflict

    async def open(self, *, limit: int = DEFAULT_LIMIT, after: str | None = None) -> Page[KeptConflict]:
        return self._page(indexes.OPEN_CONFLICTS, (), limit, after)


BY_NOUN: dict[str, type[Kept[Record]]] = {
    repository.kind.noun: cast("type[Kept[Record]]", repository)
    for repository in (
        RegistryTeams,
        RegistryMembers,
        RegistryKeys,
        RegistryProjects,
        RegistryPorts,
        RegistryDatabaseServers,
        RegistryDatabases,
        RegistryBranches,
        RegistryBackups,
        RegistrySlots,
        RegistryDeployments,
        RegistryDomains,
        RegistryEnvironments,
        RegistryEnvironmentVersions,
        RegistryTasks,
        RegistryLockScopes,
        RegistryLocks,
        RegistryPlans,
        RegistryIdempotency,
        RegistryConflicts,
    )
}
