# ruff: noqa: S608 - the only text that is put in is OURS
"""PostgreSQL's catalogs as a `Catalog`. Read in one snapshot, with an empty search path, so that every name in
every definition is qualified."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from mcp_server.domain.schemas.catalogs import (
    Catalog,
    Column,
    Constraint,
    Domain,
    Function,
    Index,
    Sequence,
    Table,
    Trigger,
    View,
)

OURS = """
    n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'quaymaster')
"""
SCHEMAS = f"""
    SELECT quote_ident(n.nspname) AS name FROM pg_namespace n WHERE {OURS}
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = n.oid AND d.deptype = 'e')
"""
EXTENSIONS = "SELECT quote_ident(extname) AS name FROM pg_extension WHERE extname <> 'plpgsql'"
ENUMS = f"""
    SELECT format('%I.%I', n.nspname, t.typname) AS name,
           array_agg(e.enumlabel::text ORDER BY e.enumsortorder) AS labels
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace JOIN pg_enum e ON e.enumtypid = t.oid
    WHERE {OURS} AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
    GROUP BY 1
"""
DOMAINS = f"""
    SELECT format('%I.%I', n.nspname, t.typname) AS name,
           concat_ws(' ', format_type(t.typbasetype, t.typtypmod), 'DEFAULT ' || t.typdefault,
             CASE WHEN t.typnotnull THEN 'NOT NULL' END,
             (SELECT string_agg(format('CONSTRAINT %I %s', k.conname, pg_get_constraintdef(k.oid)), ' '
                                ORDER BY k.conname)
              FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c')) AS definition
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype = 'd' AND {OURS}
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
"""
TYPES = f"""
    SELECT format('%I.%I', n.nspname, t.typname) AS name,
           format('AS (%s)', (SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
                || CASE WHEN a.attcollation <> at.typcollation THEN ' COLLATE ' || a.attcollation::regcollation::text
                        ELSE '' END, ', ' ORDER BY a.attnum)
              FROM pg_attribute a JOIN pg_type at ON at.oid = a.atttypid
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)) AS definition
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace JOIN pg_class c ON c.oid = t.typrelid
    WHERE {OURS} AND c.relkind = 'c'
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
    UNION ALL
    SELECT format('%I.%I', n.nspname, t.typname),
           format('AS RANGE (%s)', concat_ws(', ', 'SUBTYPE = ' || format_type(r.rngsubtype, NULL),
             CASE WHEN NOT o.opcdefault THEN format('SUBTYPE_OPCLASS = %I.%I', opn.nspname, o.opcname) END,
             CASE WHEN r.rngcollation <> s.typcollation THEN 'COLLATION = ' || r.rngcollation::regcollation::text END,
             'SUBTYPE_DIFF = ' || nullif(r.rngsubdiff, 0)::regproc::text))
    FROM pg_range r JOIN pg_type t ON t.oid = r.rngtypid JOIN pg_namespace n ON n.oid = t.typnamespace
    JOIN pg_type s ON s.oid = r.rngsubtype JOIN pg_opclass o ON o.oid = r.rngsubopc
    JOIN pg_namespace opn ON opn.oid = o.opcnamespace
    WHERE {OURS} AND r.rngcanonical = 0
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
"""
SEQUENCES = f"""
    SELECT format('%I.%I', n.nspname, c.relname) AS name,
           format('AS %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %s',
                  s.seqtypid::regtype, s.seqincrement, s.seqmin, s.seqmax, s.seqstart, s.seqcache,
                  CASE WHEN s.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END) AS definition,
           coalesce((SELECT format('%I.%I.%I', tn.nspname, tc.relname, a.attname) FROM pg_depend d
              JOIN pg_class tc ON tc.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = tc.relnamespace
              JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
              WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'a' AND d.refobjsubid > 0),
              '') AS owner
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {OURS} AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('e', 'i'))
"""
FUNCTIONS = f"""
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END
             || p.oid::regprocedure::text AS signature,
           pg_get_functiondef(p.oid) AS definition,
           ARRAY(SELECT DISTINCT format('%I.%I', tn.nspname, tc.relname) FROM pg_depend d
                 LEFT JOIN pg_type ty ON d.refclassid = 'pg_type'::regclass AND ty.oid = d.refobjid
                 JOIN pg_class tc ON tc.oid = CASE WHEN d.refclassid = 'pg_class'::regclass THEN d.refobjid
                      ELSE coalesce(nullif(ty.typrelid, 0),
                                    (SELECT e.typrelid FROM pg_type e WHERE e.oid = ty.typelem)) END
                 JOIN pg_namespace tn ON tn.oid = tc.relnamespace
                 WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass) AS uses
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE {OURS} AND p.prokind IN ('f', 'p')
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype IN ('e', 'i'))
"""
COLUMNS = f"""
    SELECT format('%I.%I', n.nspname, c.relname) AS table_name,
           concat_ws(' ', CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED' END,
             CASE WHEN c.relkind = 'p' THEN 'PARTITION BY ' || pg_get_partkeydef(c.oid) END,
             CASE WHEN c.relkind = 'f' THEN 'FOREIGN TABLE' END,
             CASE WHEN c.relispartition THEN 'PARTITION ' || pg_get_expr(c.relpartbound, c.oid) END,
             (SELECT 'INHERITS (' || string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno) || ')'
              FROM pg_inherits i WHERE i.inhrelid = c.oid),
             CASE WHEN c.reloftype <> 0 THEN 'OF ' || c.reloftype::regtype::text END,
             'WITH (' || array_to_string(c.reloptions, ', ') || ')') AS special,
           quote_ident(a.attname) AS name, format_type(a.atttypid, a.atttypmod) AS type,
           a.attnotnull AS not_null,
           CASE WHEN a.attgenerated = '' THEN coalesce(pg_get_expr(x.adbin, x.adrelid), '') ELSE '' END AS value,
           CASE a.attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' ELSE '' END AS identity,
           CASE WHEN a.attgenerated <> '' THEN pg_get_expr(x.adbin, x.adrelid) ELSE '' END AS generated,
           CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation
                THEN format('%I.%I', ln.nspname, l.collname) ELSE '' END AS collation
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef x ON x.adrelid = a.attrelid AND x.adnum = a.attnum
    LEFT JOIN pg_collation l ON l.oid = a.attcollation LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
    WHERE c.relkind IN ('r', 'p', 'f') AND {OURS}
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    ORDER BY table_name, a.attnum
"""
CONSTRAINTS = f"""
    SELECT format('%I.%I', n.nspname, c.relname) AS table_name, quote_ident(k.conname) AS name,
           CASE k.contype WHEN 'p' THEN 'primary' WHEN 'u' THEN 'unique' WHEN 'f' THEN 'foreign'
                WHEN 'c' THEN 'check' WHEN 'x' THEN 'exclude' END AS kind,
           pg_get_constraintdef(k.oid) AS definition,
           coalesce((SELECT format('%I.%I', rn.nspname, r.relname) FROM pg_class r
                     JOIN pg_namespace rn ON rn.oid = r.relnamespace WHERE r.oid = k.confrelid), '') AS refers
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {OURS} AND k.contype IN ('p', 'u', 'f', 'c', 'x') AND k.conparentid = 0
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
"""
INDEXES = f"""
    SELECT format('%I.%I', n.nspname, i.relname) AS name, format('%I.%I', tn.nspname, c.relname) AS table_name,
           pg_get_indexdef(x.indexrelid) || CASE WHEN x.indisvalid THEN '' ELSE ' (invalid)' END AS definition
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
    JOIN pg_namespace n ON n.oid = i.relnamespace JOIN pg_namespace tn ON tn.oid = c.relnamespace
    WHERE {OURS} AND NOT i.relispartition AND c.relkind IN ('r', 'p', 'm')
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid IN (i.oid, c.oid) AND d.deptype = 'e')
      AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x'))
