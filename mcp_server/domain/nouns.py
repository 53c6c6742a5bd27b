"""The one list of what a store keeps, in the order in which parents come before their children."""

from __future__ import annotations

from mcp_server.domain.backups import Backup, Branch
from mcp_server.domain.conflicts import KeptConflict
from mcp_server.domain.databases import Database, DatabaseServer, PortAllocation
from mcp_server.domain.deployments import Deployment
from mcp_server.domain.domains import DomainName
from mcp_server.domain.environments import EnvironmentVersion, ProjectEnvironment
from mcp_server.domain.idempotency import Remembered
from mcp_server.domain.keys import ApiKey
from mcp_server.domain.locks import Lock, LockScope
from mcp_server.domain.members import Member
from mcp_server.domain.plans import Plan
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Record
from mcp_server.domain.slots import SlotPair
from mcp_server.domain.tasks import Task
from mcp_server.domain.teams import Team

RECORDS: tuple[type[Record], ...] = (
    Team,
    Member,
    ApiKey,
    Project,
    PortAllocation,
    DatabaseServer,
    Database,
    Branch,
    Backup,
    SlotPair,
    Deployment,
    DomainName,
    ProjectEnvironment,
    EnvironmentVersion,
    Task,
    LockScope,
    Lock,
    Plan,
    Remembered,
    KeptConflict,
)
TOMBSTONE_DAYS = 7
SHORT_LIVED = frozenset({Lock.noun, Plan.noun, Remembered.noun})
"""They come and go with every call, and nobody goes by their revisions but lines that come late: what was deleted of them
is forgotten after `TOMBSTONE_DAYS`, as long as lines are kept."""
TOMBSTONE_KEPT_DAYS = 30
"""How long PostgreSQL keeps them: until long after every registry has forgotten its own. A remembered result whose key
is used again begins at revision 1 then, and a registry that still went by the deletion would take it for an older line."""
BY_NOUN: dict[str, type[Record]] = {record.noun: record for record in RECORDS}
