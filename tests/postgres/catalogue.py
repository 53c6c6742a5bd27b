"""What a database's schema is, as comparable text."""

import asyncpg

_COLUMNS = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull,
      a.attgenerated::text,
      a.attidentity::text, pg_get_expr(d.adbin, d.adrelid) AS expression
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
      AND NOT a.attisdropped
    ORDER BY c.relname, a.attname
    """
_CONSTRAINTS = """
    SELECT conrelid::regclass::text AS name, conname, pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
    """
_INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
_REST = """
    SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'sequence ' || relname FROM pg_class
      WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace
    ORDER BY 1
    """


async def catalogue(url: str, *, without: str = "schema_migrations") -> list[str]:
    """One line for each column, constraint, index, function, trigger and sequence."""
    connection = await asyncpg.connect(url)
    try:
        columns = [
            f"{row['relname']}.{row['attname']} {row['type']}"
            + (" not null" if row["attnotnull"] else "")
            + (f" generated {row['attgenerated']}" if row["attgenerated"].strip("\x00") else "")
            + (f" identity {row['attidentity']}" if row["attidentity"].strip("\x00") else "")
            + (f" = {row['expression']}" if row["expression"] else "")
            for row in await connection.fetch(_COLUMNS)
        ]
        constraints = [" ".join(row.values()) for row in await connection.fetch(_CONSTRAINTS)]
        rest = [row[0] for row in [*await connection.fetch(_INDEXES), *await connection.fetch(_REST)]]
    finally:
        await connection.close()
    return [line for line in [*columns, *constraints, *rest] if without not in line]
