"""Backups of Quaymaster itself: made and proved as those of databases are."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import anyio

from mcp_server.domain.backups import SUFFIX, Backup, Reason, due
from mcp_server.domain.databases import Site
from mcp_server.domain.errors import Conflict, Corrupt, NotFound, QuaymasterError
from mcp_server.domain.installation_backups import Contents, Own, file_name, is_own
from mcp_server.domain.records import Moment
from mcp_server.ports.backups import BackupFiles, Scratch, Sink
from mcp_server.ports.databases import Workers
from mcp_server.ports.installation_backups import ControlPlane, RegistryCopies
from mcp_server.ports.store import Intent, Store, Transaction
from mcp_server.services.backups.copying import require_same
from mcp_server.services.backups.installation_restores import InstallationRestores
from mcp_server.services.backups.keeping import Keeping
from mcp_server.services.databases.options import Step, no_step

log = logging.getLogger(__name__)
TEND = Intent("tend_backups", "quaymaster")
SETTLE_SECONDS = 60.0
BETWEEN_LOOKS = 60.0


class InstallationBackups:
    """Of this home's registry, and of the PostgreSQL that it works on: None where the registry is the store.

    `hours` between scheduled ones; 0: none. Retention is that of all backups of the home.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        site: Site,
        files: BackupFiles,
        scratch: Scratch,
        restores: InstallationRestores,
        registry: RegistryCopies,
        control_plane: ControlPlane | None,
        *,
        hours: float = 0,
        step: Step = no_step,
    ) -> None:
        self._store = store
        self._workers = workers
        self._site = site
        self._files = files
        self._scratch = scratch
        self._restores = restores
        self._registry = registry
        self._control_plane = control_plane
        self._hours = hours
        self._keeping = Keeping(store, files, TEND)
        self._step = step

    @property
    def subjects(self) -> tuple[Own, ...]:
        return ("registry",) if self._control_plane is None else ("control_plane", "registry")

    # -- use cases

    async def create(self, subject: Own, reason: Reason = "asked") -> Backup:
        """Back it up and prove it. Raises what went wrong; then there is no file, and the record says why."""
        self._restores.require(subject)
        drawn = f"b-{secrets.token_hex(10)}"

        async def transaction(tx: Transaction) -> Backup:
            return await tx.backups.add(self._begun(drawn, subject, reason, await tx.now()))

        backup = (await self._store.run(transaction, TEND)).value
        try:
            self._step("installation.noted")
            await self._write(backup, subject)
            self._step("installation.written")
            contents = await self._restores.prove(backup.file, self._files)
            self._step("installation.proved")
            return await self._keeping.settle(_written(backup, contents))
        except BaseException as error:
            with anyio.move_on_after(SETTLE_SECONDS, shield=True):
                why = error.message if isinstance(error, QuaymasterError) else "the process ended, or failed"
                await self._keeping.give_up(backup, why)
            raise

    async def unknown(self) -> Sequence[str]:
        """Whole files of which no record speaks, by name: newer than a store that was restored."""
        names = await self._files.names()
        known = {backup.file for backup in await self.list()}
        return [name for name in names if name.endswith(SUFFIX) and name not in known]

    async def list(self) -> Sequence[Backup]:
        """All backups that this home keeps, of databases too, newest first."""
        found = await self._store.read(lambda tx: tx.backups.of_home(self._site.home))
        return sorted(found, key=lambda backup: (backup.created_at, backup.id), reverse=True)

    async def verify(self, id: str) -> Backup:
        """Prove a backup again: its checksum, then a restore into a scratch database or directory, compared.

        Of a database's backup every byte is opened; it was restored when it was made. Raises Corrupt.
        """
        backup = await self._kept(id)
        stored = await self._files.stored(backup.file)
        if stored.sha256 != backup.sha256:
            raise Corrupt(
                "the backup's file is not the one that was written",
                next="Use another backup, and make a new one.",
            )
        if not is_own(backup):
            async for _ in self._files.reading(backup.file, backup.context()):
                pass
            return backup
        contents = await self._restores.prove(backup.file, self._files)
        require_same(backup.tables, contents.tables)
        return await self._keeping.settle(_written(backup, contents))

    # -- for the leader of the home

    async def lead(self) -> None:
        """Settle what dead processes began and make what is due; never ends."""
        while True:
            for work in (self.tend, self.run_schedule):
                try:
                    await work()
                except QuaymasterError as error:
                    log.info("backups of the installation are looked at later: %s", error.message)
            await anyio.sleep(BETWEEN_LOOKS)

    async def tend(self) -> None:
        """What a dead process wrote to its end is proved and kept, be it that it died or that its record came
        back with a restored store; what it did not is failed."""
        for backup in await self.list():
            if backup.subject not in self.subjects or backup.stage != "writing":
                continue
            if not self._workers.alive(backup.worker):
                try:
                    contents = await self._restores.prove(backup.file, self._files)
                    await self._keeping.settle(_written(backup, contents))
                except (NotFound, Corrupt) as error:
                    await self._keeping.give_up(backup, f"its server process ended ({error.message})")
        if self._control_plane is not None:
            await self._control_plane.clear()

    async def run_schedule(self) -> int:
        """Back up what has no verified backup younger than the schedule's hours; how many were made. What failed
        is let be for a while."""
        if not self._hours:
            return 0
        backups = await self.list()
        now = await self._store.read(lambda tx: tx.now())
        made = 0
        for subject in self.subjects:
            if not due([one for one in backups if one.subject == subject], self._hours, now):
                continue
            try:
                await self.create(subject, "schedule")
                made += 1
            except QuaymasterError as error:
                log.warning("no backup of the %s: %s", subject.replace("_", " "), error.message)
        return made

    # -- making

    def _begun(self, id: str, subject: Own, reason: Reason, now: Moment) -> Backup:
        return Backup(
            id=id,
            subject=subject,
            home=self._site.home,
            host=self._site.host,
            host_name=self._site.host_name,
            engine="postgres" if subject == "control_plane" else None,
            reason=reason,
            worker=self._workers.me,
            file=file_name(subject, id),
            created_at=now,
        )

    async def _write(self, backup: Backup, subject: Own) -> None:
        contents = Contents(
            subject=subject, id=backup.id, home=backup.home, created_at=backup.created_at, tables=()
        )
        if subject == "registry":
            await self._write_registry(backup, contents)
            return
        postgres = self._restores.postgres()
        async with postgres.moment() as seen, self._writing(backup) as sink:
            await sink(contents.change(server_version=seen.version, tables=tuple(seen.tables)).line())
            await postgres.dump(seen, sink)

    async def _write_registry(self, backup: Backup, contents: Contents) -> None:
        async with self._scratch.folder() as folder:
            archive = f"{folder}/registry.tar"
            tables = await self._registry.pack(f"{folder}/registry", archive)
            async with self._writing(backup) as sink:
                await sink(contents.change(tables=tuple(tables)).line())
                async for piece in self._scratch.read(archive):
                    await sink(piece)

    def _writing(self, backup: Backup) -> AbstractAsyncContextManager[Sink]:
        return self._files.writing(backup.file, backup.context())

    # -- looking

    async def _kept(self, id: str) -> Backup:
        found = await self._store.read(lambda tx: tx.backups.get(id))
        if found is None or found.home != self._site.home:
            raise NotFound("this home keeps no such backup", next="quaymaster backup list shows them.")
        if found.stage != "kept":
            raise Conflict(f"this backup is {found.stage}: {found.error or 'it is not proved yet'}")
        return found


def _written(backup: Backup, contents: Contents) -> Backup:
    return backup.change(tables=contents.tables, server_version=contents.server_version)
