"""What a database URL says."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from mcp_server.domain.errors import Invalid


def is_postgres(url: str) -> bool:
    return url.partition(":")[0].lower() in ("postgres", "postgresql")


def sqlite_file(url: str) -> str:
    """`file:PATH`, `sqlite:///PATH` (relative) or `sqlite:////PATH`."""
    scheme = url.partition(":")[0].lower()
    if scheme == "sqlite":
        return unquote(url.partition("://")[2].partition("?")[0].removeprefix("/"))
    if scheme == "file":
        return unquote(urlsplit(url).path)
    raise Invalid.field("url", "must begin with postgresql:, sqlite: or file:")
