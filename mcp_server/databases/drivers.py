"""What a pool needs of a driver. One class for PostgreSQL, one for SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

Row = dict[str, Any]
Raw = TypeVar("Raw")


class Driver(Protocol[Raw]):
    """Opens and uses connections of one database. Errors are the driver's own, unless said otherwise."""

    async def connect(self, seconds: float) -> Raw:
        """Raises TimeoutError after `seconds`."""
        ...

    async def probe(self, raw: Raw) -> None:
        """A short question that only a working database answers."""
        ...

    async def fetch(self, raw: Raw, sql: str, args: Sequence[Any]) -> list[Row]: ...

    async def execute(self, raw: Raw, sql: str, args: Sequence[Any]) -> int:
        """Rows that were touched; -1 where the database does not say."""
        ...

    async def begin(self, raw: Raw, *, readonly: bool) -> None: ...

    async def commit(self, raw: Raw) -> None: ...

    async def reset(self, raw: Raw) -> None:
        """Make the connection as good as new for its next user."""
        ...

    def is_usable(self, raw: Raw) -> bool:
        """Without asking the database."""
        ...

    async def close(self, raw: Raw) -> None:
        """At once, and without waiting for the database."""
        ...

    def is_loss(self, error: BaseException) -> bool:
        """Whether the error means that the connection, not the statement, failed."""
        ...
