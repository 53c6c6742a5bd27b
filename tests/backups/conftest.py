"""Backups over a yard on the real engine, and over files alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from mcp_server.adapters.backup_files.scratch import HomeScratch
from mcp_server.adapters.backup_files.sealed import SealedFiles
from mcp_server.adapters.project_sql.sums import FileCopies, ProjectSums
from mcp_server.domain.backups import Backup, Retention
from mcp_server.services.backups.service import Backups
from mcp_server.services.calls import Call
from tests.databases.conftest import in_a_task, make_yard, store, yard
from tests.databases.yards import ANN, Yard

__all__ = ["in_a_task", "make_yard", "store", "yard"]


@dataclass
class Vault:
    yard: Yard
    backups: Backups

    async def ask(self, use_case: Callable[..., Awaitable[Any]], action: str, /, **arguments: Any) -> Any:
        token, caller = arguments.pop("token", None), arguments.pop("caller", ANN)
        key = arguments.pop("key", None)
        call = Call(caller=caller, action=action, params=arguments, plan_token=token, idempotency_key=key)
        return await self.yard.calls.perform(call, lambda: use_case(call, **arguments))

    async def back_up(self, project: str = "shop", **arguments: Any) -> Any:
        return await self.ask(
            self.backups.create,
            "backup_database",
            project=self.yard.named(project),
            wait_seconds=60,
            **arguments,
        )

    async def restore(self, backup_id: str, **arguments: Any) -> Any:
        """The plan, and then its token."""
        plan = await self.ask(self.backups.restore, "restore_database", backup_id=backup_id, **arguments)
        return await self.ask(
            self.backups.restore,
            "restore_database",
            backup_id=backup_id,
            token=plan.plan_token,
            wait_seconds=60,
            **arguments,
        )

    async def record(self, id: str) -> Backup:
        found = await self.yard.store.read(lambda tx: tx.backups.get(id))
        assert found is not None
        return found

    async def sql(self, *statements: str, project: str = "shop") -> Any:
        """Run them one after the other as the project's role; the value of the last."""
        connection = await asyncpg.connect(await self.yard.url(project))
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    @property
    def folder(self) -> Path:
        return self.yard.home / "backups"


def vault_over(yard: Yard, **options: Any) -> Vault:
    parts = yard.databases.parts
    backups = Backups(
        parts,
        yard.databases.holding,
        SealedFiles(yard.home / "backups", parts.sealer),
        ProjectSums(),
        FileCopies(),
        HomeScratch(yard.home / "scratch"),
        retention=Retention(**options),
    )
    return Vault(yard, backups)


@pytest.fixture
async def vault(yard: Yard) -> Vault:
    return vault_over(yard)
