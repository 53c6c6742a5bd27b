"""Random schemas that mean something: tables, columns, defaults, constraints, indexes, enums, views, sequences,
functions and triggers, as SQL text. What refers to another thing comes after it."""

from hypothesis import strategies as st

TABLES = ("alpha", "beta", "Gamma Ray")
COLUMNS = ("name", "amount", "flag", "when", "Odd One")
TYPES = {
    "postgres": {
        "integer": ("0", "1"),
        "bigint": ("7",),
        "text": ("'x'", "'it''s'"),
        "varchar(40)": ("'v'",),
        "numeric(10,2)": ("1.50",),
        "boolean": ("true",),
        "timestamptz": ("now()",),
        "jsonb": ("'{}'",),
        "integer[]": ("'{}'",),
        "mood": ("'calm'",),
    },
    "sqlite": {
        "INTEGER": ("0", "1"),
        "TEXT": ("'x'", "'it''s'"),
        "NUMERIC": ("1.5",),
        "BLOB": ("x'00'",),
    },
}

COIN: st.SearchStrategy[bool] = st.booleans()


@st.composite
def schemas(draw: st.DrawFn, engine: str, least: int = 0) -> str:
    parts = []
    labels = draw(st.lists(st.sampled_from(["glad", "sad", "wild"]), unique=True, max_size=3))
    if engine == "postgres":
        parts.append(f"CREATE TYPE mood AS ENUM ({', '.join(repr(each) for each in ['calm', *labels])})")
        if draw(COIN):
            parts.append(f"CREATE SEQUENCE numbers START {draw(st.integers(1, 3))}")
        if draw(COIN):
            parts.append("CREATE DOMAIN short AS text CHECK (length(VALUE) < 10)")
    tables = draw(st.lists(st.sampled_from(TABLES), unique=True, min_size=least, max_size=3))
    columns: dict[str, list[str]] = {}
    for table in tables:
        parts.append(draw(_table(engine, table, columns)))
    for table in tables:
        parts += draw(_indexes(table, columns[table]))
    readable = [table for table in tables if columns[table]]
    if draw(COIN) and readable:
        table = draw(st.sampled_from(readable))
        parts.append(f'CREATE VIEW seen AS SELECT id, {columns[table][0]} FROM "{table}"')  # noqa: S608
        if engine == "postgres" and draw(COIN):
            parts.append("CREATE VIEW seen_again AS SELECT id FROM seen")
    if draw(COIN) and readable:
        parts += _trigger(engine, readable[0])
    if draw(COIN) and engine == "postgres" and tables:
        parts.append(f"COMMENT ON TABLE \"{tables[0]}\" IS 'what it''s for'")
    return ";\n".join(parts) + (";\n" if parts else "")


@st.composite
def _table(draw: st.DrawFn, engine: str, table: str, columns: dict[str, list[str]]) -> str:
    key = "id integer PRIMARY KEY"
    if engine == "postgres":
        keys = [key, "id serial PRIMARY KEY", "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"]
        key = draw(st.sampled_from(keys))
    lines, names = [key], []
    for column in draw(st.lists(st.sampled_from(COLUMNS), unique=True, max_size=4)):
        kind = draw(st.sampled_from(sorted(TYPES[engine])))
        line = f'"{column}" {kind}'
        if draw(COIN):
            line += f" DEFAULT {draw(st.sampled_from(TYPES[engine][kind]))}"
            if draw(COIN):
                line += " NOT NULL"
        names.append(f'"{column}"')
        lines.append(line)
    columns[table] = names
    if draw(COIN) and names:
        lines.append(f"CHECK ({names[0]} IS NOT NULL)")
    if len(names) > 1 and draw(COIN):
        lines.append(f"UNIQUE ({names[-1]}, {names[0]})" if draw(COIN) else f"UNIQUE ({names[0]})")
    parents = [other for other in columns if other != table]
    if draw(COIN) and parents and engine == "postgres":
        lines.append(f'parent integer, FOREIGN KEY (parent) REFERENCES "{parents[0]}" (id) ON DELETE CASCADE')
        if "bigint" in key:
            lines[-1] = lines[-1].replace("parent integer", "parent bigint", 1)
    elif draw(COIN) and parents and engine == "sqlite":
        lines.insert(1, f'parent integer REFERENCES "{parents[0]}" (id)')
    body = ",\n    ".join(lines)
    return f'CREATE TABLE "{table}" (\n    {body}\n)'


@st.composite
def _indexes(draw: st.DrawFn, table: str, columns: list[str]) -> list[str]:
    found = []
    for number, column in enumerate(columns):
        if draw(COIN):
            where = f" WHERE {column} IS NOT NULL" if draw(COIN) else ""
            found.append(f'CREATE INDEX "{table} {number}" ON "{table}" ({column}){where}')
    return found


def _trigger(engine: str, table: str) -> list[str]:
    if engine == "sqlite":
        return [
            f'CREATE TRIGGER told AFTER INSERT ON "{table}" BEGIN UPDATE "{table}" SET id = id; SELECT 1; END'  # noqa: S608
        ]
    return [
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
        f'CREATE TRIGGER told BEFORE INSERT ON "{table}" FOR EACH ROW EXECUTE FUNCTION tell()',
    ]
