"""Backups of PostgreSQL on a real engine: proved by restoring them, and restored beside the live database."""

from __future__ import annotations

import asyncpg
import pytest

from mcp_server.domain.database_copies import closed
from mcp_server.domain.databases import Place
from mcp_server.domain.errors import Conflict, Corrupt, QuaymasterError, Unavailable
from mcp_server.ports.store import Transaction
from mcp_server.services.backups.settling import TEND
from tests.backups.conftest import Vault

SCHEMA = [
    "CREATE TYPE mood AS ENUM ('ok', 'sad')",
    "CREATE TABLE people (id SERIAL PRIMARY KEY, name TEXT NOT NULL, mood mood, data JSONB, at TIMESTAMPTZ DEFAULT now())",
    "CREATE TABLE pets (id INT GENERATED ALWAYS AS IDENTITY, person INT REFERENCES people ON DELETE CASCADE, b BYTEA)",
    "COMMENT ON TABLE people IS 'who is here'",
    "CREATE VIEW sad AS SELECT * FROM people WHERE mood = 'sad'",
    "CREATE SCHEMA other",
    'CREATE TABLE other."Ü x" (a FLOAT8[], PRIMARY KEY (a))',
    "CREATE FUNCTION double(i INT) RETURNS INT LANGUAGE sql AS 'SELECT 2 * i'",
    "REVOKE EXECUTE ON FUNCTION double(INT) FROM PUBLIC",
    "INSERT INTO people (name, mood, data) SELECT 'n' || i, 'sad', jsonb_build_object('i', i) FROM generate_series(1, 2000) i",
    "INSERT INTO pets (person, b) SELECT id, decode(md5(name), 'hex') FROM people",
    "INSERT INTO other.\"Ü x\" VALUES ('{1.1,NaN,NULL}')",
]


async def filled(vault: Vault) -> None:
    await vault.yard.create(engine="postgres")
    await vault.sql(*SCHEMA, "SELECT 1")


async def test_a_backup_is_proved_sealed_and_restored_in_the_place_of_the_live_database(vault: Vault) -> None:
    await filled(vault)
    made = await vault.back_up()
    assert (made.state, made.error) == ("verified", None)
    assert made.verified_at is not None
    record = await vault.record(made.id)
    assert {(table.name, table.rows) for table in record.tables} >= {
        ("public.people", 2000), ("public.pets", 2000), ('other."Ü x"', 1), ("sequence public.people_id_seq", 1),
    }  # fmt: skip
    on_disk = (vault.folder / record.file).read_bytes()
    assert b"PGDMP" not in on_disk
    assert (vault.folder / record.file).stat().st_mode & 0o777 == 0o600

    await vault.sql(
        "DELETE FROM people WHERE id > 10", "DROP VIEW sad", "CREATE TABLE later (a INT)", "SELECT 1"
    )
    done = await vault.restore(made.id)
    assert done.status == "done"
    assert await vault.sql("SELECT count(*) FROM people") == 2000
    assert await vault.sql("SELECT count(*) FROM sad") == 2000
    assert await vault.sql("SELECT to_regclass('later') IS NULL")
    assert await vault.sql("SELECT nextval('people_id_seq')") == 2001
    assert await vault.sql("SELECT obj_description('people'::regclass)") == "who is here"
    assert await vault.sql("SELECT has_function_privilege('app_reader', 'double(int)', 'EXECUTE')") is False
    assert await vault.sql("SELECT has_table_privilege('app_reader', 'people', 'SELECT')")
    assert await vault.sql("SELECT has_schema_privilege('app_reader', 'other', 'USAGE')")
    assert await vault.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'qm%'") == 0
    # What was there before the restore is in a backup of its own.
    reasons = [one.reason for one in (await vault.ask(vault.backups.list, "list_backups")).items]
    assert reasons == ["restore", "asked"]
    before = (await vault.ask(vault.backups.list, "list_backups", project=vault.yard.named("shop"))).items[0]
    await vault.restore(before.id)
    assert await vault.sql("SELECT count(*) FROM people") == 10
    record_now = await vault.yard.record()
    assert record_now is not None
    assert record_now.worker is None


async def test_a_restore_that_fails_leaves_the_database_as_it_was_and_open(vault: Vault) -> None:
    await filled(vault)
    made = await vault.back_up()
    path = vault.folder / (await vault.record(made.id)).file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    await vault.sql("DELETE FROM people", "SELECT 1")
    with pytest.raises(QuaymasterError):
        await vault.restore(made.id)
    assert await vault.sql("SELECT count(*) FROM people") == 0
    assert await vault.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'qm%'") == 0


