"""Lists in pages: what a caller may ask for, and all of a short one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from mcp_server.domain.errors import Invalid
from mcp_server.domain.pages import MAX_LIMIT, Page

T = TypeVar("T")


def page_size(limit: int) -> int:
    """The limit itself. Raises Invalid when it is not 1-200."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid.field("limit", f"1-{MAX_LIMIT}")
    return limit


async def every(fetch: Callable[..., Awaitable[Page[T]]]) -> list[T]:
    """All items of a list, page by page; `fetch` takes `limit` and `after`."""
    page = await fetch(limit=MAX_LIMIT)
    items = list(page.items)
    while page.cursor is not None:
        page = await fetch(limit=MAX_LIMIT, after=page.cursor)
        items.extend(page.items)
    return items
