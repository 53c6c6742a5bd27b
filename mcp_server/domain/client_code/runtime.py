"""The module that the generated ones share: SQL from names and values, for either engine."""

from __future__ import annotations

from mcp_server.domain.shapes import Engine

_HEAD = '''\
"""What the modules of this package share."""

from __future__ import annotations

import enum
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias
@IMPORT@
Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


class Unset(enum.Enum):
    """The type of an argument that was not given."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class Row(Protocol):
    def __getitem__(self, key: str, /) -> Any: ...


class Fetching(Protocol):
    """@FETCHING@"""

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]: ...

@CONNECTION@

def json_text(value: Json | Unset) -> str | Unset:
    return UNSET if isinstance(value, Unset) else json.dumps(value)


def json_or_null(value: Json | Unset) -> str | Unset | None:
    return None if value is None else json_text(value)


def json_value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


@dataclass(frozen=True)
class Table:
    """`key` orders the rows. `columns` maps each column to the type that its text is cast to, if it travels as text."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]

    async def get(self, connection: Connection, key: Mapping[str, Any]) -> Row | None:
        sql = f"SELECT {self._selected()} FROM {self.name} WHERE {self._matches(0)}"
        return _first(await _read(connection, sql, *key.values()))

    async def page(
        self,
        connection: Connection,
        after: tuple[Any, ...] | None,
        limit: int,
    ) -> Sequence[Row]:
        names = ", ".join(_quoted(name) for name in self.key)
        since = ""
        if after is not None:
            marks = ", ".join(self._marks(self.key))
            since = f" WHERE ({names}) > ({marks})"
        order = f" ORDER BY {names}" if self.key else ""
        last = @LIMIT@
        sql = f"SELECT {self._selected()} FROM {self.name}{since}{order} LIMIT {last}"
        return await _read(connection, sql, *(after or ()), limit)

    async def insert(self, connection: Connection, values: Mapping[str, Any]) -> Row:
        given = _given(values)
        sql = f"{self._inserting(given)} RETURNING {self._selected()}"
        return (await _fetch(connection, sql, *given.values()))[0]

    async def upsert(self, connection: Connection, values: Mapping[str, Any]) -> Row:
        given = _given(values)
        changed = [name for name in given if name not in self.key] or list(self.key)
        sets = ", ".join(map(_excluded, changed))
        key = ", ".join(_quoted(name) for name in self.key)
        into = f"{self._inserting(given)} ON CONFLICT ({key})"
        sql = f"{into} DO UPDATE SET {sets} RETURNING {self._selected()}"
        return (await _fetch(connection, sql, *given.values()))[0]

    async def update(
        self,
        connection: Connection,
        key: Mapping[str, Any],
        values: Mapping[str, Any],
    ) -> Row | None:
        given = _given(values)
        if not given:
            return await self.get(connection, key)
        sets = ", ".join(self._pairs(given, 0))
        change = f"UPDATE {self.name} SET {sets} WHERE {self._matches(len(given))}"
        sql = f"{change} RETURNING {self._selected()}"
        return _first(await _fetch(connection, sql, *given.values(), *key.values()))

    async def delete(self, connection: Connection, key: Mapping[str, Any]) -> bool:
        sql = f"DELETE FROM {self.name} WHERE {self._matches(0)} RETURNING 1"
        return bool(await _fetch(connection, sql, *key.values()))

    def _inserting(self, given: Mapping[str, Any]) -> str:
        if not given:
            return f"INSERT INTO {self.name} DEFAULT VALUES"
        names = ", ".join(_quoted(name) for name in given)
        marks = ", ".join(self._marks(given))
        return f"INSERT INTO {self.name} ({names}) VALUES ({marks})"

    def _matches(self, start: int) -> str:
        return " AND ".join(self._pairs(self.key, start))

    def _pairs(self, names: Collection[str], start: int) -> list[str]:
        marked = zip(names, self._marks(names, start), strict=True)
        return [f"{_quoted(name)} = {mark}" for name, mark in marked]

    def _marks(self, names: Collection[str], start: int = 0) -> list[str]:
        return [self._mark(name, place) for place, name in enumerate(names, start)]

    def _selected(self) -> str:
        return ", ".join(
            f"{_quoted(name)}::text AS {_quoted(name)}" if cast else _quoted(name)
            for name, cast in self.columns.items()
        )

    def _mark(self, name: str, place: int) -> str:
        @MARK@


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not UNSET}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _excluded(name: str) -> str:
    return f"{_quoted(name)} = excluded.{_quoted(name)}"


def _first(rows: Sequence[Row]) -> Row | None:
    return rows[0] if rows else None


async def _read(connection: Connection, sql: str, *args: Any) -> Sequence[Row]:
    """A client that can may run this again after a lost connection: it only reads."""
    read = getattr(connection, "read", None)
    if read is None:
        return await _fetch(connection, sql, *args)
    rows: Sequence[Row] = await read(sql, *args)
    return rows

'''
_POSTGRES_MARK = """\
cast = self.columns[name]
        return f"CAST(${place + 1}::text AS {cast})" if cast else f"${place + 1}"\
"""
_POSTGRES_TAIL = """
async def _fetch(connection: Connection, sql: str, *args: Any) -> Sequence[Row]:
    return await connection.fetch(sql, *args)
"""
_SQLITE_TAIL = """
async def _fetch(connection: Connection, sql: str, *args: Any) -> Sequence[Row]:
    if not isinstance(connection, aiosqlite.Connection):
        return await connection.fetch(sql, *args)
    async with connection.execute(sql, args) as cursor:
        names = [column[0] for column in cursor.description or ()]
        rows = await cursor.fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]
"""


def runtime(engine: Engine) -> str:
    postgres = engine == "postgres"
    parts = {
        "@IMPORT@": "" if postgres else "\nimport aiosqlite\n",
        "@FETCHING@": (
            "An asyncpg connection or pool, or a client or transaction of `mcp_server.databases`."
            if postgres
            else "A client or transaction of `mcp_server.databases`."
        ),
        "@CONNECTION@": (
            "\nConnection: TypeAlias = Fetching\n"
            if postgres
            else "\nConnection: TypeAlias = Fetching | aiosqlite.Connection\n"
        ),
        "@LIMIT@": 'f"${len(after or ()) + 1}"' if postgres else '"?"',
        "@MARK@": _POSTGRES_MARK if postgres else 'return "?"',
    }
    text = _HEAD + (_POSTGRES_TAIL if postgres else _SQLITE_TAIL)
    for name, part in parts.items():
        text = text.replace(name, part)
    return text
