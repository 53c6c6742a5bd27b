"""Running migrations forward and back on one database: under its lock, each in one transaction or statement by
statement, never past something that does not fit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from mcp_server.domain.errors import Invalid, NotFound
from mcp_server.domain.schemas.failures import HalfApplied, Refused
from mcp_server.domain.schemas.folders import Migration
from mcp_server.domain.schemas.migrations import Applied, Examination, examine, require_sound
from mcp_server.domain.schemas.statements import Engine, Statement, split, wants_no_transaction
from mcp_server.ports.schemas import Footprint, Ledger, Session

Telling = Callable[[Migration, Footprint], Awaitable[None]]


async def nobody(migration: Migration, footprint: Footprint) -> None:
    """Tells nobody."""


async def look(session: Session, files: Sequence[Migration]) -> Examination:
    return examine(files, await session.ledger())


def check_files(files: Sequence[Migration], engine: Engine) -> None:
    """Raise Invalid, with file and line, for text that no run could carry out."""
    for each in files:
        script(each, "up", engine)
        if each.down is not None:
            script(each, "down", engine)


async def run_up(
    session: Session,
    files: Sequence[Migration],
    owner: str,
    *,
    tell: Telling = nobody,
    watch: bool = False,
    allow_missing: bool = False,
    allow_out_of_order: bool = False,
) -> tuple[Migration, ...]:
    """Apply what is pending, in order; the lock is held. What was applied before a failure stays."""
    found = await look(session, files)
    require_sound(found, allow_missing=allow_missing, allow_out_of_order=allow_out_of_order)
    rows = {int(row.version): row for row in found.half}
    check_files(found.pending, session.engine)
    for each in found.pending:
        footprint = await _apply(session, each, owner, rows.get(each.order), watch)
        await tell(each, footprint)
    return found.pending


async def run_down(
    session: Session, migrations: Sequence[Migration], owner: str, *, tell: Telling = nobody
) -> None:
    """Take back, in the given order; the lock is held. All of them have a way back, or none is taken."""
    require_ways_back(migrations, session.engine)
    for each in migrations:
        footprint = await _revert(session, each, owner)
        await tell(each, footprint)


def require_ways_back(migrations: Sequence[Migration], engine: Engine) -> None:
    """Raise Refused, naming them, when any has no down.sql or one that does nothing."""
    lacking = [each.label for each in migrations if each.down is None or not split(each.down, engine)]
    if lacking:
        raise Refused(
            f"{', '.join(lacking)}: there is no way back (down.sql is missing or says nothing)",
            next="Write its down.sql, or restore a backup.",
        )
    check_files(migrations, engine)


def script(migration: Migration, direction: str, engine: Engine) -> tuple[Statement, ...]:
    """The statements of a file. Raises Invalid for an up.sql that says nothing, and for transaction control."""
    where = f"{migration.folder}/{direction}.sql"
    statements = split((migration.up if direction == "up" else migration.down) or "", engine, where=where)
    if not statements and direction == "up":
        raise Invalid(f"{where} holds no statement", next="Write one, or remove the folder.")
    for each in statements:
        if each.controls_transaction:
            raise Invalid(
                f"{where}, line {each.line}: {each.words[0].upper()} is not for a migration, which runs in one "
                "transaction already",
                next="Remove the statement, or mark the file with a line '-- no-transaction'.",
            )
    return statements


async def resolve(
    session: Session, files: Sequence[Migration], version: str, decision: str, owner: str, done: int = 0
) -> str:
    """Write into the ledger what a person found out: `applied`, `rolled-back`, or that `done` statements ran."""
    row = next((each for each in await session.ledger() if version in (each.version, each.label)), None)
    file = next((each for each in files if version in (each.version, each.label)), None)
    if decision == "applied":
        if file is None:
            raise NotFound(f"there is no migration '{version[:100]}'")
        await session.write(Ledger(put=_row(file, owner)))
        return f"{file.label} counts as applied"
    if row is None:
        raise NotFound(f"'{version[:100]}' is not in the ledger")
    if decision == "continue":
        if row.stage == "applied" or file is None:
            raise Refused(f"{row.label} is not half applied")
        direction = "up" if row.stage == "running" else "down"
        if not 0 <= done <= len(script(file, direction, session.engine)):
            raise Invalid.field("continue-at", "the number of statements that have run")
        await session.write(Ledger(put=row._replace(done=done, begun=False)))
        return f"{row.label} goes on after statement {done}"
    await session.write(Ledger(drop=row.version))
    return f"{row.label} counts as not applied"


async def _apply(
    session: Session, migration: Migration, owner: str, row: Applied | None, watch: bool
) -> Footprint:
    statements = script(migration, "up", session.engine)
    where = f"{migration.folder}/up.sql"
    if row is not None and row.stage == "reverting":
        raise HalfApplied(f"{migration.label} was half rolled back")
    if not wants_no_transaction(migration.up):
        return await session.transaction(
            statements, Ledger(put=_row(migration, owner)), where=where, watch=watch
        )
    start = row or _row(migration, owner)._replace(stage="running")
    await _one_by_one(session, statements, start, where)
    await session.write(Ledger(put=_row(migration, owner)))
    return Footprint()


async def _revert(session: Session, migration: Migration, owner: str) -> Footprint:
    statements = script(migration, "down", session.engine)
    where = f"{migration.folder}/down.sql"
    if not wants_no_transaction(migration.down or ""):
        return await session.transaction(statements, Ledger(drop=migration.version), where=where)
    rows = {int(row.version): row for row in await session.ledger()}
    row = rows.get(migration.order)
    if row is None or row.stage != "reverting":
        row = _row(migration, owner)._replace(stage="reverting")
    await _one_by_one(session, statements, row, where)
    await session.write(Ledger(drop=migration.version))
    return Footprint()


async def _one_by_one(session: Session, statements: Sequence[Statement], row: Applied, where: str) -> None:
    if row.begun:
        effect = await session.outcome(statements[row.done])
        if effect is None:
            raise HalfApplied(
                f"{where}, line {statements[row.done].line}: a run ended in statement {row.done + 1}, and whether it "
                "took effect cannot be told"
            )
        row = row._replace(done=row.done + int(effect), begun=False)
    if not row.done:
        await session.write(Ledger(put=row))
    for number in range(row.done, len(statements)):
        await session.alone(statements[number], row._replace(done=number), where=where)


def _row(migration: Migration, owner: str) -> Applied:
    return Applied(migration.version, migration.name, migration.checksum, applied_by=owner)
