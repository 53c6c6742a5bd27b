"""The change log: every committed transaction as a line, in the order of a sequence that is drawn after rows
are held.

A sequence alone does not say what may still come below it: a transaction draws its number before it commits.
  So a position
also keeps a horizon,
  the oldest transaction that was running when the log was read: everything below it has ended.
"""

from __future__ import annotations

from mcp_server.adapters.postgres.audit import inserting, write_audit
from mcp_server.adapters.postgres.connections import Connection
from mcp_server.adapters.postgres.reading import PostgresReading
from mcp_server.adapters.postgres.rows import Row, Session, not_as_held
from mcp_server.adapters.postgres.together import numbered, together, written
from mcp_server.domain.changes import Line, change_from_json, change_to_json
from mcp_server.domain.nouns import TOMBSTONE_KEPT_DAYS
from mcp_server.ports.mirror import Batch, Beside, Outage, Position, Whole
from mcp_server.ports.store import Intent

LINE_ID = "change_log_line_id_key"
"""The constraint that makes a line apply once."""

KEEP_DAYS = 7
_TRIM_AT_ONCE = 5000


_INSERT = """
    INSERT INTO change_log (line_id, actor, action, changes) VALUES ($1::TEXT, $2::TEXT, $3::TEXT, $4::JSONB)
    RETURNING seq, at, pg_snapshot_xmin(pg_current_snapshot())::TEXT::BIGINT AS horizon,
      (SELECT ARRAY(SELECT l.line_id FROM change_log l WHERE l.xid >= $7::TEXT::XID8)
        FROM installation i WHERE i.id = $5::TEXT AND i.cluster = $6::TEXT
        AND (i.trimmed_seq = 0 OR i.trimmed_xid < $7::TEXT::XID8)) AS beside"""


async def append(
    session: Session, intent: Intent, line_id: str, known: Position | None
) -> tuple[Line, int, Beside | None]:
    """Write what the session gathered: what waits, its audit rows, and its changes as a line, mostly in one statement.

    The line, its `seq` (0 without changes), and what stands beside it above the position `known`.
    """
    audit = tuple(session.audit)
    changes = tuple((session.changes or {}).values())
    if not changes:
        await write_audit(session)
        return Line(line_id, await session.now(), intent.actor, intent.action, (), audit), 0, None
    if len(audit) > 1:
        await write_audit(session)
    writes, session.waiting, session.audit = session.waiting, [], []
    head, before = together(writes, [inserting(row) for row in audit] if len(audit) == 1 else [])
    row = await session.one(
        f"{head} {numbered(_INSERT, len(before))}, {written(len(writes))} AS written",
        *before,
        line_id,
        intent.actor,
        intent.action,
        [change_to_json(change) for change in changes],
        known and known.installation,
        known and known.cluster,
        known and str(known.horizon),
    )
    assert row is not None  # noqa: S101  # RETURNING
    if row["written"] != len(writes):
        raise not_as_held()
    line = Line(line_id, row["at"], intent.actor, intent.action, changes, audit)
    if known is None or row["beside"] is None:
        return line, row["seq"], None
    position = Position(known.installation, known.cluster, row["horizon"], row["seq"], line_id)
    return line, row["seq"], Beside(frozenset(row["beside"]), position)


async def find(connection: Connection, line_id: str) -> Line | None:
    row = await connection.fetchrow(
        "SELECT line_id, at, actor, action, changes FROM change_log WHERE line_id = $1", line_id
    )
    return None if row is None else _line(row)


async def since(connection: Connection, position: Position) -> Batch:
    """One statement, so that the new horizon and the lines are of one snapshot.

    The horizon of a position of another cluster says nothing here: all lines are read,
      their revisions sort them out.
    """
    rows = await connection.fetch(
        """
        SELECT i.id, i.cluster, i.trimmed_seq, i.trimmed_xid::TEXT::BIGINT AS trimmed_xid,
          pg_snapshot_xmin(pg_current_snapshot())::TEXT::BIGINT AS horizon,
          l.seq, l.line_id, l.at, l.actor, l.action, l.changes
        FROM installation i
        LEFT JOIN change_log l ON l.xid >= (CASE WHEN i.cluster = $1 THEN $2 ELSE '0' END)::XID8
        ORDER BY l.seq
        """,
        position.cluster,
        str(position.horizon),
    )
    if not rows:
        raise Outage("PostgreSQL has no installation any more")
    head, lines = rows[0], [row for row in rows if row["seq"] is not None]
    same = head["cluster"] == position.cluster
    missing = head["trimmed_xid"] >= position.horizon if same else head["trimmed_seq"] > position.seq
    newest = lines[-1] if lines and lines[-1]["seq"] > position.seq else None
    return Batch(
        lines=[_line(row) for row in lines],
        position=Position(
            installation=head["id"],
            cluster=head["cluster"],
            horizon=head["horizon"],
            seq=position.seq if newest is None else newest["seq"],
            line_id=position.line_id if newest is None else newest["line_id"],
        ),
        lost=(missing and head["trimmed_seq"] > 0) or head["id"] != position.installation,
    )


