"""Statements by the kind of database they are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcp_server.adapters.project_sql import figures, postgres, sqlite
from mcp_server.adapters.project_sql.threads import Threads
from mcp_server.domain.databases import Login
from mcp_server.domain.queries import Bounds, Effects, Rows, Statement, Target, Written


class ProjectStatements:
    def __init__(self) -> None:
        self._threads = Threads()

    async def read(self, target: Target, statement: Statement, bounds: Bounds) -> Rows:
        if isinstance(target, Login):
            return await postgres.read(target, statement, bounds)
        return await sqlite.read(self._threads, target, statement, bounds)

    async def write(
        self, target: Target, statement: Statement, bounds: Bounds, confirmed: Effects | None
    ) -> Written:
        if isinstance(target, Login):
            return await postgres.write(target, statement, bounds, confirmed)
        return await sqlite.write(self._threads, target, statement, bounds, confirmed)


class ProjectScripts:
    async def apply(self, login: Login, statements: Sequence[str], *, seconds: float) -> Sequence[str]:
        return await postgres.apply(login, statements, seconds)


class ProjectFigures:
    async def of(self, target: Target, *, seconds: float) -> dict[str, Any]:
        if isinstance(target, Login):
            return await figures.of_postgres(target, seconds)
        return await figures.of_sqlite(target, seconds)
