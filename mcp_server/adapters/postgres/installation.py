"""Which PostgreSQL this is, what is true of the whole installation, and which homes share it.

`observed` is the system identifier of the cluster. A dump that is restored elsewhere shows another one: the
  transaction ids
of its log are then of a foreign cluster,
  and `recognise` makes them older than everything. Where the role may not call
pg_control_system(), the database's number stands in; then only a log whose transaction ids lie in the future
  gives a foreign
cluster away.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import asyncpg

from mcp_server.adapters.postgres.connections import Connection, atomic
from mcp_server.domain.errors import Conflict
from mcp_server.ports.mirror import Claim, Gone, Identity


async def identify(connection: Connection) -> Identity:
    observed = await _observed(connection)
    tables = await connection.fetchrow(
        """
        SELECT to_regclass('schema_migrations') IS NOT NULL AS migrated,
          to_regclass('installation') IS NOT NULL AS named
        """
    )
    assert tables is not None  # noqa: S101  # a SELECT without FROM
    version = row = None
    if tables["migrated"]:
        version = await connection.fetchval("SELECT max(version) FROM schema_migrations")
    if tables["named"]:
        row = await connection.fetchrow("SELECT id, observed, cluster, epoch FROM installation")
    if row is None:
        return Identity(installation=None, cluster=observed, schema_version=version or 0, epoch=0)
    return Identity(
        installation=row["id"],
        cluster=row["cluster"] if row["observed"] == observed else observed,
        schema_version=version or 0,
        epoch=row["epoch"],
    )


async def recognise(connection: Connection) -> None:
    """Draw the installation's id where there is none; mend the log of a cluster that was restored
    elsewhere."""
    observed = await _observed(connection)
    async with atomic(connection):
        await connection.execute(
            "INSERT INTO installation (id, observed, cluster) VALUES ($1, $2, $2) ON CONFLICT DO NOTHING",
            uuid.uuid4().hex,
            observed,
        )
        foreign = await connection.fetchval(
            """
            SELECT observed <> $1
              OR EXISTS (SELECT 1 FROM change_log WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))
            FROM installation FOR UPDATE
            """,
            observed,
        )
        if foreign:
            await connection.execute("UPDATE change_log SET xid = '0' WHERE xid <> '0'")
            await connection.execute("UPDATE homes SET horizon = NULL")
            await connection.execute(
                "UPDATE installation SET observed = $1, cluster = $2, trimmed_xid = '0'",
                observed,
                f"{observed}/{uuid.uuid4().hex[:8]}",
            )


async def rename(connection: Connection, installation: str, home: str) -> None:
    """Raises Conflict where a home other than `home` knows it by its present name."""
    async with atomic(connection):
        present = await connection.fetchval("SELECT id FROM installation FOR UPDATE")
        if present == installation:
            return
        other = await connection.fetchval("SELECT min(id) FROM homes WHERE id <> $1", home)
        if other is not None:
            raise Conflict(
                f"the home {other} works with this PostgreSQL already; an import goes into an empty one only",
                next="Name an empty database, or set QUAYMASTER_HOME to a new directory to use this one as it is.",
            )
        await connection.execute("UPDATE installation SET id = $1", installation)


async def count_on(connection: Connection, gone: Sequence[Gone]) -> None:
    await connection.execute(
        """
        INSERT INTO tombstones (noun, key, rev, at)
        SELECT * FROM unnest($1::TEXT[], $2::TEXT[], $3::BIGINT[], $4::TIMESTAMPTZ[])
        ON CONFLICT (noun, key) DO UPDATE SET
          rev = greatest(tombstones.rev, excluded.rev), at = greatest(tombstones.at, excluded.at)
        """,
        [each.noun for each in gone],
        [each.key for each in gone],
        [each.rev for each in gone],
        [each.at for each in gone],
    )


async def raise_epoch(connection: Connection, at_least: int) -> int:
    epoch: int = await connection.fetchval(
        "UPDATE installation SET epoch = greatest(epoch, $1) RETURNING epoch", at_least
    )
    return epoch


async def claim(connection: Connection, home: str, place: str, *, confirm: bool, force: bool) -> Claim:
    """Who may grant alone. The first home is alone; another one asks; once the first has confirmed, none is.

    A home that finds no other one registered is alone again. `force` strikes off the present holder, and the homes
    that have been silent for a minute; the home is alone when no other one is left. A home whose id is registered at
    another place only takes that place by force.
    """
    async with atomic(connection):
        registered = await connection.fetchval(
            """
            INSERT INTO homes (id, place, seen_at) VALUES ($1, $2, clock_timestamp())
            ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, place = excluded.place
            WHERE homes.place IS NULL OR homes.place = excluded.place OR $3
            RETURNING true
            """,
            home,
            place,
            force,
        )
        row = await connection.fetchrow("SELECT alone_home, alone_asked_by FROM installation FOR UPDATE")
        assert row is not None  # noqa: S101  # prepare made the row
        holder, asked = row["alone_home"], row["alone_asked_by"]
        if not registered:
            homes = await _homes(connection)
            return Claim(alone=False, holder=holder, asked_by=asked, homes=homes, copied=True)
        if force and holder != home:
            await connection.execute(
                """
                DELETE FROM homes
                WHERE id <> $1 AND (id = $2 OR seen_at < clock_timestamp() - interval '1 minute')
                """,
                home,
                holder,
            )
            holder, asked = None, None
        homes = await _homes(connection)
        if confirm and holder == home:
            holder, asked = None, None
        elif holder is None and homes == [home]:
            holder, asked = home, None
        elif holder not in (None, home):
            asked = asked or home
        await connection.execute(
            "UPDATE installation SET alone_home = $1, alone_asked_by = $2", holder, asked
        )
    return Claim(alone=holder == home, holder=holder, asked_by=asked, homes=homes)


async def place_of(connection: Connection, home: str) -> str | None:
    place: str | None = await connection.fetchval("SELECT place FROM homes WHERE id = $1", home)
    return place


async def _homes(connection: Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT id FROM homes WHERE seen_at > clock_timestamp() - interval '7 days' ORDER BY id COLLATE \"C\""
    )
    return [row["id"] for row in rows]


async def _observed(connection: Connection) -> str:
    try:
        return str(await connection.fetchval("SELECT system_identifier::TEXT FROM pg_control_system()"))
    except asyncpg.InsufficientPrivilegeError:
        number = await connection.fetchval(
            "SELECT oid::TEXT FROM pg_database WHERE datname = current_database()"
        )
        return f"database-{number}"
