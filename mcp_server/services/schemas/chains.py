"""The migrations of a database as one chain, whoever keeps them: folders of SQL with our ledger, or Alembic."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Protocol

from mcp_server.domain.errors import Unavailable
from mcp_server.domain.schemas.catalogs import accounts_of_alembic
from mcp_server.domain.schemas.failures import Refused
from mcp_server.domain.schemas.folders import Folder, Migration
from mcp_server.domain.schemas.lint import EMPTYING, LOSSES, Finding, lint
from mcp_server.domain.schemas.migrations import examine, to_revert
from mcp_server.domain.schemas.names import literal, quoted
from mcp_server.domain.schemas.revisions import History, Revision, behind, require_known
from mcp_server.domain.schemas.statements import Engine, Statement
from mcp_server.domain.wording import counted
from mcp_server.ports.schemas import Alembic, Footprint, Ledger, Limits, Session, Witness
from mcp_server.services.schemas import migrating

Labels = tuple[str, ...]
MOST_HEADS = 1000


class Ran(NamedTuple):
    """One migration as it went. `findings` are known where it was watched; `seconds` where a program told them, which
    takes its time to start."""

    label: str
    footprint: Footprint
    findings: Labels
    seconds: float | None = None


Tell = Callable[[Ran], None]


def nobody(ran: Ran) -> None:
    """Is told in vain."""


class Standing(NamedTuple):
    """Labels of migrations, in order; `lint` are warnings about pending ones. `state` changes with all of it."""

    applied: Labels
    pending: Labels
    edited: Labels = ()
    missing: Labels = ()
    out_of_order: Labels = ()
    half: Labels = ()
    lint: Labels = ()
    state: Any = None


class Chain(Protocol):
    """Whoever writes holds the session's lock."""

    def check(self, engine: Engine) -> None:
        """Raise Invalid for files that no run could carry out."""
        ...

    def problems(self) -> Labels: ...

    def findings(self, engine: Engine) -> Labels: ...

    async def standing(self, session: Session) -> Standing: ...

    async def up(
        self,
        session: Session,
        *,
        tell: Tell = nobody,
        watch: bool = False,
        allow_missing: bool = False,
        allow_out_of_order: bool = False,
    ) -> Labels:
        """Apply what is pending. What was applied before a failure stays."""
        ...

    async def way_back(self, session: Session, target: str) -> Labels:
        """What `down` would do, newest first. Raises Invalid for the target, Refused where there is no way."""
        ...

    async def losses_back(self, session: Session, target: str) -> Labels:
        """What `down` would lose, as far as its files tell by being read."""
        ...

    async def reaches_outside(self, session: Session, target: str) -> bool:
        """Whether files say that `down` changes what all databases of a server share."""
        ...

    async def copy_account(self, session: Session, shadow: Session) -> None:
        """Let a shadow with the same schema know what is applied."""
        ...

    async def down(
        self, session: Session, target: str, *, tell: Tell = nobody, watch: bool = False
    ) -> Labels:
        """Where it is watched, findings name the statements that empty a table."""
        ...


class FileChain:
    """`migrations/VERSION_NAME/` with up.sql and down.sql."""

    def __init__(self, files: Sequence[Migration], owner: str) -> None:
        self._files = files
        self._owner = owner

    def check(self, engine: Engine) -> None:
        migrating.check_files(self._files, engine)

    def problems(self) -> Labels:
        return tuple(f"{each.label} has no down.sql" for each in self._files if each.down is None)

    def findings(self, engine: Engine) -> Labels:
        return tuple(text for each in self._files for text in _findings(each, engine))

    async def standing(self, session: Session) -> Standing:
        ledger = await session.ledger()
        found = examine(self._files, ledger)
        return Standing(
            applied=tuple(each.label for each in found.applied),
            pending=tuple(each.label for each in found.pending),
            edited=found.edited,
            missing=found.missing,
            out_of_order=found.out_of_order,
            half=tuple(
                f"{row.label} ({row.stage}, {counted(row.done, 'statement')} done)" for row in found.half
            ),
            lint=tuple(text for each in found.pending for text in _findings(each, session.engine)),
            state={
                "ledger": [(row.label, row.checksum, row.stage, row.done) for row in ledger],
                "files": [(each.label, each.checksum, each.down) for each in self._files],
            },
        )

    async def up(
        self,
        session: Session,
        *,
        tell: Tell = nobody,
        watch: bool = False,
        allow_missing: bool = False,
        allow_out_of_order: bool = False,
    ) -> Labels:
        async def each(migration: Migration, footprint: Footprint) -> None:
            tell(Ran(migration.label, footprint, _findings(migration, session.engine) if watch else ()))

        done = await migrating.run_up(
            session,
            self._files,
            self._owner,
            tell=each,
            watch=watch,
            allow_missing=allow_missing,
            allow_out_of_order=allow_out_of_order,
        )
        return tuple(migration.label for migration in done)

    async def way_back(self, session: Session, target: str) -> Labels:
        found = to_revert(await migrating.look(session, self._files), target)
        migrating.require_ways_back(found, session.engine)
        return tuple(f"run {each.folder}/down.sql" for each in found)

    async def losses_back(self, session: Session, target: str) -> Labels:
        found = to_revert(await migrating.look(session, self._files), target)
        return tuple(text for each in found for text in _losses(each, session.engine, LOSSES))

    async def reaches_outside(self, session: Session, target: str) -> bool:
        found = to_revert(await migrating.look(session, self._files), target)
        return any(
            each.is_for_all_databases
            for migration in found
            for each in migrating.script(migration, "down", session.engine)
        )

    async def copy_account(self, session: Session, shadow: Session) -> None:
        for row in await session.ledger():
            await shadow.write(Ledger(put=row))

    async def down(
        self, session: Session, target: str, *, tell: Tell = nobody, watch: bool = False
    ) -> Labels:
        async def each(migration: Migration, footprint: Footprint) -> None:
            emptied = _losses(migration, session.engine, EMPTYING) if watch else ()
            tell(Ran(migration.label, footprint, emptied))

        found = to_revert(await migrating.look(session, self._files), target)
        await migrating.run_down(session, found, self._owner, tell=each)
        return tuple(migration.label for migration in found)


