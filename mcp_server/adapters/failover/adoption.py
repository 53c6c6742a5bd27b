"""What a home that worked without PostgreSQL must not lose when it takes to one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, cast

from mcp_server.domain.errors import Invalid
from mcp_server.domain.pages import MAX_LIMIT, Page
from mcp_server.domain.records import Record
from mcp_server.ports.mirror import Mirror, Primary
from mcp_server.ports.repositories import Repository
from mcp_server.ports.store import Reading


async def require_known(primary: Primary, mirror: Mirror) -> None:
    """Raises Invalid when the home has records of its own that PostgreSQL lacks."""
    own = await mirror.read(_its_own)
    missing = await primary.read(partial(_missing, own))
    if missing and not await primary.read(_has_teams):
        raise Invalid(
            "this home holds data of its own, and PostgreSQL is empty",
            next="Run 'quaymaster registry import' to bring the data over, or set QUAYMASTER_HOME to a new directory.",
        )
    if missing:
        noun, key = missing[0]
        raise Invalid(
            f"this home holds data of its own that PostgreSQL does not have ({noun} {key}"
            + (f" and {len(missing) - 1} more)" if len(missing) > 1 else ")"),
            next="Set QUAYMASTER_HOME to a new directory to work with this PostgreSQL, "
            "or name an empty database and run 'quaymaster registry import'.",
        )


async def _has_teams(tx: Reading) -> bool:
    return bool((await tx.teams.list(limit=1)).items)


async def _its_own(tx: Reading) -> list[tuple[str, str]]:
    """(noun, key) of what a home cannot lose: teams, and what they consist of."""
    found: list[tuple[str, str]] = []
    for team in await _all(tx.teams.list):
        found.append((team.noun, team.key))
        for pages in (tx.projects.of_team, tx.keys.of_team, tx.members.of_team):
            found += [(each.noun, each.key) for each in await _all(partial(pages, team.id))]
    return found


async def _missing(names: Sequence[tuple[str, str]], tx: Reading) -> list[tuple[str, str]]:
    """Which of these are not there."""
    return [
        (noun, key)
        for noun, key in names
        if await cast("Repository[Record]", getattr(tx, noun)).get(key) is None
    ]


async def _all(list_page: Callable[..., Awaitable[Page[Any]]]) -> list[Any]:
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = await list_page(limit=MAX_LIMIT, after=cursor)
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found
