"""A server without its faces: the use cases over a registry, with a clock that a test moves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mcp_server.adapters.memory.cache import MemoryCache
from mcp_server.adapters.registry.keyring import RegistryKeyRing
from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.domain.audit import AuditFilter, AuditRow
from mcp_server.domain.callers import Caller
from mcp_server.domain.keys import ApiKey, key_text, stored_form
from mcp_server.domain.results import Result
from mcp_server.domain.roles import ROLES, Role
from mcp_server.domain.teams import Team
from mcp_server.ports.store import Intent, Reading, Transaction
from mcp_server.services.audit import AuditLog
from mcp_server.services.bootstrap import Bootstrap
from mcp_server.services.calls import Call, Calls
from mcp_server.services.conflicts import Conflicts
from mcp_server.services.keys import Keys
from mcp_server.services.members import Members
from mcp_server.services.projects import Projects
from mcp_server.services.signin import SignIn
from mcp_server.services.status import Status
from mcp_server.services.sweeper import Sweeper
from mcp_server.services.teams import Teams
from mcp_server.services.trail import Trail

START = datetime(2026, 1, 31, 8, tzinfo=UTC)
SETUP = Intent("create_team", "test")


class Clock:
    """`seconds` since the start; the store, the trail and the cache look at it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def count(self) -> float:
        return self.seconds


@dataclass
class World:
    store: RegistryStore
    root: Path
    clock: Clock
    roots: tuple[str, ...] = ()
    quota: int = 5
    rate_limit: int = 10_000
    texts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cache = MemoryCache(clock=self.clock.count)
        self.trail = Trail(self.store, clock=self.clock.now)
        self.calls = Calls(self.store, self.cache, self.trail, rate_limit=self.rate_limit)
        self.projects = Projects(self.calls, roots=self.roots, quota=self.quota)
        self.teams = Teams(self.calls)
        self.members = Members(self.calls, quota=self.quota)
        self.keys = Keys(self.calls, quota=20, rate_limit=self.rate_limit)
        self.audit = AuditLog(self.calls)
        self.conflicts = Conflicts(self.calls)
        self.keyring = RegistryKeyRing(self.root)
        self.signin = SignIn(self.keyring, self.cache, self.trail)
        self.bootstrap = Bootstrap(self.calls)
        self.sweeper = Sweeper(self.store)
        self.status = Status(self.store, self.cache, self.trail, version="1.2.3")
        self._use_cases: dict[str, Callable[..., Awaitable[Result]]] = {
            "create_project": self.projects.create,
            "get_project": self.projects.get,
            "list_projects": self.projects.list,
            "update_project": self.projects.update,
            "delete_project": self.projects.delete,
            "create_team": self.teams.create,
            "get_team": self.teams.get,
            "list_teams": self.teams.list,
            "update_team": self.teams.update,
            "delete_team": self.teams.delete,
            "add_member": self.members.add,
            "list_members": self.members.list,
            "update_member": self.members.update,
            "remove_member": self.members.remove,
            "create_key": self.keys.create,
            "list_keys": self.keys.list,
            "revoke_key": self.keys.revoke,
            "rotate_key": self.keys.rotate,
            "query_audit": self.audit.query,
            "list_conflicts": self.conflicts.list_conflicts,
            "resolve_conflict": self.conflicts.resolve_conflict,
            "infrastructure_status": self.status.infrastructure_status,
        }

    async def do(
        self,
        caller: Caller,
        action: str,
        /,
        *,
        idempotency_key: str | None = None,
        plan_token: str | None = None,
        **arguments: Any,
    ) -> Any:
        """One call, as a face makes it."""
        call = Call(
            caller=caller,
            action=action,
            params=arguments,
            idempotency_key=idempotency_key,
            plan_token=plan_token,
        )
        return await self.calls.perform(call, lambda: self._use_cases[action](call, **arguments))

    async def planned(self, caller: Caller, action: str, /, **arguments: Any) -> Any:
        """A destructive call done at once: the plan, then its token."""
        plan = await self.do(caller, action, **arguments)
        return await self.do(caller, action, plan_token=plan.plan_token, **arguments)

    async def team(self, team_id: str) -> None:
        """A team with a key of each role, `{team_id}-{role}`."""
        now = self.clock.now()

        async def transaction(tx: Transaction) -> None:
            await tx.teams.add(
                Team(id=team_id, name=team_id, slug=team_id, owner="ann", created_at=now, updated_at=now)
            )
            for role in ROLES:
                text = key_text("qm", team_id, role, f"{team_id}{role}".replace("-", "").ljust(24, "x")[:24])
                self.texts[f"{team_id}-{role}"] = text
                await tx.keys.add(
                    ApiKey(
                        id=f"{team_id}-{role}",
                        **stored_form(text),
                        name=role,
                        team_id=team_id,
                        role=role,
                        created_at=now,
                    )
                )

        await self.store.run(transaction, SETUP)

    def caller(self, role: Role = "owner", team_id: str = "red", **fields: Any) -> Caller:
        known: dict[str, Any] = {
            "user": f"{team_id} {role}",
            "key_id": f"{team_id}-{role}",
            "transport": "http",
            "address": "192.0.2.7",
        }
        return Caller(team_id=team_id, role=role, **{**known, **fields})

    async def rows(self, team_id: str = "red", **filters: Any) -> list[AuditRow]:
        """The audit rows of a team, newest first, after everything queued was written."""
        await self.trail.flush()

        async def reading(tx: Reading) -> list[AuditRow]:
            wanted = AuditFilter(team_id=team_id, **filters)
            return list((await tx.audit.find(wanted, limit=200)).items)

        return await self.store.read(reading)

    def on_disk(self) -> str:
        """Everything that the registry has written, as text."""
        files = (path for path in self.root.rglob("*") if path.is_file())
        return "\n".join(path.read_bytes().decode("utf-8", "replace") for path in files)
