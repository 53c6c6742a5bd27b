"""A team with a project over a real store, and its work use cases called the way that tools call them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from mcp_server.adapters.memory.cache import MemoryCache
from mcp_server.domain.callers import Caller
from mcp_server.domain.locks import Lock
from mcp_server.domain.projects import Project
from mcp_server.domain.results import Result
from mcp_server.domain.teams import Team
from mcp_server.ports.store import Intent, Reading, Store, Transaction
from mcp_server.services.calls import Call, Calls
from mcp_server.services.locks import Locks
from mcp_server.services.staged import Staged
from mcp_server.services.tasks import Tasks
from mcp_server.services.trail import Trail

R = TypeVar("R", bound=Result)
SET_UP = Intent("create_project", "set-up")

ANN = Caller(team_id="t1", role="member", user="ann", key_id="k-ann", transport="http")
BOB = Caller(team_id="t1", role="member", user="bob", key_id="k-bob", transport="http")
ADA = Caller(team_id="t1", role="admin", user="ada", key_id="k-ada", transport="http")
VIC = Caller(team_id="t1", role="viewer", user="vic", key_id="k-vic", transport="http")
EVE = Caller(team_id="t2", role="owner", user="eve", key_id="k-eve", transport="http")


@dataclass
class Workshop:
    """Teams t1 (projects shop and blog) and t2 (project den)."""

    store: Store
    calls: Calls
    tasks: Tasks
    locks: Locks
    staged: Staged

    async def ask(
        self,
        caller: Caller,
        action: str,
        use_case: Callable[..., Awaitable[R]],
        *arguments: Any,
        key: str | None = None,
        token: str | None = None,
        **named: Any,
    ) -> R:
        """One call: `key` is its idempotency key, `token` its plan token."""
        params = {"arguments": arguments, **named}
        call = Call(caller=caller, action=action, params=params, idempotency_key=key, plan_token=token)
        return await self.calls.perform(call, lambda: use_case(call, *arguments, **named))

    async def lock(
        self, caller: Caller, *paths: str, project: str = "shop", key: str | None = None, **named: Any
    ):
        return await self.ask(caller, "lock_files", self.locks.lock, project, list(paths), key=key, **named)

    async def release(self, caller: Caller, *paths: str, **named: Any):
        return await self.ask(
            caller, "release_files", self.locks.release, "shop", list(paths) or None, **named
        )

    async def renew(self, caller: Caller, **named: Any):
        return await self.ask(caller, "renew_locks", self.locks.renew, "shop", **named)

    async def check(self, caller: Caller, *paths: str, **named: Any):
        return await self.ask(caller, "check_files", self.locks.check, "shop", list(paths), **named)

    async def take_over(self, caller: Caller, *paths: str, reason: str = "ann is away", **named: Any):
        return await self.ask(
            caller, "take_over_locks", self.locks.take_over, "shop", list(paths), reason, **named
        )

    async def create_task(
        self, caller: Caller, title: str = "Pay by card", project: str = "shop", **named: Any
    ):
        return await self.ask(caller, "create_task", self.tasks.create, project, title, **named)

    async def update_task(self, caller: Caller, task_id: str, **named: Any):
        return await self.ask(caller, "update_task", self.tasks.update, task_id, **named)

    async def get_task(self, caller: Caller, task_id: str):
        return await self.ask(caller, "get_task", self.tasks.get, task_id)

    async def held(self, project: str = "shop") -> dict[str, Lock]:
        """The stored locks by path, those whose lease has ended too (of two on a path the last by id)."""

        async def look(tx: Reading) -> dict[str, Lock]:
            return {lock.path: lock for lock in await tx.locks.of_project(project)}

        return await self.store.read(look)

    async def lapse(self, *paths: str) -> None:
        """The leases of these paths ended a second ago."""

        async def end(tx: Transaction) -> None:
            now = await tx.now()
            for lock in await tx.locks.of_project("shop"):
                if lock.path in paths:
                    await tx.locks.save(lock.change(expires_at=now - timedelta(seconds=1)))

        await self.store.run(end, SET_UP)


async def a_workshop(store: Store) -> Workshop:
    async def furnish(tx: Transaction) -> None:
        now = await tx.now()
        for team, projects in (("t1", ("shop", "blog")), ("t2", ("den",))):
            await tx.teams.add(
                Team(id=team, name=team, slug=team, owner="o@example.org", created_at=now, updated_at=now)
            )
            for name in projects:
                await tx.projects.add(
                    Project(name=name, uid=f"p-{name}", team_id=team, created_at=now, updated_at=now)
                )

    await store.run(furnish, SET_UP)
    return workshop_over(store)


def workshop_over(store: Store) -> Workshop:
    """On a store that is furnished already."""
    calls = Calls(store, MemoryCache(), Trail(store), rate_limit=1_000_000)
    locks = Locks(calls)
    return Workshop(store, calls, Tasks(calls), locks, Staged(locks))
