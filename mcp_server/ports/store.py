"""The seam under all use cases: a transaction over the repositories."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeVar

from mcp_server.domain.audit import AuditRow
from mcp_server.ports.repositories import (
    Audit,
    Backups,
    Branches,
    Conflicts,
    Databases,
    DatabaseServers,
    Deployments,
    Domains,
    Environments,
    EnvironmentVersions,
    Idempotency,
    Keys,
    Locks,
    LockScopes,
    Members,
    Plans,
    Ports,
    Projects,
    Slots,
    Tasks,
    Teams,
)

T = TypeVar("T")
StoreMode = Literal["embedded", "primary", "degraded", "replaying"]


class Reading(Protocol):
    """The repositories, and the store's clock."""

    @property
    def teams(self) -> Teams: ...
    @property
    def members(self) -> Members: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def projects(self) -> Projects: ...
    @property
    def ports(self) -> Ports: ...
    @property
    def database_servers(self) -> DatabaseServers: ...
    @property
    def databases(self) -> Databases: ...
    @property
    def branches(self) -> Branches: ...
    @property
    def backups(self) -> Backups: ...
    @property
    def slots(self) -> Slots: ...
    @property
    def deployments(self) -> Deployments: ...
    @property
    def domains(self) -> Domains: ...
    @property
    def environments(self) -> Environments: ...
    @property
    def environment_versions(self) -> EnvironmentVersions: ...
    @property
    def tasks(self) -> Tasks: ...
    @property
    def lock_scopes(self) -> LockScopes: ...
    @property
    def locks(self) -> Locks: ...
    @property
    def plans(self) -> Plans: ...
    @property
    def idempotency(self) -> Idempotency: ...
    @property
    def conflicts(self) -> Conflicts: ...
    @property
    def audit(self) -> Audit: ...

    async def now(self) -> datetime:
        """The store's time. After a `hold` it is not earlier than the commit of whoever held before."""
        ...


class Transaction(Reading, Protocol):
    """A reading that may write; all or nothing."""

    @property
    def epoch(self) -> int:
        """Rises whenever the home changes its mode; fences are made of it."""
        ...


@dataclass(frozen=True, slots=True)
class Intent:
    """Why a transaction is opened: `action` is a name of the grants table, `actor` is `Caller.id`."""

    action: str
    actor: str


@dataclass(frozen=True, slots=True)
class Committed(Generic[T]):
    """What `fn` returned, and what the caller should hear beside it (`degraded`, `mirror_behind`, ...)."""

    value: T
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """`since` is when the present mode began; `pending` counts lines that PostgreSQL has not yet.

    `healthy` is false when the store cannot promise what it should. `gauges` are numbers by name (pool, mirror lag, ...).
    """

    mode: StoreMode
    healthy: bool
    since: datetime | None = None
    pending: int = 0
    conflicts: int = 0
    reason: str | None = None
    alone: bool = True
    gauges: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


class Store(Protocol):
    """One truth, reached from many processes."""

    async def run(self, fn: Callable[[Transaction], Awaitable[T]], intent: Intent) -> Committed[T]:
        """Call `fn` in a transaction; commit when it returns, roll back when it raises.

        `fn` may be called again with a fresh transaction (a serialisation failure, or the other store), so it draws
        nothing random, does nothing slow, and keeps no state outside. Once this returns, the change survives the loss
        of the process, and of PostgreSQL.

        Raises what `fn` raises; Unavailable when no store can be reached in time; Degraded when the action is one that
        a home that is not alone must not take without PostgreSQL; OutcomeUnknown when the connection broke during a commit
        of such an action.
        """
        ...

    async def read(self, fn: Callable[[Reading], Awaitable[T]]) -> T:
        """Call `fn` with the committed state, without a transaction. May call it again on the other store."""
        ...

    async def record(self, rows: Sequence[AuditRow], used: Mapping[str, datetime]) -> None:
        """Keep audit rows of calls that changed nothing, and when keys (by id) were last used. Not in a transaction."""
        ...

    async def leads(self, what: str) -> bool:
        """Whether this process does `what` for all servers on the store; without PostgreSQL for those of its home.

        Best effort, to spare work: two may believe it for a moment. Raises Unavailable.
        """
        ...

    async def status(self) -> StoreStatus:
        """How the store is now; never raises and never waits longer than a second."""
        ...
