"""All repositories over one session."""

from __future__ import annotations

from datetime import datetime

from mcp_server.adapters.postgres.audit import AuditRows
from mcp_server.adapters.postgres.backups import BackupRows, BranchRows
from mcp_server.adapters.postgres.conflicts import ConflictRows
from mcp_server.adapters.postgres.databases import DatabaseRows, DatabaseServerRows, PortRows
from mcp_server.adapters.postgres.deployments import DeploymentRows
from mcp_server.adapters.postgres.domains import DomainRows
from mcp_server.adapters.postgres.environments import EnvironmentRows, EnvironmentVersionRows
from mcp_server.adapters.postgres.idempotency import IdempotencyRows
from mcp_server.adapters.postgres.keys import KeyRows
from mcp_server.adapters.postgres.locks import LockRows, LockScopeRows
from mcp_server.adapters.postgres.members import MemberRows
from mcp_server.adapters.postgres.plans import PlanRows
from mcp_server.adapters.postgres.projects import ProjectRows
from mcp_server.adapters.postgres.rows import Rows, Session
from mcp_server.adapters.postgres.slots import SlotRows
from mcp_server.adapters.postgres.tasks import TaskRows
from mcp_server.adapters.postgres.teams import TeamRows
from mcp_server.domain.nouns import RECORDS, SHORT_LIVED, TOMBSTONE_DAYS
from mcp_server.domain.records import Record
from mcp_server.ports.mirror import Gone


class PostgresReading:
    """A `ports.mirror.Replaying` over a session that gathers changes, a `ports.store.Reading` over one that
    does not."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def now(self) -> datetime:
        return await self._session.now()

    @property
    def epoch(self) -> int:
        return self._session.epoch

    @property
    def teams(self) -> TeamRows:
        return TeamRows(self._session)

    @property
    def members(self) -> MemberRows:
        return MemberRows(self._session)

    @property
    def keys(self) -> KeyRows:
        return KeyRows(self._session)

    @property
    def projects(self) -> ProjectRows:
        return ProjectRows(self._session)

    @property
    def ports(self) -> PortRows:
        return PortRows(self._session)

    @property
    def database_servers(self) -> DatabaseServerRows:
        return DatabaseServerRows(self._session)

    @property
    def databases(self) -> DatabaseRows:
        return DatabaseRows(self._session)

    @property
    def branches(self) -> BranchRows:
        return BranchRows(self._session)

    @property
    def backups(self) -> BackupRows:
        return BackupRows(self._session)

    @property
    def slots(self) -> SlotRows:
        return SlotRows(self._session)

    @property
    def deployments(self) -> DeploymentRows:
        return DeploymentRows(self._session)

    @property
    def domains(self) -> DomainRows:
        return DomainRows(self._session)

    @property
    def environments(self) -> EnvironmentRows:
        return EnvironmentRows(self._session)

    @property
    def environment_versions(self) -> EnvironmentVersionRows:
        return EnvironmentVersionRows(self._session)

    @property
    def tasks(self) -> TaskRows:
        return TaskRows(self._session)

    @property
    def lock_scopes(self) -> LockScopeRows:
        return LockScopeRows(self._session)

    @property
    def locks(self) -> LockRows:
        return LockRows(self._session)

    @property
    def plans(self) -> PlanRows:
        return PlanRows(self._session)

    @property
    def idempotency(self) -> IdempotencyRows:
        return IdempotencyRows(self._session)

    @property
    def conflicts(self) -> ConflictRows:
        return ConflictRows(self._session)

    @property
    def audit(self) -> AuditRows:
        return AuditRows(self._session)

    def repository(self, noun: str) -> object:
        """The repositories bear the names of the nouns."""
        return getattr(self, noun)

    async def standing(self, noun: str, key: str) -> tuple[Record | None, int]:
        """A record and its revision, or None and its tombstone's (0 when it never was)."""
        rows: Rows[Record] = getattr(self, noun)
        record = await rows.get(key)
        if record is not None:
            return record, record.rev
        gone = await self._session.one("SELECT rev FROM tombstones WHERE noun = $1 AND key = $2", noun, key)
        return None, 0 if gone is None else gone["rev"]

    async def gone(self) -> list[Gone]:
        """The tombstones; one of a record that was made again since is among them."""
        rows = await self._session.all(
            """
            SELECT noun, key, rev, at FROM tombstones
            WHERE noun <> ALL ($1) OR at > clock_timestamp() - make_interval(days => $2)
            ORDER BY noun COLLATE "C", key COLLATE "C"
            """,
            sorted(SHORT_LIVED),
            TOMBSTONE_DAYS,
        )
        return [Gone(row["noun"], row["key"], row["rev"], row["at"]) for row in rows]

    async def everything(self) -> list[Record]:
        """All records, parents first."""
        found: list[Record] = []
        for kind in RECORDS:
            rows: Rows[Record] = getattr(self, kind.noun)
            found += await rows.everything()
        return found
