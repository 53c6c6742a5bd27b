"""What belongs to a project and goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

from mcp_server.domain.backups import Branch
from mcp_server.domain.deployments import Deployment
from mcp_server.domain.domains import DomainName
from mcp_server.domain.environments import EnvironmentVersion, ProjectEnvironment
from mcp_server.domain.locks import Lock, LockScope
from mcp_server.domain.records import Record
from mcp_server.domain.slots import SlotPair
from mcp_server.domain.tasks import Task
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Transaction
from mcp_server.services.pages import every

NAMED = 10
"""A plan names this many things of each kind and counts the rest."""


@dataclass(frozen=True, slots=True)
class Belongings:
    """What goes with a project, read after the project and its lock scope were held."""

    scope: LockScope | None
    locks: Sequence[Lock]
    tasks: Sequence[Task]
    slots: Sequence[SlotPair]
    deployments: Sequence[Deployment]
    domains: Sequence[DomainName]
    environments: Sequence[ProjectEnvironment]
    versions: Sequence[EnvironmentVersion]
    branches: Sequence[Branch]

    def decisive(self) -> tuple[Record, ...]:
        """The records whose change makes a plan stale.

        A version is never changed, and moves its environment.
        """
        held: tuple[Record, ...] = () if self.scope is None else (self.scope,)
        return (
            *held,
            *self.locks,
            *self.tasks,
            *self.slots,
            *self.deployments,
            *self.domains,
            *self.environments,
            *self.branches,
        )

    def effects(self) -> list[str]:
        named = [
            _lost("file lock", [lock.path for lock in self.locks]),
            _lost("task", [task.title for task in self.tasks]),
            _lost("slot pair", [_slots(pair) for pair in self.slots]),
            _lost("deployment", [deployment.id for deployment in self.deployments]),
            _lost("domain", [domain.domain for domain in self.domains]),
            _lost("environment", [one.environment for one in self.environments]),
            _lost("environment version", [f"{one.environment} {one.version}" for one in self.versions]),
            _lost("branch", [one.name for one in self.branches], "branches"),
        ]
        return [line for line in named if line is not None]

    async def remove(self, tx: Transaction) -> None:
        """Children before what they refer to."""
        for lock in self.locks:
            await tx.locks.remove(lock)
        if self.scope is not None:
            await tx.lock_scopes.remove(self.scope)
        for task in self.tasks:
            await tx.tasks.remove(task)
        for version in self.versions:
            await tx.environment_versions.remove(version)
        for environment in self.environments:
            await tx.environments.remove(environment)
        for domain in self.domains:
            await tx.domains.remove(domain)
        for deployment in self.deployments:
            await tx.deployments.remove(deployment)
        for pair in self.slots:
            await tx.slots.remove(pair)
        for branch in self.branches:
            await tx.branches.remove(branch)


async def belongings_of(tx: Transaction, project: str) -> Belongings:
    scope = await tx.lock_scopes.hold(project)
    versions: list[EnvironmentVersion] = []
    for environment in get_args(EnvironmentName):
        versions += await every(partial(tx.environment_versions.of_environment, project, environment))
    return Belongings(
        scope=scope,
        locks=await tx.locks.of_project(project),
        tasks=await every(partial(tx.tasks.of_project, project)),
        slots=await tx.slots.of_project(project),
        deployments=await every(partial(tx.deployments.of_project, project)),
        domains=await every(partial(tx.domains.of_project, project)),
        environments=await tx.environments.of_project(project),
        versions=versions,
        branches=await tx.branches.of_project(project),
    )


def _lost(kind: str, names: Sequence[str], several: str = "") -> str | None:
    """One line of a plan: how many of a kind, the first of them by name."""
    if not names:
        return None
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    shown = ", ".join(name[:80] for name in names[:NAMED])
    return f"{len(names)} {kind if len(names) == 1 else several or f'{kind}s'} deleted: {shown}{rest}"


def _slots(pair: SlotPair) -> str:
    return f"{pair.environment} ({f'active: {pair.active}' if pair.active else 'none active'})"
