"""All databases of an application."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from mcp_server.databases import platforms
from mcp_server.databases.addresses import engine_of, sqlite_path, urls_from
from mcp_server.databases.clients import Client
from mcp_server.databases.drivers import Driver
from mcp_server.databases.errors import DatabaseUnavailable, UnknownDatabase
from mcp_server.databases.links import ApplicationHooks, Health, Link, OnError, OnReconnect
from mcp_server.databases.pools import Limits


class Databases:
    """Databases by name. Making one opens nothing and may happen at import; `close` or `async with` ends it.

    `databases`: names, whose URLs come from `RDS_{NAME}_URL`; or names with their URLs; or None for every such
    variable that is set. `check_interval`: seconds for which a good check holds (default 15 on a serverless
    platform, else 60). `on_error(name, error)` and `on_reconnect(name)` may be async.
    """

    def __init__(
        self,
        databases: Mapping[str, str] | Iterable[str] | None = None,
        *,
        check_interval: float | None = None,
        on_error: OnError | None = None,
        on_reconnect: OnReconnect | None = None,
        limits: Limits | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        urls = dict(databases) if isinstance(databases, Mapping) else urls_from(environ, databases)
        limits = limits or Limits()
        self.serverless = platforms.is_serverless(environ)
        self.check_interval = platforms.check_interval(environ) if check_interval is None else check_interval
        self.hooks = ApplicationHooks(on_error, on_reconnect)
        self._links = {
            name: Link(name, _driver(url, limits), limits, self.hooks) for name, url in urls.items()
        }

    @property
    def names(self) -> list[str]:
        return list(self._links)

    async def client(self, name: str, *, within: float | None = None) -> Client:
        """The client of a database that is there: checked now, or at most `check_interval` seconds ago.

        Raises DatabaseUnavailable, UnknownDatabase.
        """
        link = self._link(name)
        await link.ready(self.check_interval if within is None else within)
        return Client(link)

    def client_sync(self, name: str) -> Client:
        """The client without looking whether its database is there; it connects when it is first used."""
        return Client(self._link(name))

    async def check(self, names: Iterable[str] | None = None, *, within: float | None = None) -> list[Health]:
        """The health of these databases (all of them without names), side by side. Raises UnknownDatabase only."""
        chosen = [self._link(name) for name in (self.names if names is None else names)]
        within = self.check_interval if within is None else within
        await asyncio.gather(*(_settle(link, within) for link in chosen))
        return [link.health() for link in chosen]

    async def close(self) -> None:
        """Ends all connections. Using a client afterwards opens new ones."""
        await asyncio.gather(*(link.close() for link in self._links.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _link(self, name: str) -> Link:
        if name not in self._links:
            raise UnknownDatabase(name, self.names)
        return self._links[name]


async def _settle(link: Link, within: float) -> None:
    try:
        await link.ready(within)
    except DatabaseUnavailable:
        return


def _driver(url: str, limits: Limits) -> Driver[Any]:
    """A driver is imported when a database needs it."""
    if engine_of(url) == "postgres":
        from mcp_server.databases.postgres import PostgresDriver

        return PostgresDriver(url, limits.statement_seconds)
    from mcp_server.databases.sqlite import SqliteDriver

    return SqliteDriver(sqlite_path(url), limits.statement_seconds)
