"""Reading the shape of a live database."""

from __future__ import annotations

from typing import Protocol

from mcp_server.domain.shapes import Shape


class Shapes(Protocol):
    """A URL is `postgresql://...`, `file:PATH` or `sqlite:///PATH`. Raises Unavailable, without the URL in it."""

    async def of(self, url: str, schemas: tuple[str, ...] = ()) -> Shape:
        """Tables and views by name, columns in their order. `schemas` are PostgreSQL's: the first one's tables are
        named without it; none means all that are not the system's, `public` first. Tables that Quaymaster keeps
        for itself are left out."""
        ...
