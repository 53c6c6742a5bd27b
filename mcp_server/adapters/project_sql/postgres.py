"""One statement on PostgreSQL, by the extended protocol, which takes no second one.

Nothing here looks at what the statement says, but for a superuser's. A read is a role that may only read, in a
transaction that was begun read-only and is never committed, on a session that ends; a write is kept only after its
effects were counted. A role that Quaymaster did not make may be able to write: then the transaction is the wall. A
superuser steps down to a role that may only read, and may only ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import anyio

from mcp_server.adapters.project_sql.parameters import bound
from mcp_server.adapters.project_sql.sessions import session, too_slow
from mcp_server.domain.databases import Login
from mcp_server.domain.errors import Invalid, OutcomeUnknown
from mcp_server.domain.queries import Bounds, Collected, Column, Effects, Rows, Statement, Written
from mcp_server.domain.schemas.statements import split

if TYPE_CHECKING:
    import asyncpg

BATCH = 50
ASKS = {"select", "with", "values", "table", "explain", "show"}
COMMIT_SECONDS = 30.0
NO_RIGHT = ("25006", "42501")
"""Read-only transaction, insufficient privilege."""

TOO_LONG = "57014"
LARGEST_SCHEMA = 20_000


async def read(login: Login, statement: Statement, bounds: Bounds) -> Rows:
    import asyncpg

    async with session(login, seconds=bounds.seconds, read_only=True) as connection:
        try:
            await connection.execute("BEGIN READ ONLY")
            if not login.ours:
                await _step_down(connection, statement)
            rows = await _run(connection, statement, bounds, to_the_end=False)
        except asyncpg.PostgresConnectionError:
            raise
        except asyncpg.PostgresError as error:
            _refuse(error, bounds, reading=True)
        await _roll_back(connection)
        return rows


async def _step_down(connection: asyncpg.Connection, statement: Statement) -> None:
    """What a superuser's statement could do in a read-only transaction (programs, files, other sessions) is none of
    what its first word may be, and not allowed to the role that it runs as. A statement that takes the superuser's
    role back is not held: an address for reading must be another role's."""
    if not await connection.fetchval("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user"):
        return
    if not {word for each in split(statement.sql, "postgres") for word in each.words[:1]} <= ASKS:
        raise Invalid(
            "as a superuser only SELECT, WITH, VALUES, TABLE, EXPLAIN and SHOW are run to read",
            next="Use an address of a role that is no superuser.",
            fault="read_only",
        )
    await connection.execute("SET LOCAL ROLE pg_read_all_data")


async def write(login: Login, statement: Statement, bounds: Bounds, confirmed: Effects | None) -> Written:
    import asyncpg

    async with session(login, seconds=bounds.seconds, read_only=False) as connection:
        try:
            await connection.execute("BEGIN READ WRITE")
            before = await _tables(connection)
            rows = await _run(connection, statement, bounds, to_the_end=True)
            if not connection.is_in_transaction():
                raise Invalid(
                    "the statement ended its transaction", next="A call is one transaction of its own."
                )
            effects = await _effects(connection, before)
        except asyncpg.PostgresConnectionError:
            raise
        except asyncpg.PostgresError as error:
            _refuse(error, bounds, reading=False)
        allowed = not effects.needs_plan(bounds) if confirmed is None else effects.within(confirmed)
        if not allowed:
            await _roll_back(connection)
            return Written(rows=Rows(), effects=effects, kept=False)
        await _commit(connection, bounds)
        return Written(rows=rows, effects=effects, kept=True)


async def apply(login: Login, statements: Sequence[str], seconds: float) -> list[str]:
    import asyncpg

    bounds = Bounds(seconds=seconds)
    async with session(login, seconds=seconds, read_only=False) as connection:
        try:
            await connection.execute("BEGIN READ WRITE")
            before = await _tables(connection)
            for statement in statements:
                await connection.execute(statement)
            after = await _tables(connection)
        except asyncpg.PostgresConnectionError:
            raise
        except asyncpg.PostgresError as error:
            _refuse(error, bounds, reading=False)
        await _commit(connection, bounds)
        return sorted(name for oid, (name, _, _) in after.items() if oid not in before)


