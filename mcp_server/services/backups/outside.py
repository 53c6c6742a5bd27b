"""Backups of databases that code bases have elsewhere: sealed, proved and let go in time, as those of our own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple, Protocol

import anyio

from mcp_server.domain.backups import SUFFIX, Backup, Retention, TableSum, differences, expired
from mcp_server.domain.databases import Login
from mcp_server.domain.errors import Corrupt, QuaymasterError
from mcp_server.domain.queries import SqliteFile, Target
from mcp_server.ports.backups import BackupFiles, PostgresSums, Scratch, Sink, SqliteCopies
from mcp_server.ports.store import Intent, Transaction
from mcp_server.services.backups.keeping import Keeping
from mcp_server.services.databases.parts import Parts

KEEP = Intent("keep_backup", "quaymaster")
SETTLE_SECONDS = 60.0
COPY_SECONDS = 3600.0


class Programs(Protocol):
    """pg_dump and pg_restore on this host, and databases to restore into."""

    async def dump(self, snapshot: str, sink: Sink) -> None: ...

    async def load(self, into: str, pieces: AsyncIterator[bytes]) -> None: ...

    def scratch(self) -> AbstractAsyncContextManager[str]:
        """The address of an empty database, dropped at the end."""
        ...

    def login(self, address: str) -> Login: ...


class Outside(NamedTuple):
    """A database that Quaymaster did not make. `uid` tells it from others, `programs` are None for SQLite."""

    uid: str
    target: Target
    programs: Programs | None
    team_id: str
    project: str | None = None
    project_uid: str | None = None


class OutsideBackups:
    def __init__(
        self,
        parts: Parts,
        files: BackupFiles,
        sums: PostgresSums,
        copies: SqliteCopies,
        scratch: Scratch,
        retention: Retention,
    ) -> None:
        self._parts = parts
        self._files = files
        self._sums = sums
        self._copies = copies
        self._scratch = scratch
        self._keeping = Keeping(parts.store, files, KEEP)
        self._retention = retention

    async def make(self, outside: Outside) -> Backup:
        """Back up and prove now. Raises what went wrong; then nothing is kept."""
        backup = await self._begin(outside)
        try:
            self._parts.step("backups.noted")
            backup = await self._write(backup, outside)
            self._parts.step("backups.written")
            await self._prove(backup, outside)
            self._parts.step("backups.proved")
            kept = await self._keeping.settle(backup)
        except BaseException as error:
            with anyio.move_on_after(SETTLE_SECONDS, shield=True):
                known = isinstance(error, QuaymasterError)
                await self._keeping.give_up(backup, error.message if known else "it was broken off")  # type: ignore[attr-defined]
            raise
        await self._let_go(kept)
        return kept

    async def pieces(self, backup: Backup) -> AsyncIterator[bytes]:
        """What pg_dump wrote, or SQLite's file. Raises Corrupt for a file that was changed or cut off."""
        async for piece in self._files.reading(backup.file, backup.context()):
            yield piece

    @asynccontextmanager
    async def opened(self, backup: Backup, outside: Outside) -> AsyncIterator[str]:
        """The address of a database with what the backup holds, gone at the end."""
        if outside.programs is None:
            async with self._scratch.folder() as folder:
                path = f"{folder}/copy.db"
                await self._scratch.write(path, self.pieces(backup))
                yield f"file:{path}"
            return
        async with outside.programs.scratch() as address:
            await outside.programs.load(address, self.pieces(backup))
            yield address

    # -- steps

    async def _begin(self, outside: Outside) -> Backup:
        site, drawn = self._parts.site, f"b-{secrets.token_hex(10)}"

        async def transaction(tx: Transaction) -> Backup:
            return await tx.backups.add(
                Backup(
                    id=drawn,
                    team_id=outside.team_id,
                    subject="outside",
                    project=outside.project,
                    project_uid=outside.project_uid,
                    database_uid=outside.uid,
                    home=site.home,
                    host=site.host,
                    host_name=site.host_name,
                    engine="sqlite" if outside.programs is None else "postgres",
                    reason="schema",
                    worker=self._parts.workers.me,
                    file=f"{drawn}{SUFFIX}",
                    created_at=await tx.now(),
                )
            )

        return (await self._parts.store.run(transaction, KEEP)).value

    async def _write(self, backup: Backup, outside: Outside) -> Backup:
        if isinstance(outside.target, SqliteFile) or outside.programs is None:
            return await self._write_file(backup, outside.target)
        async with (
            self._sums.moment(outside.target, seconds=COPY_SECONDS) as seen,
            self._files.writing(backup.file, backup.context()) as sink,
        ):
            await outside.programs.dump(seen.snapshot, sink)
        return backup.change(
            tables=tuple(seen.tables), extensions=tuple(seen.extensions), server_version=seen.version
        )

    async def _write_file(self, backup: Backup, target: Target) -> Backup:
        assert isinstance(target, SqliteFile)  # noqa: S101  # without programs it is one
        async with self._scratch.folder() as folder:
            copy = f"{folder}/copy.db"
            tables = await self._copies.copy(target, copy)
            async with self._files.writing(backup.file, backup.context()) as sink:
                async for piece in self._scratch.read(copy):
                    await sink(piece)
        return backup.change(tables=tuple(tables))

    async def _prove(self, backup: Backup, outside: Outside) -> None:
        async with self.opened(backup, outside) as address:
            found: tuple[TableSum, ...]
            if outside.programs is None:
                found = tuple(await self._copies.tables(address.removeprefix("file:")))
            else:
                found = tuple(await self._sums.tables(outside.programs.login(address), seconds=COPY_SECONDS))
        if wrong := differences(backup.tables, found):
            raise Corrupt(
                f"the restored copy of the backup differs: {'; '.join(wrong[:5])}",
                next="Nothing has been changed. Look why, or pass --no-backup.",
            )

    async def _let_go(self, kept: Backup) -> None:
        """Of the same database: what has had its time, and what dead processes left."""
        mine = [
            each
            for each in await self._parts.store.read(lambda tx: tx.backups.of_home(kept.home))
            if (each.subject, each.database_uid) == ("outside", kept.database_uid)
        ]
        for each in mine:
            if each.stage == "writing" and not self._parts.workers.alive(each.worker or ""):
                await self._keeping.give_up(each, "its process ended")
        for each in expired(mine, self._retention, kept.created_at):
            await self._keeping.forget(each)