async def everything(connection: Connection) -> Whole:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        reading = PostgresReading(Session(connection))
        records, gone = await reading.everything(), await reading.gone()
        row = await connection.fetchrow(
            """
            SELECT i.id, i.cluster, pg_snapshot_xmin(pg_current_snapshot())::TEXT::BIGINT AS horizon,
              coalesce(l.seq, i.trimmed_seq) AS seq, l.line_id
            FROM installation i
            LEFT JOIN (SELECT seq, line_id FROM change_log ORDER BY seq DESC LIMIT 1) l ON true
            """
        )
    assert row is not None  # noqa: S101  # prepare made the row
    position = Position(row["id"], row["cluster"], row["horizon"], row["seq"], row["line_id"])
    return Whole(records, gone, position)


async def has(connection: Connection, position: Position) -> bool:
    """The newest line is never trimmed, so a database that lost the last lines shows it."""
    found: bool | None = await connection.fetchval(
        """
        SELECT $2::BIGINT = 0 OR $2 <= i.trimmed_seq
          OR EXISTS (SELECT 1 FROM change_log WHERE seq = $2 AND ($3::TEXT IS NULL OR line_id = $3))
        FROM installation i WHERE i.id = $1
        """,
        position.installation,
        position.seq,
        position.line_id,
    )
    return bool(found)


async def trim(connection: Connection, home: str, position: Position) -> None:
    """Homes that were not seen for as long as lines are kept are not waited for. The newest line always
    stays. Tombstones of what comes and goes, and released locks, have their own time."""
    await connection.execute(
        """
        INSERT INTO homes (id, seen_at, seq, horizon) VALUES ($1, clock_timestamp(), $2, $3::TEXT::XID8)
        ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, seq = excluded.seq,
          horizon = excluded.horizon
        """,
        home,
        position.seq,
        str(position.horizon),
    )
    await connection.execute(
        """
        WITH slowest AS (
          SELECT coalesce((SELECT h.horizon FROM homes h
            WHERE h.horizon IS NOT NULL AND h.seen_at > clock_timestamp() - make_interval(days => $1)
            ORDER BY h.horizon LIMIT 1), '0'::XID8) AS horizon
        ), oldest AS (
          SELECT seq, xid, at FROM change_log WHERE seq < (SELECT max(seq)
            FROM change_log) ORDER BY seq LIMIT $2
        ), gone AS (
          DELETE FROM change_log l USING oldest o, slowest s
          WHERE l.seq = o.seq AND (o.xid < s.horizon OR o.at < clock_timestamp() - make_interval(days => $1))
          RETURNING l.seq, l.xid
        )
        UPDATE installation SET
          trimmed_seq = greatest(trimmed_seq, (SELECT max(seq) FROM gone)),
          trimmed_xid = greatest(trimmed_xid, (SELECT xid FROM gone ORDER BY xid DESC LIMIT 1))
        WHERE EXISTS (SELECT 1 FROM gone)
        """,
        KEEP_DAYS,
        _TRIM_AT_ONCE,
    )
    await connection.execute(
        """
        DELETE FROM tombstones t USING (
          SELECT noun, key FROM tombstones
          WHERE noun IN ('idempotency', 'locks', 'plans') AND at < clock_timestamp() - make_interval(days => $1)
          ORDER BY at LIMIT $2
          FOR UPDATE SKIP LOCKED
        ) old
        WHERE t.noun = old.noun AND t.key = old.key
        """,
        TOMBSTONE_KEPT_DAYS,
        _TRIM_AT_ONCE,
    )
    await connection.execute(
        """
        DELETE FROM work_task_files WHERE id IN (
          SELECT id FROM work_task_files
          WHERE status = 'released' AND released_at < clock_timestamp() - make_interval(days => $1)
          ORDER BY released_at LIMIT $2
          FOR UPDATE SKIP LOCKED
        )
        """,
        TOMBSTONE_KEPT_DAYS,
        _TRIM_AT_ONCE,
    )


def _line(row: Row) -> Line:
    changes = tuple(change_from_json(change) for change in row["changes"])
    return Line(row["line_id"], row["at"], row["actor"], row["action"], changes)
