"""The record of a database that is being made: changed, settled, or turned back until nothing of it is left."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import anyio

from mcp_server.domain.audit import AuditRow
from mcp_server.domain.databases import Access, Database, DatabaseServer, Place
from mcp_server.domain.errors import Conflict, NotFound, QuaymasterError
from mcp_server.domain.records import Moment
from mcp_server.domain.redaction import redacted_text
from mcp_server.ports.store import Transaction
from mcp_server.services.databases.drafts import said, sqlite_place
from mcp_server.services.databases.files import remove_sqlite, sqlite_root
from mcp_server.services.databases.leftovers import TEND
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.patience import patiently

T = TypeVar("T")


class Unfinished:
    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._files = parts.files
        self._passwords = parts.passwords
        self._allocation = parts.allocation
        self._leftovers = parts.leftovers
        self._injection = parts.injection
        self._networks = parts.networks
        self._places = parts.places
        self._workers = parts.workers
        self._options = parts.options
        self._step = parts.step

    async def ours(self, key: str, uid: str) -> Database | None:
        """While it is being made, and by this process."""
        found = await self._store.read(lambda tx: tx.databases.get(key))
        mine = found is not None and found.uid == uid and found.worker == self._workers.me
        return found if mine and found is not None and found.stage == "creating" else None

    async def settle(self, record: Database) -> Database:
        """Ready, and the project's own. Raises Conflict when it was given up meanwhile."""
        return await self._run(partial(self._settled, record=record))

    async def _settled(self, tx: Transaction, *, record: Database) -> Database:
        project = await tx.projects.hold(record.project)  # before its database, as creations hold them
        held = await tx.databases.hold(record.key)
        if held is None or held.uid != record.uid or held.worker != self._workers.me:
            raise Conflict("the creation was given up meanwhile")
        now = await tx.now()
        ready = await tx.databases.save(held.change(stage="ready", worker=None, updated_at=now))
        if project is not None and (project.database_name is None or held.environment is None):
            name = held.access.database if held.access else "sqlite"
            port = held.place.port if held.place else None
            await tx.projects.save(project.change(database_name=name, database_port=port, updated_at=now))
        return ready

    async def moved(self, record: Database, port: int) -> Database:
        """On another port, with the old one given back."""

        async def transaction(tx: Transaction) -> Database:
            held = await self._held(tx, record)
            place, _ = parts_of(held)
            now = await tx.now()
            await self._allocation.take(tx, port, held.uid, "database", now)
            await self._allocation.release(tx, place.port, held.uid)
            return await tx.databases.save(held.change(place=place.change(port=port), updated_at=now))

        return await self._run(transaction)

    async def changed(self, record: Database, **fields: Any) -> Database:
        """Raises Conflict when it was given up meanwhile."""

        async def transaction(tx: Transaction) -> Database:
            return await tx.databases.save((await self._held(tx, record)).change(**fields))

        return await self._run(transaction)

    async def _held(self, tx: Transaction, record: Database) -> Database:
        held = await tx.databases.hold(record.key)
        if held is None or held.uid != record.uid or held.worker != record.worker:
            raise Conflict("the database was given up meanwhile")
        return held

    async def _run(self, transaction: Callable[[Transaction], Awaitable[T]]) -> T:
        """What is being made does not end for a store that is busy at this moment."""
        return (await patiently(lambda: self._store.run(transaction, TEND))).value

    # -- turning back

    async def fall_back(self, record: Database, error: QuaymasterError) -> Database:
        """The record goes on as a file; what there is of it on the engine is noted, and removed."""
        project = await self._store.read(lambda tx: tx.projects.get(record.project))
        if project is None:
            raise NotFound("the project was deleted meanwhile")
        path = sqlite_place(self._options.files, project, record.environment)
        adopted = await self._files.exists(sqlite_root(self._options.files, path), path)
        fields: dict[str, Any] = {
            "engine": "sqlite", "isolation": "file", "place": None, "access": None, "claimed": None,
            "path": path, "adopted": adopted, "fallback": said(error),
        }  # fmt: skip
        file, left = await self._run(partial(self._detached, record=record, fields=fields))
        self._step("databases.create.fell_back")
        if left is not None:
            await self._leftovers.remove(left)
            await self._leave_network(record)
        return file

    async def leave_standby(self, record: Database) -> Database:
        """The claimed standby is of no use: it is noted and removed, and the record goes on cold."""
        port = await self._allocation.candidate(seed=record.uid)
        fields: dict[str, Any] = {
            "place": (await self._places.find(record, port=port)).place,
            "access": self._passwords.drawn(record.uid),
            "claimed": None,
        }
        cold, left = await self._run(partial(self._detached, record=record, fields=fields))
        if left is not None:
            await self._leftovers.remove(left)
        return cold

    async def _detached(
        self, tx: Transaction, *, record: Database, fields: dict[str, Any]
    ) -> tuple[Database, DatabaseServer | None]:
        held = await self._held(tx, record)
        now = await tx.now()
        left = await self._leftovers.note(tx, held, now)
        changed = await tx.databases.save(held.change(updated_at=now, **fields))
        if changed.place is not None:
            await self._allocation.take(tx, changed.place.port, changed.uid, "database", now)
        return changed, left

    async def give_up(self, record: Database, why: str) -> None:
        """Nothing of it stays: first its record turns into a note of what is to be removed, then that goes.

        Nothing happens when the record is settled, or another's by now. Not to be cancelled half-way.
        """
        with anyio.move_on_after(self._options.work_seconds, shield=True):
            file = await self._drop_file(record)
            fn = partial(self._given_up, record=record, why=why, row_id=f"a{secrets.token_hex(14)}")
            gone, left = await self._run(fn)
            self._step("databases.create.given_up")
            if left is not None:
                await self._leftovers.remove(left)
            if gone and not file:
                await self._leave_network(record)

    async def _given_up(
        self, tx: Transaction, *, record: Database, why: str, row_id: str
    ) -> tuple[bool, DatabaseServer | None]:
        held = await tx.databases.hold(record.key)
        if held is None or held.uid != record.uid or held.stage != "creating":
            return False, None
        now = await tx.now()
        left = await self._leftovers.note(tx, held, now)
        await tx.databases.remove(held)
        if held.remembered is not None:
            remembered = await tx.idempotency.hold(held.remembered)
            if remembered is not None:
                await tx.idempotency.remove(remembered)
        await tx.audit.add(_failure(row_id, held, why, now))
        return True, left

    async def _drop_file(self, record: Database) -> bool:
        """A file that this creation made. Before the record: with it the path would be forgotten."""
        now = await self._store.read(lambda tx: tx.databases.get(record.key))
        if now is None or now.uid != record.uid or now.stage != "creating" or now.path is None:
            return False
        if not now.adopted:
            await remove_sqlite(self._files, self._options.files, now.path)
        return True

    async def _leave_network(self, record: Database) -> None:
        """The project's network goes when nobody else is in it."""
        with suppress(QuaymasterError):
            await self._networks.remove(record.project, record.project_uid)


def _failure(row_id: str, record: Database, why: str, now: Moment) -> AuditRow:
    return AuditRow(
        id=row_id,
        timestamp=now,
        team_id=record.team_id,
        user_id="quaymaster",
        action="create_database",
        resource="databases",
        resource_id=record.key,
        params={"engine": record.requested},
        success=False,
        error=redacted_text(why),
    )


def parts_of(record: Database) -> tuple[Place, Access]:
    if record.place is None or record.access is None:
        raise Conflict("the database has no server of its own")
    return record.place, record.access
