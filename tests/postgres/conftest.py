"""A primary on a fresh database, brought up to date."""

from collections.abc import AsyncIterator

import pytest

from mcp_server.adapters.postgres.primary import PostgresPrimary


@pytest.fixture
async def primary(database_url: str) -> AsyncIterator[PostgresPrimary]:
    opened = PostgresPrimary(database_url)
    try:
        await opened.prepare()
        yield opened
    finally:
        await opened.close()
