"""Shapes by URL: which engine answers for which."""

from __future__ import annotations

from mcp_server.adapters.catalog import sqlite_shapes
from mcp_server.adapters.catalog.places import is_postgres, sqlite_file
from mcp_server.domain.shapes import Shape


class LiveShapes:
    async def of(self, url: str, schemas: tuple[str, ...] = ()) -> Shape:
        if is_postgres(url):
            from mcp_server.adapters.catalog import postgres_shapes

            return await postgres_shapes.read(url, schemas)
        return await sqlite_shapes.read(sqlite_file(url))