async def test_a_database_that_a_restore_could_not_open_again_is_opened_by_the_next_look(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(vault)
    made = await vault.back_up()
    dumps = vault.backups._restoring._dumps
    run_sql, refusing = dumps.run_sql, False

    async def run(place: Place, script: str) -> None:
        nonlocal refusing
        refusing = refusing or "RENAME" in script
        if refusing:
            raise Unavailable("the engine went away")
        await run_sql(place, script)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(dumps, "run_sql", run)
        with pytest.raises(Unavailable):
            await vault.restore(made.id)
    with pytest.raises(asyncpg.PostgresError):
        await vault.sql("SELECT 1")
    await vault.backups.tending.tend()
    assert await vault.sql("SELECT 1") == 1
    settled = await vault.yard.record("shop")
    assert settled is not None
    assert (settled.worker, (await vault.record(made.id)).worker) == (None, None)


async def test_another_projects_database_that_a_dead_restore_closed_is_opened_again(vault: Vault) -> None:
    await filled(vault)
    await vault.yard.add_project("web")
    await vault.yard.create("web", engine="postgres")
    made = await vault.back_up()
    dead = f"w{'0' * 24}"
    web = await vault.yard.record("web")
    assert web is not None
    assert web.place is not None
    assert web.access is not None

    async def marked(tx: Transaction) -> None:
        backup, database = await tx.backups.hold(made.id), await tx.databases.hold(web.key)
        assert backup is not None
        assert database is not None
        await tx.backups.save(backup.change(worker=dead))
        await tx.databases.save(database.change(worker=dead))

    await vault.yard.store.run(marked, TEND)
    await vault.yard.databases.parts.servers.run_sql(web.place.ref, closed(web.access))
    with pytest.raises(asyncpg.PostgresError):
        await vault.sql("SELECT 1", project="web")
    await vault.backups.tending.tend()
    assert await vault.sql("SELECT 1", project="web") == 1
    settled = await vault.yard.record("web")
    assert settled is not None
    assert (settled.worker, (await vault.record(made.id)).worker) == (None, None)


async def test_a_copy_that_differs_is_no_backup(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the proof finds is believed, not what the dump said."""
    await filled(vault)
    sums = vault.backups._sums

    async def one_row_less(*arguments: object, **named: object) -> object:
        found = await type(sums).tables(sums, *arguments, **named)  # type: ignore[arg-type]
        return [
            table.change(rows=table.rows - 1) if table.name == "public.pets" else table for table in found
        ]

    monkeypatch.setattr(sums, "tables", one_row_less)
    made = await vault.back_up()
    assert (made.state, made.verified_at) == ("failed", None)
    assert "public.pets has 1999 rows instead of 2000" in made.error
    assert list(vault.folder.iterdir()) == []
    with pytest.raises(Conflict):
        await vault.restore(made.id)


async def test_what_a_role_wrote_into_its_database_does_not_run_as_the_superuser(vault: Vault) -> None:
    """A restore as the superuser would let a CHECK of the project's do what it likes on the server."""
    await vault.yard.create(engine="postgres")
    await vault.sql(
        "CREATE TABLE seen (who TEXT)",
        """
        CREATE FUNCTION curious(i INT) RETURNS BOOL LANGUAGE plpgsql AS $$
        BEGIN
          IF current_setting('is_superuser') = 'on' OR session_user = 'postgres' THEN
            RAISE EXCEPTION 'run by a superuser';
          END IF;
          RETURN true;
        END $$
        """,
        "CREATE TABLE trap (i INT CHECK (curious(i)))",
        "INSERT INTO trap VALUES (1)",
        "SELECT 1",
    )
    made = await vault.back_up()
    assert (made.state, made.error) == ("verified", None)
    assert (await vault.restore(made.id)).status == "done"


async def test_pgvector_comes_along(vault: Vault) -> None:
    await vault.yard.create(engine="postgres", extensions=("vector",))
    await vault.sql(
        "CREATE TABLE e (id INT, v VECTOR(3))",
        "CREATE INDEX ON e USING hnsw (v vector_cosine_ops)",
        "INSERT INTO e VALUES (1, '[1,0,0]'), (2, '[0,1,0]')",
        "SELECT 1",
    )
    made = await vault.back_up()
    assert (made.state, made.error) == ("verified", None)
    await vault.sql("DELETE FROM e", "SELECT 1")
    await vault.restore(made.id)
    assert await vault.sql("SELECT id FROM e ORDER BY v <=> '[0,0.9,0.1]' LIMIT 1") == 2


async def test_a_changed_backup_is_found_out(vault: Vault) -> None:
    await filled(vault)
    made = await vault.back_up()
    record = await vault.record(made.id)
    path = vault.folder / record.file
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(Corrupt):
        async for _ in vault.backups._files.reading(record.file, record.context()):
            pass