async def _run(
    connection: asyncpg.Connection, statement: Statement, bounds: Bounds, *, to_the_end: bool
) -> Rows:
    """The rows up to the bounds. `to_the_end`: what comes after them is run, and let go."""
    import asyncpg

    prepared = await connection.prepare(statement.sql)
    arguments = bound(statement.parameters, prepared.get_parameters())
    columns = tuple(Column(name=one.name, type=one.type.name) for one in prepared.get_attributes())
    collected = Collected(bounds)
    try:
        cursor = await prepared.cursor(*arguments)
    except (asyncpg.DataError, ValueError, TypeError) as error:
        if isinstance(error, asyncpg.PostgresError):
            raise
        cursor = None
    if cursor is None:
        raise Invalid.field("parameters", "each must fit the type that its place in the statement has")
    wanted = True
    while wanted or to_the_end:
        batch = await cursor.fetch(BATCH)
        for record in batch:
            values = [_plain(value) for value in record.values()]
            wanted = collected.add(
                [
                    value.decode("utf-8", "replace")
                    if one.type == "char" and isinstance(value, bytes)
                    else value
                    for one, value in zip(columns, values, strict=True)
                ]
            )
            if not wanted and not to_the_end:
                break
        if len(batch) < BATCH:
            break
    return Rows(columns=columns, rows=tuple(collected.rows), truncated=collected.truncated)


def _plain(value: Any) -> Any:
    """Ranges in PostgreSQL's notation, composite values as lists."""
    import asyncpg

    if isinstance(value, asyncpg.Range):
        if value.isempty:
            return "empty"
        low = "" if value.lower is None else str(value.lower)
        high = "" if value.upper is None else str(value.upper)
        return f"{'[' if value.lower_inc else '('}{low},{high}{']' if value.upper_inc else ')'}"
    if isinstance(value, asyncpg.Record):
        return [_plain(item) for item in value.values()]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


Tables = dict[int, tuple[str, int | None, dict[int, str]]]
"""By oid: name, the file that holds the rows, the columns by number."""


async def _tables(connection: asyncpg.Connection) -> Tables:
    rows = await connection.fetch(
        """
        SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name,
          CASE WHEN c.relkind = 'r' THEN pg_relation_filenode(c.oid) END AS file,
          ARRAY(SELECT a.attnum::INT FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS numbers,
          ARRAY(SELECT a.attname::TEXT FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS names
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
        ORDER BY c.oid LIMIT $1
        """,
        LARGEST_SCHEMA,
    )
    return {
        row["oid"]: (row["name"], row["file"], dict(zip(row["numbers"], row["names"], strict=True)))
        for row in rows
    }


async def _effects(connection: asyncpg.Connection, before: Tables) -> Effects:
    """Counted by the server for this transaction, cascades and triggers included, deferred ones too.

    The statement may have set another search path: what follows names its schema.
    """
    await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    await connection.execute("SET LOCAL search_path TO pg_catalog, pg_temp")
    changed = await connection.fetchval(
        """
        SELECT coalesce(sum(s.n_tup_ins + s.n_tup_upd + s.n_tup_del), 0)::BIGINT
        FROM pg_catalog.pg_stat_xact_user_tables s
        """
    )
    return Effects(changed=changed, lost=_lost(before, await _tables(connection)))


def _lost(before: Tables, after: Tables) -> tuple[str, ...]:
    lost: list[str] = []
    for oid, (name, file, columns) in before.items():
        if oid not in after:
            lost.append(f"table {name}")
            continue
        _, file_now, columns_now = after[oid]
        if file_now != file:
            lost.append(f"the rows of table {name} (emptied or rewritten)")
        lost += [f"column {columns[number]} of {name}" for number in columns if number not in columns_now]
    return tuple(lost[:100])


async def _roll_back(connection: asyncpg.Connection) -> None:
    """Waited for, so that no lock outlives the call; the session's end would do it, too."""
    import asyncpg

    with anyio.move_on_after(2):
        try:
            await connection.execute("ROLLBACK")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return


async def _commit(connection: asyncpg.Connection, bounds: Bounds) -> None:
    """Not to be cancelled: the caller must be able to hear what became of it."""
    import asyncpg

    try:
        with anyio.fail_after(COMMIT_SECONDS, shield=True):
            await connection.execute("COMMIT")
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise OutcomeUnknown("the connection broke while the change was being kept") from error
    except asyncpg.PostgresError as error:
        _refuse(error, bounds, reading=False)


def _refuse(error: asyncpg.PostgresError, bounds: Bounds, *, reading: bool) -> NoReturn:
    """PostgreSQL's words go into the details: they may quote data, and messages are kept in the audit log."""
    state = error.sqlstate or "XX000"
    if state == TOO_LONG:
        raise too_slow(bounds.seconds) from None
    words: dict[str, Any] = {"server_message": str(error.args[0])[:1000] if error.args else ""}
    for name in ("detail", "hint", "position"):
        if getattr(error, name, None):
            words[name] = str(getattr(error, name))[:1000]
    next_step = None
    if reading and state in NO_RIGHT:
        words["fault"] = "read_only"
        next_step = "A read changes nothing. To change data pass write=true (role member)."
    raise Invalid(
        f"PostgreSQL refused the statement: {type(error).__name__.removesuffix('Error')} ({state})",
        next=next_step or "Correct the statement; server_message has PostgreSQL's words.",
        sqlstate=state,
        **words,
    ) from None
