"""The same client over a file."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_server.databases import Client, Databases, DatabaseUnavailable, Limits


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some data.db"
    _make(path)
    return path


@pytest.fixture
async def client(file: Path) -> AsyncIterator[Client]:
    async with _over(file) as databases:
        yield await databases.client("main")


def _make(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE marks (id INTEGER PRIMARY KEY, note TEXT UNIQUE)")
    connection.close()


def _over(path: Path) -> Databases:
    return Databases({"main": path.as_uri()}, limits=Limits(statement_seconds=1), environ={})


async def test_rows_are_written_and_read(client: Client):
    assert await client.execute("INSERT INTO marks (note) VALUES (?), (?)", "a", "b") == 2
    assert await client.read("SELECT * FROM marks ORDER BY id") == [
        {"id": 1, "note": "a"},
        {"id": 2, "note": "b"},
    ]
    assert await client.fetch_one("SELECT 1 AS x FROM marks WHERE id = ?1", 9) is None


async def test_a_transaction_is_all_or_nothing(client: Client):
    async def twice() -> None:
        async with client.transaction() as transaction:
            await transaction.execute("INSERT INTO marks (note) VALUES ('a')")
            await transaction.execute("INSERT INTO marks (note) VALUES ('a')")

    with pytest.raises(sqlite3.IntegrityError):
        await twice()
    assert await client.read("SELECT * FROM marks") == []


async def test_writers_side_by_side_wait_for_each_other(client: Client):
    async def add(number: int) -> None:
        async with client.transaction() as transaction:
            rows = await transaction.fetch("SELECT count(*) AS n FROM marks")
            await transaction.execute("INSERT INTO marks (note) VALUES (?)", f"{rows[0]['n']}-{number}")

    await asyncio.gather(*(add(number) for number in range(8)))
    assert await client.read("SELECT count(*) AS n FROM marks") == [{"n": 8}]


async def test_a_read_only_transaction_refuses_to_write(client: Client):
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        async with client.transaction(readonly=True) as transaction:
            await transaction.execute("INSERT INTO marks (note) VALUES ('no')")
    assert await client.execute("INSERT INTO marks (note) VALUES ('yes')") == 1


async def test_a_missing_file_is_not_made(tmp_path: Path):
    path = tmp_path / "none.db"
    async with _over(path) as databases:
        with pytest.raises(DatabaseUnavailable):
            await databases.client("main")
    assert not path.exists()


async def test_a_file_that_was_replaced_is_opened_anew(file: Path, client: Client):
    await client.execute("INSERT INTO marks (note) VALUES ('old')")
    other = file.with_name("other")
    _make(other)
    other.replace(file)
    assert await client.read("SELECT * FROM marks") == []
    file.unlink()
    with pytest.raises(DatabaseUnavailable):
        await client.execute("INSERT INTO marks (note) VALUES ('into the void')")
    _make(file)
    until = asyncio.get_running_loop().time() + 10
    while True:
        try:
            assert await client.execute("INSERT INTO marks (note) VALUES ('new')") == 1
            return
        except DatabaseUnavailable:
            assert asyncio.get_running_loop().time() < until
            await asyncio.sleep(0.05)


async def test_a_statement_that_does_not_end_is_ended(client: Client):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS c FROM n"
    with pytest.raises(TimeoutError):
        await client.fetch(endless)
    assert await client.read("SELECT 1 AS one") == [{"one": 1}]


async def test_foreign_keys_are_enforced(client: Client):
    await client.execute("CREATE TABLE parts (mark INTEGER REFERENCES marks (id))")
    with pytest.raises(sqlite3.IntegrityError):
        await client.execute("INSERT INTO parts VALUES (1)")
