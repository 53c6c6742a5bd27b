"""The statements that turn one SQLite database into another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from mcp_server.domain.schemas.catalogs import Catalog, Index, Table, Trigger, View
from mcp_server.domain.schemas.losses import Loss, lost_column, lost_table
from mcp_server.domain.schemas.names import quoted
from mcp_server.domain.schemas.renames import perhaps_column, perhaps_table

RULE = re.compile(r"\b(?:check|unique|references|foreign key|primary key)\b[^,]*")
Resting = Mapping[str, View] | Mapping[str, Trigger]


def sqlite_changes(start: Catalog, goal: Catalog) -> tuple[list[str], list[Loss]]:
    """A changed table is made anew and its rows are copied, as SQLite's documentation advises."""
    statements: list[str] = []
    losses: list[Loss] = []
    rebuilt = [
        name
        for name, table in goal.tables.items()
        if name in start.tables and start.tables[name].special != table.special
    ]
    added = {name: _added(start.tables[name], goal.tables[name]) for name in rebuilt}
    rebuilt = [name for name in rebuilt if added[name] is None]
    gone = sorted(start.tables.keys() - goal.tables.keys())
    all_anew = bool(rebuilt or gone)
    resting: tuple[tuple[str, Resting, Resting], ...] = (
        ("TRIGGER", start.triggers, goal.triggers),
        ("VIEW", start.views, goal.views),
    )
    for kind, old, new in resting:
        for name in sorted(old):
            if all_anew or not _same(new.get(name), old[name]):
                statements.append(f"DROP {kind} {quoted(name)}")
    for name in sorted(start.indexes):
        index = start.indexes[name]
        if (
            not _same(goal.indexes.get(name), index)
            and index.table not in rebuilt
            and index.table not in gone
        ):
            statements.append(f"DROP INDEX {quoted(name)}")
    for name in gone:
        losses.append(lost_table(name, perhaps_table(start.tables[name], start, goal)))
        statements.append(f"DROP TABLE {quoted(name)}")
    for name, table in goal.tables.items():
        if name not in start.tables:
            statements.append(table.text)
        elif (columns := added.get(name)) is not None:
            statements += [f"ALTER TABLE {quoted(name)} ADD COLUMN {each}" for each in columns]
        elif name in rebuilt:
            statements += _rebuild(start.tables[name], table, losses)
    for name, index in goal.indexes.items():
        if not _same(start.indexes.get(name), index) or index.table in rebuilt:
            statements.append(index.text)
    for _, old, new in reversed(resting):
        for name, each in new.items():
            if all_anew or not _same(old.get(name), each):
                statements.append(each.text)
    return statements, losses


def _same(one: Index | View | Trigger | None, two: Index | View | Trigger) -> bool:
    return one is not None and one.definition == two.definition


def _added(old: Table, new: Table) -> tuple[str, ...] | None:
    """The definitions of columns that only have to be appended, where that gives exactly the new table."""
    head = old.special.rstrip()
    if not head.endswith(")") or not new.special.startswith(f"{head[:-1].rstrip()} , "):
        return None
    rest = new.special[len(head[:-1].rstrip()) + 3 :].rstrip()
    if not rest.endswith(")") or "primary" in rest.lower() or "unique" in rest.lower() or " ( " in rest:
        return None
    known = {each.name for each in old.columns}
    names = [each for each in new.columns if each.name not in known]
    parts = rest[:-1].split(" , ")
    simple = all(not each.generated and (not each.not_null or each.default) for each in names)
    if (
        len(parts) != len(names)
        or not simple
        or re.search(r"\b(current_\w+|constraint|foreign|check)\b", rest, re.I)
    ):
        return None
    return tuple(part.strip() for part in parts)


def _rebuild(old: Table, new: Table, losses: list[Loss]) -> Iterator[str]:
    kept = {each.name for each in old.columns}
    columns = [each for each in new.columns if each.name in kept and not each.generated]
    losses += [
        lost_column(new.name, each.name, perhaps_column(each, old, new))
        for each in old.columns
        if each.name not in {one.name for one in new.columns} and not each.generated
    ]
    losses += [
        Loss(f"column {new.name}.{each.name} is NOT NULL without default: refused on rows")
        for each in new.columns
        if each.name not in kept and each.not_null and not each.default and not each.generated
    ]
    demanding = {each.name for each in old.columns if each.not_null}
    losses += [
        Loss(f"column {new.name}.{each.name} becomes NOT NULL: refused while a row has none")
        for each in new.columns
        if each.not_null and each.name not in demanding and (each.name in kept or each.generated)
    ]
    if _rules(new.special) - _rules(old.special):
        losses.append(Loss(f"table {new.name} gets other constraints: refused while rows break them"))
    aside = f"_quaymaster_new_{new.name}"
    yield _renamed(new, aside)
    if columns:
        names = ", ".join(quoted(each.name) for each in columns)
        yield f"INSERT INTO {quoted(aside)} ({names}) SELECT {names} FROM {quoted(new.name)}"  # noqa: S608 - quoted names
    yield f"DROP TABLE {quoted(new.name)}"
    yield f"ALTER TABLE {quoted(aside)} RENAME TO {quoted(new.name)}"


def _rules(special: str) -> Counter[str]:
    """The constraints in a table's text but NOT NULL, each to the next comma; of checks, which have commas, all that
    follows."""
    text = special.lower()
    found = Counter(each.strip(" )") for each in RULE.findall(text))
    if "check" in text:
        found[text[text.index("check") :].strip(" )")] += 1
    return found


def _renamed(table: Table, aside: str) -> str:
    """The table's own text under another name."""
    head = re.compile(
        r"^\s*create\s+(?:temp(?:orary)?\s+)?table\s+(?:if\s+not\s+exists\s+)?"
        r"(?:\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|'[^']*'|\w+)",
        re.IGNORECASE,
    )
    return head.sub(lambda _: f"CREATE TABLE {quoted(aside)}", table.text, count=1)