"""
VIEWS = f"""
    SELECT format('%I.%I', n.nspname, c.relname) AS name,
           CASE c.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END AS kind,
           coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', '') || ' AS'
             || chr(10) || rtrim(pg_get_viewdef(c.oid), ';') AS definition,
           ARRAY(SELECT DISTINCT format('%I.%I', un.nspname, u.relname) FROM pg_rewrite r
                 JOIN pg_depend d ON d.objid = r.oid AND d.classid = 'pg_rewrite'::regclass
                   AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> c.oid
                 JOIN pg_class u ON u.oid = d.refobjid JOIN pg_namespace un ON un.oid = u.relnamespace
                 WHERE r.ev_class = c.oid) AS uses
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('v', 'm') AND {OURS}
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
"""
TRIGGERS = f"""
    SELECT format('%I.%I', n.nspname, c.relname) AS table_name, quote_ident(t.tgname) AS name,
           pg_get_triggerdef(t.oid) || CASE t.tgenabled WHEN 'O' THEN '' ELSE ' (enabled ' || t.tgenabled::text || ')' END
             AS definition
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND {OURS}
"""
COMMENTS = f"""
    SELECT CASE c.relkind WHEN 'v' THEN 'VIEW ' WHEN 'm' THEN 'MATERIALIZED VIEW ' WHEN 'S' THEN 'SEQUENCE '
                WHEN 'i' THEN 'INDEX ' ELSE 'TABLE ' END || format('%I.%I', n.nspname, c.relname) AS name,
           d.description AS text
    FROM pg_description d JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE d.objsubid = 0 AND {OURS}
    UNION ALL
    SELECT 'COLUMN ' || format('%I.%I.%I', n.nspname, c.relname, a.attname), d.description
    FROM pg_description d JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid WHERE d.objsubid > 0 AND {OURS}
    UNION ALL
    SELECT 'FUNCTION ' || p.oid::regprocedure::text, d.description
    FROM pg_description d JOIN pg_proc p ON p.oid = d.objoid AND d.classoid = 'pg_proc'::regclass
    JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OURS} AND p.prokind = 'f'
      AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e')
    UNION ALL
    SELECT 'TYPE ' || format('%I.%I', n.nspname, t.typname), d.description
    FROM pg_description d JOIN pg_type t ON t.oid = d.objoid AND d.classoid = 'pg_type'::regclass
    JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype IN ('e', 'c', 'r') AND {OURS}
