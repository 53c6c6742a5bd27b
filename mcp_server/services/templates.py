"""Schema templates, applied to a project's database by name."""

from __future__ import annotations

from mcp_server.domain.database_templates import TEMPLATES, TemplateName
from mcp_server.domain.databases import Database, Login
from mcp_server.domain.errors import Conflict, Invalid
from mcp_server.domain.results import Result
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.queries import Scripts
from mcp_server.ports.store import Transaction
from mcp_server.services.calls import Call
from mcp_server.services.databases.holding import Holding
from mcp_server.services.databases.parts import Parts
from mcp_server.services.queries import Targets

SECONDS = 60.0


class Applied(Result):
    """`tables` are those that the database has now and lacked before."""

    project: str
    template: TemplateName
    tables: tuple[str, ...] = ()


class _Noted(Result):
    uid: str


class Templates:
    def __init__(self, parts: Parts, holding: Holding, scripts: Scripts) -> None:
        self._parts = parts
        self._holding = holding
        self._targets = Targets(parts)
        self._scripts = scripts

    async def apply(
        self,
        call: Call,
        *,
        project: str,
        template: TemplateName,
        environment: EnvironmentName | None = None,
    ) -> Applied:
        """All of it or nothing; what is there already stays. Raises Invalid on SQLite, and Conflict without the
        extensions that it needs."""
        chosen = TEMPLATES[template]

        async def transaction(tx: Transaction) -> _Noted:
            return _Noted(
                uid=_fit(await self._holding.held(tx, call, project, environment), chosen.extensions).uid
            )

        await self._parts.calls.write(call, transaction, _Noted)
        database, target = await self._targets.of(call, project, environment, write=True)
        if not isinstance(target, Login):
            raise Invalid.field("template", "only with PostgreSQL")
        made = await self._scripts.apply(target, chosen.statements, seconds=SECONDS)
        return Applied(project=database.project, template=template, tables=tuple(made))


def _fit(database: Database, extensions: tuple[str, ...]) -> Database:
    if database.engine != "postgres":
        raise Invalid.field("template", "only with PostgreSQL")
    missing = sorted(set(extensions) - set(database.extensions))
    if missing:
        raise Conflict(
            f"this database lacks the extension {', '.join(missing)}",
            next=f"Create it with extensions={missing}: create_database takes them.",
        )
    return database
