"""After a new key: what an older one sealed is sealed with the newest. Values stay what they were."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import TypeVar, cast, get_args

from mcp_server.domain.backups import SUFFIX, Backup, Branch
from mcp_server.domain.databases import Access, Database, DatabaseServer, secret_context
from mcp_server.domain.environments import EnvironmentVersion, ProjectEnvironment
from mcp_server.domain.errors import Conflict, Corrupt, NotFound, QuaymasterError, Unavailable
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Value
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.backups import BackupFiles
from mcp_server.ports.sealing import Sealer
from mcp_server.ports.store import Intent, Reading, Store, Transaction
from mcp_server.services.pages import every
from mcp_server.services.vault import PLACED

RESEAL = Intent("reseal_secrets", "quaymaster")
V = TypeVar("V", Database, DatabaseServer, Branch, ProjectEnvironment, EnvironmentVersion)


class Resealed(Value):
    """`sealed`: records and files sealed anew. `left`: what opens with no key of this server, or was busy, by name."""

    sealed: int = 0
    left: tuple[str, ...] = ()


class Resealing:
    """Over everything that this home can reach; servers of databases and backups only where they are this home's."""

    def __init__(self, store: Store, sealer: Sealer, files: BackupFiles, home: str) -> None:
        self._store = store
        self._sealer = sealer
        self._files = files
        self._home = home

    async def run(self) -> Resealed:
        """Record by record and file by file: what is cut short is gone on with by calling again."""
        sealed, left = 0, []
        async for noun, key, project in self._places():
            try:
                done = await self._store.run(
                    partial(self._reseal, noun=noun, key=key, project=project), RESEAL
                )
                sealed += done.value
            except (Unavailable, Corrupt, Conflict) as error:
                left.append(f"{noun} {key}: {error.message}")
        for backup in await self._backups():
            try:
                sealed += await self._reseal_file(backup)
            except (Unavailable, Corrupt, Conflict, NotFound) as error:
                left.append(f"backups {backup.id}: {error.message}")
        for name in await self._unknown():
            left.append(f"backups/{name}: it is in no record")
        return Resealed(sealed=sealed, left=tuple(left))

    async def unreadable(self, *, most: int | None = None) -> tuple[str, ...]:
        """Records with a secret that no key of this server opens, by noun and key. Changes nothing.

        `most`: of the first so many records, and of no backup.
        """
        lost = []
        tried = 0
        async for noun, key, project in self._places():
            if tried == most:
                break
            tried += 1
            record = await self._store.read(lambda tx: getattr(tx, noun).get(key))  # noqa: B023
            try:
                if record is not None:
                    self._anew(record, project)
            except QuaymasterError:
                lost.append(f"{noun} {key}")
        for backup in await self._backups() if most is None else ():
            try:
                async with aclosing(self._pieces(backup)) as pieces:
                    await anext(pieces)
            except QuaymasterError:
                lost.append(f"backups {backup.id}")
        return tuple(lost)

    async def give_up(self) -> tuple[str, ...]:
        """The same; and variables among it get a version without what cannot be opened, so that they can be set again.

        The versions before stay as they are: with the key, should it be found, they open.
        """
        lost = await self.unreadable()
        async for noun, key, project in self._places():
            if noun == "environments" and project is not None and f"{noun} {key}" in lost:
                await self._store.run(partial(self._emptied, key=key, project=project), RESEAL)
        return lost

    async def _emptied(self, tx: Transaction, *, key: str, project: Project) -> None:
        held = await tx.environments.hold(key)
        if held is None or not held.encrypted:
            return
        kept = self._opening(held.env_data, project, held.environment)
        if len(kept) == len(held.env_data):
            return
        now, version = await tx.now(), held.version + 1
        fields = {"version": version, "env_data": kept, "encrypted": True, "created_by": "secrets reset"}
        await tx.environments.save(held.change(updated_at=now, **fields))
        await tx.environment_versions.add(
            EnvironmentVersion(project=held.project, environment=held.environment, created_at=now, **fields)
        )

    def _opening(
        self, data: Mapping[str, str], project: Project, environment: EnvironmentName
    ) -> dict[str, str]:
        """What of it opens, sealed with the newest key."""
        found: dict[str, str] = {}
        for name, text in data.items():
            with suppress(QuaymasterError):
                found |= self._variables({name: text}, project, environment)
        return found

    async def _places(self) -> AsyncIterator[tuple[str, str, Project | None]]:
        for team in await self._store.read(lambda tx: every(tx.teams.list)):
            for project in await self._store.read(partial(_projects_of, team=team.id)):
                for noun, key in await self._store.read(partial(_secrets_of, project=project.name)):
                    yield noun, key, project
        for server in await self._store.read(lambda tx: tx.database_servers.of_home(self._home)):
            yield "database_servers", server.key, None

    async def _backups(self) -> list[Backup]:
        found = await self._store.read(lambda tx: tx.backups.of_home(self._home))
        return [backup for backup in found if backup.stage != "failed"]

    async def _unknown(self) -> list[str]:
        """The record is added before the file: names first."""
        names = await self._files.names()
        known = {backup.file for backup in await self._backups()}
        return [name for name in names if name.endswith(SUFFIX) and name not in known]

    def _pieces(self, backup: Backup) -> AsyncGenerator[bytes]:
        return cast(AsyncGenerator[bytes], self._files.reading(backup.file, backup.context()))

    async def _reseal_file(self, backup: Backup) -> int:
        """The file, and then its checksum in the record; a run that ended between them is gone on with here."""
        if backup.stage == "writing":
            raise Conflict("it is being written")
        anew = await self._files.reseal(backup.file, backup.context())
        stored = await self._files.stored(backup.file)
        if (stored.bytes, stored.sha256) == (backup.bytes, backup.sha256):
            return 0
        if not anew:
            async for _ in self._pieces(backup):
                """Whoever has the key wrote all of it, or this raises."""

        async def transaction(tx: Transaction) -> bool:
            held = await tx.backups.hold(backup.id)
            if held is not None:
                await tx.backups.save(held.change(bytes=stored.bytes, sha256=stored.sha256))
            return held is not None

        if not (await self._store.run(transaction, RESEAL)).value:
            await self._files.remove(backup.file)
        return 1

    async def _reseal(self, tx: Transaction, *, noun: str, key: str, project: Project | None) -> int:
        repository = getattr(tx, noun)
        held = await repository.hold(key)
        if held is None:
            return 0
        after = self._anew(held, project)
        if after == held:
            return 0
        await repository.save(after)
        return 1

    def _anew(self, record: V, project: Project | None) -> V:
        """Raises Unavailable and Corrupt when it cannot be opened."""
        if isinstance(record, Database):
            return record.change(
                access=self._access(record.access, record.uid),
                next_access=self._access(record.next_access, record.uid),
            )
        if isinstance(record, DatabaseServer):
            return record.change(access=self._access(record.access, record.id))
        if isinstance(record, Branch):
            return record.change(access=self._access(record.access, record.uid))
        if project is None or not record.encrypted:
            return record
        return record.change(env_data=self._variables(record.env_data, project, record.environment))

    def _access(self, access: Access | None, holder: str) -> Access | None:
        if access is None:
            return None
        return access.change(
            password=self._text(access.password, secret_context(holder, "role")),
            reader_password=self._text(access.reader_password, secret_context(holder, "reader")),
        )

    def _variables(
        self, data: Mapping[str, str], project: Project, environment: EnvironmentName
    ) -> dict[str, str]:
        anew = {}
        for name, text in data.items():
            version, _, sealed = text.partition(PLACED)
            place = ("environment", project.team_id, project.uid, environment, name, version)
            anew[name] = f"{version}{PLACED}{self._text(sealed, place)}"
        return anew

    def _text(self, sealed: str, context: tuple[str, ...]) -> str:
        plain = self._sealer.open(sealed, context)
        return sealed if self._sealer.is_current(sealed) else self._sealer.seal(plain, context)


async def _projects_of(tx: Reading, *, team: str) -> list[Project]:
    return await every(partial(tx.projects.of_team, team))


async def _secrets_of(tx: Reading, *, project: str) -> list[tuple[str, str]]:
    found = [("databases", one.key) for one in await tx.databases.of_project(project)]
    found += [("branches", one.key) for one in await tx.branches.of_project(project)]
    found += [("environments", one.key) for one in await tx.environments.of_project(project)]
    for environment in get_args(EnvironmentName):
        versions = await every(partial(tx.environment_versions.of_environment, project, environment))
        found += [("environment_versions", one.key) for one in versions]
    return found