class AlembicChain:
    """The revisions of an Alembic project, which keeps its own table of them."""

    def __init__(self, folder: Folder, alembic: Alembic) -> None:
        self._folder = folder
        self._alembic = alembic

    def check(self, engine: Engine) -> None:
        """Alembic reads its files when it runs."""

    def problems(self) -> Labels:
        return ()

    def findings(self, engine: Engine) -> Labels:
        """Statements of revisions are known only when they run; a rehearsal tells what is found in them."""
        return ()

    async def standing(self, session: Session) -> Standing:
        found = await self._alembic.look(self._folder, await session.witness())
        several = f"{len(found.heads)} heads ({', '.join(found.heads)}): deploy goes to all of them"
        return Standing(
            applied=tuple(each.label for each in found.applied),
            pending=tuple(each.label for each in found.pending),
            missing=found.unknown,
            lint=(several,) if len(found.heads) > 1 else (),
            state={"applied": found.applied, "pending": found.pending, "unknown": found.unknown},
        )

    async def up(
        self,
        session: Session,
        *,
        tell: Tell = nobody,
        watch: bool = False,
        allow_missing: bool = False,
        allow_out_of_order: bool = False,
    ) -> Labels:
        witness, found = await self._look(session)
        return await self._run(session, witness, found.pending, "up", tell, watch)

    async def way_back(self, session: Session, target: str) -> Labels:
        _, found = await self._look(session)
        return tuple(f"downgrade {each.label} ({each.file})" for each in behind(found, target))

    async def losses_back(self, session: Session, target: str) -> Labels:
        """Nothing: its revisions are programs."""
        return ()

    async def reaches_outside(self, session: Session, target: str) -> bool:
        """What programs do is not known before."""
        return False

    async def copy_account(self, session: Session, shadow: Session) -> None:
        for each in accounts_of_alembic(await session.catalog()):
            name = each if session.engine == "postgres" else quoted(each)
            read = Statement(f"SELECT version_num FROM {name}", 1, ("select",))  # noqa: S608 - a quoted name
            rows = (await session.query(read, write=False, limit=MOST_HEADS)).rows
            put = [
                Statement(f"INSERT INTO {name} (version_num) VALUES ({literal(str(row[0]))})", 1, ("insert",))  # noqa: S608
                for row in rows
            ]
            await shadow.transaction(put, None)

    async def down(
        self, session: Session, target: str, *, tell: Tell = nobody, watch: bool = False
    ) -> Labels:
        witness, found = await self._look(session)
        return await self._run(session, witness, behind(found, target), "down", tell, watch)

    async def _look(self, session: Session) -> tuple[Witness, History]:
        witness = await session.witness()
        if witness is None:
            raise Unavailable(f"{self._folder.name}: there is no database yet")
        found = await self._alembic.look(self._folder, witness, patient=True)
        require_known(found)
        return witness, found

    async def _run(
        self,
        session: Session,
        witness: Witness,
        revisions: Sequence[Revision],
        direction: Any,
        tell: Tell,
        watch: bool,
    ) -> Labels:
        if not revisions:
            return ()
        labels = {each.version: each.label for each in revisions}
        limits = Limits(self._folder.settings.lock_timeout, self._folder.settings.statement_timeout)
        async with self._alembic.run(
            self._folder, witness, list(labels), direction, limits, watch=watch
        ) as steps:
            async for step in steps:
                label = labels[step.version]
                if direction == "up":
                    found = _told_of_statements(step.statements, session.engine)
                else:
                    found = tuple(f"{label}: {text}" for text in _emptying(step.statements, session.engine))
                tell(Ran(label, step.footprint, found, step.seconds))
        return tuple(labels.values())


def refuse_ours(folder: Folder, instead: str) -> None:
    """Raise Refused for an Alembic project, whose files only Alembic writes."""
    if folder.alembic is not None:
        raise Refused(f"{folder.name} is an Alembic project; that is Alembic's to do", next=instead)


def _told_of_statements(statements: Sequence[str], engine: Engine) -> Labels:
    return tuple(f"{each.rule}: {each.message}" for text in statements for each in lint(text, engine))


def _emptying(statements: Sequence[str], engine: Engine) -> Labels:
    return tuple(
        f"{' '.join(text.split())[:100]}: {each.message}"
        for text in statements
        for each in lint(text, engine)
        if each.rule in EMPTYING
    )


def _losses(migration: Migration, engine: Engine, rules: Collection[str]) -> Labels:
    return tuple(
        f"{migration.folder}/down.sql, line {each.line}: {each.message}"
        for each in lint(migration.down or "", engine)
        if each.rule in rules
    )


def _findings(migration: Migration, engine: Engine) -> Labels:
    where = f"{migration.folder}/up.sql"
    found: Sequence[Finding] = lint(migration.up, engine, where=where)
    return tuple(f"{where}:{each.line}: {each.rule}: {each.message}" for each in found)
