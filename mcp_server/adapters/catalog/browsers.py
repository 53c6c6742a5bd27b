"""Browsers by URL: which engine answers for which."""

from __future__ import annotations

from mcp_server.adapters.catalog.places import is_postgres, sqlite_file
from mcp_server.adapters.catalog.postgres_rows import PostgresBrowser
from mcp_server.adapters.catalog.sqlite_rows import SqliteBrowser


def browser_of(url: str, schemas: tuple[str, ...] = ()) -> PostgresBrowser | SqliteBrowser:
    """Nothing is opened yet. Raises Invalid for a URL of another kind."""
    return PostgresBrowser(url, schemas) if is_postgres(url) else SqliteBrowser(sqlite_file(url))
