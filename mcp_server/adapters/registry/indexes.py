"""The lists and the unique values of every noun, kept so that no list looks at every record."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mcp_server.domain.errors import Invalid
from mcp_server.domain.nouns import BY_NOUN
from mcp_server.domain.paths import root_of
from mcp_server.domain.tasks import ENDED

Order = tuple[Any, ...]
_START = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """Records of one noun by group, sorted by `order`; `group` None leaves a record out.

    `cursor` gives a record's position as text, `position` reads it back (Invalid when it is not one).
    """

    noun: str
    group: Callable[[Any], Hashable]
    order: Callable[[Any], Order]
    cursor: Callable[[Any], tuple[str, ...]]
    position: Callable[[tuple[str, ...]], Order]
    parts: int


@dataclass(frozen=True, slots=True, eq=False)
class Unique:
    """A value that two records of a noun may not share; None is shared by many."""

    noun: str
    what: str
    value: Callable[[Any], Hashable]


def _by_text(noun: str, group: Callable[[Any], Hashable], *names: str) -> Listing:
    def order(record: Any) -> tuple[str, ...]:
        return tuple(getattr(record, name) for name in names)

    return Listing(noun, group, order, order, lambda position: position, len(names))


def _by_time(noun: str, group: Callable[[Any], Hashable], name: str, *, newest: bool) -> Listing:
    sign = -1 if newest else 1

    def order(record: Any) -> Order:
        return (sign * micros(getattr(record, name)), record.id)

    def cursor(record: Any) -> tuple[str, ...]:
        return (getattr(record, name).astimezone(UTC).isoformat(), record.id)

    def position(parts: tuple[str, ...]) -> Order:
        return (sign * micros(moment_of(parts[0])), parts[1])

    return Listing(noun, group, order, cursor, position, 2)


def micros(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment - _START) // _MICROSECOND


def moment_of(text: str) -> datetime:
    """The time in a cursor. Raises Invalid."""
    try:
        moment = datetime.fromisoformat(text)
        moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid.field(
            "cursor", "must be a cursor that an earlier page of this list returned"
        ) from error
    if moment.tzinfo is None:
        raise Invalid.field("cursor", "must be a cursor that an earlier page of this list returned")
    return moment


def _version_of(parts: tuple[str, ...]) -> Order:
    try:
        return (-int(parts[0]),)
    except ValueError as error:
        raise Invalid.field(
            "cursor", "must be a cursor that an earlier page of this list returned"
        ) from error


def _number_of(parts: tuple[str, ...]) -> Order:
    return (-_version_of(parts)[0],)


def _all(_: Any) -> Hashable:
    return ()


TEAMS = _by_text("teams", _all, "id")
MEMBERS_OF_TEAM = _by_text("members", lambda r: r.team_id, "id")
KEYS_OF_TEAM = _by_text("keys", lambda r: r.team_id, "id")
PROJECTS_OF_TEAM = _by_text("projects", lambda r: r.team_id, "name")
PROJECTS_WITH_PATH = _by_text("projects", lambda r: None if r.path is None else (), "name")
PORTS_OF_HOST = Listing(
    "ports", lambda r: r.host, lambda r: (r.port,), lambda r: (str(r.port),), _number_of, 1
)
SERVERS_OF_HOME = _by_text("database_servers", lambda r: r.home, "id")
DATABASES_OF_PROJECT = _by_text("databases", lambda r: r.project, "key")
DATABASES_OF_HOME = _by_text("databases", lambda r: r.home, "key")
DATABASES_OF_TEAM = _by_text("databases", lambda r: r.team_id, "key")
BRANCHES_OF_PROJECT = _by_text("branches", lambda r: r.project, "key")
BRANCHES_OF_HOME = _by_text("branches", lambda r: r.home, "key")
BACKUPS_OF_TEAM = _by_time("backups", lambda r: r.team_id, "created_at", newest=True)
BACKUPS_OF_PROJECT = _by_time("backups", lambda r: (r.team_id, r.project), "created_at", newest=True)
BACKUPS_OF_HOME = _by_time("backups", lambda r: r.home, "created_at", newest=False)
SLOTS_OF_PROJECT = _by_text("slots", lambda r: r.project, "environment")
SLOTS_OF_HOME = _by_text("slots", lambda r: r.home, "key")
DEPLOYMENTS_OF_PROJECT = _by_time("deployments", lambda r: r.project, "created_at", newest=True)
DEPLOYMENTS_OF_ENVIRONMENT = _by_time(
    "deployments", lambda r: (r.project, r.environment), "created_at", newest=True
)
RUNNING_DEPLOYMENTS = _by_text(
    "deployments", lambda r: (r.project, r.environment) if r.running else None, "id"
)
RUNNING_OF_HOME = _by_text("deployments", lambda r: r.home if r.running else None, "id")
DOMAINS_OF_PROJECT = _by_text("domains", lambda r: r.project, "domain")
ENVIRONMENTS_OF_PROJECT = _by_text("environments", lambda r: r.project, "environment")
VERSIONS_OF_ENVIRONMENT = Listing(
    "environment_versions",
    lambda r: (r.project, r.environment),
    lambda r: (-r.version,),
    lambda r: (str(r.version),),
    _version_of,
    1,
)
OPEN_TASKS_OF_TEAM = _by_text("tasks", lambda r: None if r.status in ENDED else r.team_id, "id")
TASKS_OF_PROJECT = _by_time("tasks", lambda r: r.project, "created_at", newest=True)
LOCKS_OF_PROJECT = _by_text("locks", lambda r: r.project, "path", "id")
LOCKS_BY_ROOT = Listing(
    "locks",
    lambda r: r.project,
    lambda r: (root_of(r.path), r.id),
    lambda r: (root_of(r.path), r.id),
    lambda position: position,
    2,
)
LOCKS_BY_EXPIRY = _by_time("locks", lambda r: r.project, "expires_at", newest=False)
LOCKS_ENDING = _by_time("locks", _all, "expires_at", newest=False)
LOCKS_OF_HOLDER = _by_text("locks", lambda r: (r.project, r.holder), "id")
LOCKS_OF_TASK = _by_text("locks", lambda r: r.task_id, "path", "id")
PLANS_BY_EXPIRY = _by_time("plans", _all, "expires_at", newest=False)
IDEMPOTENCY_BY_EXPIRY = _by_time("idempotency", _all, "expires_at", newest=False)
OPEN_CONFLICTS = _by_time("conflicts", lambda r: () if r.decided is None else None, "at", newest=False)

LISTINGS: tuple[Listing, ...] = (
    TEAMS,
    MEMBERS_OF_TEAM,
    KEYS_OF_TEAM,
    PROJECTS_OF_TEAM,
    PROJECTS_WITH_PATH,
    PORTS_OF_HOST,
    SERVERS_OF_HOME,
    DATABASES_OF_PROJECT,
    DATABASES_OF_HOME,
    DATABASES_OF_TEAM,
    BRANCHES_OF_PROJECT,
    BRANCHES_OF_HOME,
    BACKUPS_OF_TEAM,
    BACKUPS_OF_PROJECT,
    BACKUPS_OF_HOME,
    SLOTS_OF_PROJECT,
    SLOTS_OF_HOME,
    DEPLOYMENTS_OF_PROJECT,
    DEPLOYMENTS_OF_ENVIRONMENT,
    RUNNING_DEPLOYMENTS,
    RUNNING_OF_HOME,
    DOMAINS_OF_PROJECT,
    ENVIRONMENTS_OF_PROJECT,
    VERSIONS_OF_ENVIRONMENT,
    OPEN_TASKS_OF_TEAM,
    TASKS_OF_PROJECT,
    LOCKS_OF_PROJECT,
    LOCKS_BY_ROOT,
    LOCKS_BY_EXPIRY,
    LOCKS_ENDING,
    LOCKS_OF_HOLDER,
    LOCKS_OF_TASK,
    PLANS_BY_EXPIRY,
    IDEMPOTENCY_BY_EXPIRY,
    OPEN_CONFLICTS,
)

KEY_HASH = Unique("keys", "key_hash", lambda r: r.key_hash)
TEAM_SLUG = Unique("teams", "slug", lambda r: r.slug)
UNIQUES: tuple[Unique, ...] = (
    TEAM_SLUG,
    KEY_HASH,
    Unique(
        "deployments",
        "the running deployment of project and environment",
        lambda r: (r.project, r.environment) if r.running else None,
    ),
    Unique("members", "team_id and email", lambda r: (r.team_id, r.email)),
    Unique(
        "locks",
        "project and path for editing",
        lambda r: (r.project, r.path) if r.mode == "editing" else None,
    ),
    Unique("locks", "project, path and holder", lambda r: (r.project, r.path, r.holder)),
)

LISTINGS_OF = {noun: tuple(listing for listing in LISTINGS if listing.noun == noun) for noun in BY_NOUN}
UNIQUES_OF = {noun: tuple(unique for unique in UNIQUES if unique.noun == noun) for noun in BY_NOUN}

PARENTS: dict[str, tuple[tuple[str, str], ...]] = {
    "members": (("teams", "team_id"),),
    "keys": (("teams", "team_id"),),
    "projects": (("teams", "team_id"),),
    "databases": (("teams", "team_id"), ("projects", "project")),
    "branches": (("projects", "project"),),
    "slots": (("projects", "project"),),
    "deployments": (("projects", "project"),),
    "domains": (("projects", "project"),),
    "environments": (("projects", "project"),),
    "environment_versions": (("projects", "project"),),
    "tasks": (("teams", "team_id"), ("projects", "project")),
    "lock_scopes": (("projects", "project"),),
    "locks": (("projects", "project"),),
}
"""For each noun the records that must be there when one is added: noun of the parent, and the field with its
key.
"""
