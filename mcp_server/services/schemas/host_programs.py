"""pg_dump and pg_restore of this host, for backups of a database that Quaymaster did not make."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from mcp_server.domain.databases import Login
from mcp_server.domain.schemas.addresses import login_of
from mcp_server.ports.backups import Sink
from mcp_server.ports.schemas import Engines


class HostPrograms:
    """`shadow_url` names a role that may create databases, where that of `url` may not."""

    def __init__(self, engines: Engines, url: str, shadow_url: str | None) -> None:
        self._engines = engines
        self._url = url
        self._shadow_url = shadow_url

    async def dump(self, snapshot: str, sink: Sink) -> None:
        await self._engines.dump(self._url, snapshot, sink)

    async def load(self, into: str, pieces: AsyncIterator[bytes]) -> None:
        await self._engines.load(into, pieces)

    def scratch(self) -> AbstractAsyncContextManager[str]:
        return self._engines.scratch(self._url, self._shadow_url)

    def login(self, address: str) -> Login:
        return login_of(address)
