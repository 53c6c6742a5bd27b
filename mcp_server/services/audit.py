"""The audit log of the caller's team."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mcp_server.domain.audit import AuditFilter, AuditRow
from mcp_server.domain.errors import Invalid
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import Result
from mcp_server.ports.store import Reading
from mcp_server.services.calls import Call, Calls
from mcp_server.services.pages import page_size


class AuditItem(Value):
    """`ms` is the duration. `about` is `resource/id`. `params` only when asked for."""

    at: Moment
    action: str
    ok: bool
    user: str | None = None
    key_id: str | None = None
    about: str | None = None
    error: str | None = None
    ms: int | None = None
    params: dict[str, Any] | None = None


class AuditPage(Result):
    items: tuple[AuditItem, ...]
    cursor: str | None = None


class AuditLog:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def query(
        self,
        call: Call,
        *,
        action: str | None = None,
        resource: str | None = None,
        resource_id: str | None = None,
        key_id: str | None = None,
        success: bool | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        with_params: bool = False,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> AuditPage:
        """Rows of the caller's team, newest first. `since` is inclusive, `until` exclusive.

        A call appears within about a second of its end.
        """
        size = page_size(limit)
        wanted = AuditFilter(
            team_id=call.caller.team_id,
            action=action,
            resource=resource,
            resource_id=resource_id,
            key_id=key_id,
            success=success,
            since=_zoned("since", since),
            until=_zoned("until", until),
        )

        async def reading(tx: Reading) -> AuditPage:
            page = await tx.audit.find(wanted, limit=size, after=cursor)
            return AuditPage(items=tuple(_item(row, with_params) for row in page.items), cursor=page.cursor)

        return await self._calls.read(reading)


def _zoned(name: str, moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    try:
        return _in_utc(moment)
    except (ValueError, OverflowError) as error:
        raise Invalid.field(name, "a time with a time zone, as in 2026-01-31T08:00:00Z") from error


def _in_utc(moment: datetime) -> datetime:
    """Raises ValueError without a time zone, and OverflowError where UTC has no such year."""
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return moment.astimezone(UTC)


def _item(row: AuditRow, with_params: bool) -> AuditItem:
    about = "/".join(part for part in (row.resource, row.resource_id) if part)
    return AuditItem(
        at=row.timestamp,
        action=row.action,
        ok=row.success,
        user=row.user_id,
        key_id=row.key_id,
        about=about or None,
        error=row.error,
        ms=row.duration,
        params=row.params if with_params else None,
    )