"""
OTHER = f"""
    SELECT format('policy %I on %I.%I', p.polname, n.nspname, c.relname) AS name,
           concat_ws(' ', p.polcmd, p.polpermissive, pg_get_expr(p.polqual, p.polrelid),
                     pg_get_expr(p.polwithcheck, p.polrelid)) AS text
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {OURS}
    UNION ALL
    SELECT format('row security of %I.%I', n.nspname, c.relname), concat(c.relrowsecurity, c.relforcerowsecurity)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {OURS} AND (c.relrowsecurity OR c.relforcerowsecurity)
    UNION ALL
    SELECT format('rule %I on %I.%I', r.rulename, n.nspname, c.relname), pg_get_ruledef(r.oid)
    FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {OURS} AND r.rulename <> '_RETURN'
    UNION ALL
    SELECT 'aggregate ' || p.oid::regprocedure::text, concat_ws(
        ' ', a.aggkind, a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn,
        a.aggminvtransfn, a.aggmfinalfn, a.aggfinalextra, a.aggmfinalextra, a.aggfinalmodify, a.aggmfinalmodify,
        a.aggsortop::regoperator, a.aggtranstype::regtype, a.aggtransspace, a.aggmtranstype::regtype, p.proparallel,
        'starts at ' || quote_nullable(a.agginitval), 'starts at ' || quote_nullable(a.aggminitval))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_aggregate a ON a.aggfnoid = p.oid
    WHERE {OURS} AND p.prokind = 'a'
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 'window function ' || p.oid::regprocedure::text, pg_get_functiondef(p.oid)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE {OURS} AND p.prokind = 'w'
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    UNION ALL
    SELECT format('type %I.%I', n.nspname, t.typname), 'range over ' || format_type(r.rngsubtype, NULL)
    FROM pg_range r JOIN pg_type t ON t.oid = r.rngtypid JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE {OURS} AND r.rngcanonical <> 0
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
    UNION ALL
    SELECT format('extended statistics %I.%I', n.nspname, s.stxname), pg_get_statisticsobjdef(s.oid)
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE {OURS}
    UNION ALL
    SELECT format('privileges on %I.%I', n.nspname, c.relname), c.relacl::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {OURS} AND c.relacl IS NOT NULL AND EXISTS (
      SELECT 1 FROM aclexplode(c.relacl) WHERE grantee <> c.relowner)
"""


async def read_catalog(connection: Any) -> Catalog:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL search_path = ''")
        return await _read(connection)


async def _read(connection: Any) -> Catalog:
    fetch = connection.fetch
    domains = [Domain(*row) for row in await fetch(DOMAINS)]
    sequences = [Sequence(*row) for row in await fetch(SEQUENCES)]
    functions = [Function(row[0], row[1], tuple(sorted(row[2]))) for row in await fetch(FUNCTIONS)]
    constraints = [Constraint(*row) for row in await fetch(CONSTRAINTS)]
    indexes = [Index(*row) for row in await fetch(INDEXES)]
    views = [View(row[0], row[1], row[2], tuple(sorted(row[3]))) for row in await fetch(VIEWS)]
    triggers = [Trigger(*row) for row in await fetch(TRIGGERS)]
    return Catalog(
        engine="postgres",
        schemas=frozenset(row["name"] for row in await fetch(SCHEMAS)),
        extensions=frozenset(row["name"] for row in await fetch(EXTENSIONS)),
        enums={row["name"]: tuple(row["labels"]) for row in await fetch(ENUMS)},
        domains={each.name: each for each in domains},
        types={row["name"]: row["definition"] for row in await fetch(TYPES)},
        sequences={each.name: each for each in sequences},
        functions={each.signature: each for each in functions},
        tables=_tables(await fetch(COLUMNS)),
        constraints={f"{each.table} {each.name}": each for each in constraints},
        indexes={each.name: each for each in indexes},
        views={each.name: each for each in views},
        triggers={f"{each.table} {each.name}": each for each in triggers},
        comments={row["name"]: row["text"] for row in await fetch(COMMENTS)},
        other={row["name"]: row["text"] for row in await fetch(OTHER)},
    )


def _tables(rows: list[Any]) -> dict[str, Table]:
    columns: dict[str, list[Column]] = defaultdict(list)
    special = {row["table_name"]: row["special"] for row in rows}
    for row in rows:
        if row["name"] is not None:
            columns[row["table_name"]].append(Column(*tuple(row)[2:]))
    return {name: Table(name, tuple(columns[name]), text) for name, text in special.items()}
