"""SQLite databases that move to PostgreSQL: whole or not at all, and back while nothing was written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcp_server.adapters.project_sql.promotion import SqliteToPostgres
from mcp_server.domain.databases import Database
from mcp_server.domain.errors import Conflict, Corrupt, Invalid, QuaymasterError
from mcp_server.ports.store import Transaction
from mcp_server.services.backups.settling import TEND
from mcp_server.services.promotions.service import Promotions
from tests.backups.conftest import Vault

TABLES = '''
CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, vip BOOLEAN DEFAULT 0,
  score REAL, price DECIMAL(10,2), born DATE, seen DATETIME DEFAULT CURRENT_TIMESTAMP, doc JSON, face BLOB);
CREATE TABLE "Pet's ""x""" (owner INT REFERENCES people ON DELETE CASCADE, "näme" TEXT, PRIMARY KEY (owner, "näme"));
CREATE INDEX by_score ON people (score DESC, name);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
  INSERT INTO people (name, vip, score, price, born, seen, doc, face)
  SELECT 'Ünï-' || i, i % 2, i / 7.0, i + 0.25, '2020-02-29', '2024-05-06 07:08:09.5', '{"i": ' || i || '}', randomblob(9) FROM n;
INSERT INTO "Pet's ""x""" SELECT id, 'p' || id FROM people;
DELETE FROM people WHERE id > 2990;
'''


class Quay:
    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        parts = vault.yard.databases.parts
        backups = vault.backups
        self.promoter = SqliteToPostgres()
        self.promotions = Promotions(
            parts, vault.yard.databases.holding, backups, self.promoter, backups._files, backups._copies, backups._scratch
        )  # fmt: skip

    async def begin(self, tables: str = TABLES) -> str:
        """A SQLite database with these tables; where its file is."""
        await self.vault.yard.create(engine="sqlite")
        path: str = (await self.vault.yard.get()).address
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.executescript(tables)
        return path

    async def ask(self, **arguments: Any) -> Any:
        return await self.vault.ask(
            self.promotions.promote,
            "promote_database_to_postgres",
            project=self.vault.yard.named("shop"),
            wait_seconds=60,
            **arguments,
        )

    async def promote(self, **arguments: Any) -> Any:
        plan = await self.ask(**arguments)
        assert plan.status == "planned"
        return await self.ask(token=plan.plan_token, **arguments)

    async def nothing_made(self) -> None:
        record = await self.vault.yard.record()
        assert record is not None
        assert (record.engine, record.place, record.worker) == ("sqlite", None, None)
        assert await self.vault.yard.ports() == []
        engine = self.vault.yard.databases.parts.engine
        labels = self.vault.yard.databases.parts.site.labels()
        assert not await engine.list(labels)
        assert not await engine.volumes(labels)


@pytest.fixture
async def quay(vault: Vault) -> Quay:
    return Quay(vault)


async def test_a_repeated_call_is_answered_alike_and_moves_nothing_a_second_time(quay: Quay) -> None:
    await quay.begin("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);")
    there = await quay.ask()
    sent = {"token": there.plan_token, "key": "there"}
    assert (await quay.ask(**sent)).state == "done"
    again = await quay.ask(**sent)
    assert (again.status, again.state) == ("done", "done")
    assert "earlier call" in again.message
    with pytest.raises(Conflict, match="on PostgreSQL already"):
        await quay.ask(token=there.plan_token, key="another")
    back = await quay.ask(back=True)
    assert (await quay.ask(back=True, token=back.plan_token)).state == "done"
    with pytest.raises(Conflict, match="stayed where it was"):
        await quay.ask(**sent)
    assert (await quay.vault.yard.get()).engine == "sqlite"


async def test_a_rotation_that_died_is_not_taken_for_a_promotion(quay: Quay) -> None:
    """Whoever asks for the database meanwhile would be refused, since somebody is at work on it."""
    await quay.vault.yard.create(engine="postgres")

    async def died(tx: Transaction) -> None:
        assert record is not None
        held = await tx.databases.hold(record.key)
        assert held is not None
        await tx.databases.save(held.change(next_access=held.access, worker=f"w{'0' * 24}"))

    record = await quay.vault.yard.record()
    await quay.vault.yard.store.run(died, TEND)
    before = await quay.vault.yard.record()
    await quay.promotions.tend()
    assert await quay.vault.yard.record() == before


async def test_everything_comes_along_and_goes_back_while_nothing_was_written(quay: Quay) -> None:
    path = await quay.begin()
    done = await quay.promote()
    assert (done.status, done.state, done.tables) == ("done", "done", 2)
    sql = quay.vault.sql
    assert (await quay.vault.yard.get()).engine == "postgres"
    assert await sql("SELECT count(*) FROM people") == 2990
    assert await sql('''SELECT count(*) FROM "Pet's ""x"""''') == 2990
    assert await sql("SELECT (vip, score, price, born, seen, doc->>'i')::TEXT FROM people WHERE id = 7") == (
        '(t,1,7.25,2020-02-29,"2024-05-06 07:08:09.5",7)'
    )
    back = await quay.ask(back=True)
    assert back.status == "planned"
    # An identity goes on after the greatest number that was ever given, deleted rows included.
    assert await sql("BEGIN", "SELECT nextval(pg_get_serial_sequence('people', 'id'))") == 3001
    assert (await quay.ask(back=True, token=back.plan_token)).state == "done"
    view = await quay.vault.yard.get()
    assert (view.engine, view.address) == ("sqlite", path)
    await quay.nothing_made()


async def test_what_is_told_to_stop_as_its_switch_is_written_down_keeps_its_server(
    quay: Quay, monkeypatch: pytest.MonkeyPatch
) -> None:
    await quay.begin()
    forth = quay.promotions._forth
    switch = forth._switch

    async def stopped(database: Database) -> Database:
        await switch(database)
        raise Conflict("the server stops")

    monkeypatch.setattr(forth, "_switch", stopped)
    with pytest.raises(Conflict, match="the server stops"):
        await quay.promote()
    assert (await quay.vault.yard.get()).engine == "postgres"
    assert await quay.vault.sql("SELECT count(*) FROM people") == 2990


async def test_a_file_that_is_gone_is_no_way_back(quay: Quay) -> None:
    path = Path(await quay.begin())
    await quay.promote()
    path.unlink()
    with pytest.raises(Conflict, match="no SQLite file at"):
        await quay.ask(back=True)
    assert (await quay.vault.yard.get()).engine == "postgres"


async def test_a_link_in_the_place_of_the_file_is_no_way_back(quay: Quay, tmp_path: Path) -> None:
    path = Path(await quay.begin())
    await quay.promote()
    elsewhere = tmp_path / "elsewhere.db"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(Invalid, match="not followed"):
        await quay.ask(back=True)
    assert (await quay.vault.yard.get()).engine == "postgres"


async def test_there_is_no_way_back_once_something_was_written(quay: Quay) -> None:
    await quay.begin()
    await quay.promote()
    await quay.vault.sql("UPDATE people SET score = 0 WHERE id = 1", "SELECT 1")
    with pytest.raises(Conflict, match="written to since"):
        await quay.ask(back=True)
    assert (await quay.vault.yard.get()).engine == "postgres"


async def test_what_cannot_come_is_refused_with_the_list_before_anything_is_made(quay: Quay) -> None:
    await quay.begin("CREATE TABLE t (a INT CHECK (a > 1)); CREATE VIEW v AS SELECT 1;")
    with pytest.raises(Invalid) as refused:
        await quay.ask()
    assert len(refused.value.details["refused"]) == 2
    await quay.nothing_made()


async def test_one_row_that_differs_leaves_everything_on_sqlite(
    quay: Quay, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await quay.begin()
    load = quay.promoter.load

    async def load_and_lose(source: str, login: Any, tables: Any) -> None:
        import asyncpg

        await load(source, login, tables)
        connection = await asyncpg.connect(
            host=login.host, port=login.port, user=login.role, database=login.database,
            password=login.password.get_secret_value(),
        )  # fmt: skip
        await connection.execute("UPDATE people SET price = price + 0.01 WHERE id = 99")
        await connection.close()

    monkeypatch.setattr(quay.promoter, "load", load_and_lose)
    with pytest.raises(Corrupt, match="people has other contents"):
        await quay.promote()
    await quay.nothing_made()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO people (name) VALUES ('free to write')")


async def test_nobody_writes_to_the_file_between_copy_and_switch(
    quay: Quay, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await quay.begin()
    load = quay.promoter.load

    async def load_while_somebody_writes(source: str, login: Any, tables: Any) -> None:
        with closing(sqlite3.connect(path, timeout=0.1)) as connection:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                connection.execute("INSERT INTO people (name) VALUES ('late')")
            assert connection.execute("SELECT count(*) FROM people").fetchone() == (2990,)
        await load(source, login, tables)

    monkeypatch.setattr(quay.promoter, "load", load_while_somebody_writes)
    await quay.promote()


async def test_what_a_dead_process_half_made_is_taken_away(
    quay: Quay, monkeypatch: pytest.MonkeyPatch
) -> None:
    await quay.begin()

    async def die(*_: Any) -> None:
        raise QuaymasterError("died here")

    async def not_now(*_: Any) -> None:
        return None

    monkeypatch.setattr(quay.promoter, "load", die)
    undo = quay.promotions._forth.undo
    monkeypatch.setattr(quay.promotions._forth, "undo", not_now)
    with pytest.raises(QuaymasterError, match="died here"):
        await quay.promote()
    record = await quay.vault.yard.record()
    assert record is not None
    assert record.place is not None
    monkeypatch.setattr(quay.promotions._forth, "undo", undo)
    monkeypatch.setattr(quay.vault.yard.databases.parts.workers, "alive", lambda worker: False)
    await quay.promotions.tend()
    await quay.nothing_made()
