"""A reading and a transaction on the registry."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from mcp_server.adapters.registry import repositories as kept
from mcp_server.adapters.registry.audit_files import Live, RegistryAudit
from mcp_server.adapters.registry.documents import Said
from mcp_server.adapters.registry.layout import Layout
from mcp_server.adapters.registry.overlay import Committed, Overlay, View
from mcp_server.adapters.registry.state import State
from mcp_server.domain.changes import Change, Line
from mcp_server.ports.store import Intent

Clock = Callable[[], datetime]


class RegistryReading:
    """The repositories over a view. `now` is the clock, but never before the last line of the journal."""

    def __init__(self, view: View, state: State, audit: RegistryAudit, clock: Clock) -> None:
        self._view = view
        self._latest = state.at
        self._clock = clock
        self.audit = audit

    async def now(self) -> datetime:
        return self._now()

    def _now(self) -> datetime:
        self._latest = max(self._latest, self._clock())
        return self._latest

    @property
    def teams(self) -> kept.RegistryTeams:
        return kept.RegistryTeams(self._view)

    @property
    def members(self) -> kept.RegistryMembers:
        return kept.RegistryMembers(self._view)

    @property
    def keys(self) -> kept.RegistryKeys:
        return kept.RegistryKeys(self._view)

    @property
    def projects(self) -> kept.RegistryProjects:
        return kept.RegistryProjects(self._view)

    @property
    def ports(self) -> kept.RegistryPorts:
        return kept.RegistryPorts(self._view)

    @property
    def database_servers(self) -> kept.RegistryDatabaseServers:
        return kept.RegistryDatabaseServers(self._view)

    @property
    def databases(self) -> kept.RegistryDatabases:
        return kept.RegistryDatabases(self._view)

    @property
    def branches(self) -> kept.RegistryBranches:
        return kept.RegistryBranches(self._view)

    @property
    def backups(self) -> kept.RegistryBackups:
        return kept.RegistryBackups(self._view)

    @property
    def slots(self) -> kept.RegistrySlots:
        return kept.RegistrySlots(self._view)

    @property
    def deployments(self) -> kept.RegistryDeployments:
        return kept.RegistryDeployments(self._view)

    @property
    def domains(self) -> kept.RegistryDomains:
        return kept.RegistryDomains(self._view)

    @property
    def environments(self) -> kept.RegistryEnvironments:
        return kept.RegistryEnvironments(self._view)

    @property
    def environment_versions(self) -> kept.RegistryEnvironmentVersions:
        return kept.RegistryEnvironmentVersions(self._view)

    @property
    def tasks(self) -> kept.RegistryTasks:
        return kept.RegistryTasks(self._view)

    @property
    def lock_scopes(self) -> kept.RegistryLockScopes:
        return kept.RegistryLockScopes(self._view)

    @property
    def locks(self) -> kept.RegistryLocks:
        return kept.RegistryLocks(self._view, self._now)

    @property
    def plans(self) -> kept.RegistryPlans:
        return kept.RegistryPlans(self._view)

    @property
    def idempotency(self) -> kept.RegistryIdempotency:
        return kept.RegistryIdempotency(self._view)

    @property
    def conflicts(self) -> kept.RegistryConflicts:
        return kept.RegistryConflicts(self._view)


class RegistryTransaction(RegistryReading):
    """A reading that writes into an overlay, which becomes one line."""

    def __init__(self, layout: Layout, state: State, live: Callable[[], Live], clock: Clock) -> None:
        self._overlay = Overlay(state)
        audit = RegistryAudit(layout, live, state.audit_from, writable=True)
        super().__init__(self._overlay, state, audit, clock)
        self._epoch = state.epoch

    @property
    def epoch(self) -> int:
        return self._epoch

    def repository(self, noun: str) -> object:
        return kept.BY_NOUN[noun](self._view)

    def end(self, line_id: str, intent: Intent, *, before: bool) -> tuple[Line, Said | None]:
        """Close the transaction and give its line. `before`: the changes carry the records that they were
        based on.
        """
        self._overlay.ended = True
        changes: tuple[Change, ...] = self._overlay.changes(before=before)
        line = Line(
            line_id, self._now(), intent.actor, intent.action, changes, tuple(self.audit.added.values())
        )
        return line, None if self.audit.cut is None else Said(audit_from=self.audit.cut)


def reading(layout: Layout, state: State, live: Callable[[], Live], clock: Clock) -> RegistryReading:
    audit = RegistryAudit(layout, live, state.audit_from, writable=False)
    return RegistryReading(Committed(state), state, audit, clock)
