"""Generated clients: what they look like to a machine, and what they do on real databases."""

import asyncio
import datetime as dt
import importlib.util
import itertools
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import aiosqlite
import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.adapters.catalog.shapes import LiveShapes
from mcp_server.databases import Databases
from mcp_server.domain.client_code.modules import client_files
from mcp_server.domain.errors import Conflict, Unavailable
from mcp_server.domain.shapes import Column, Shape, Table
from mcp_server.services.generate import Generate
from tests.generate.schemas import POSTGRES, SQLITE

_numbers = itertools.count()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    path = tmp_path / "data.db"
    connection = sqlite3.connect(path)
    connection.executescript(SQLITE)
    connection.close()
    return path.as_uri()


@pytest.fixture
def postgres_url(database_url: str) -> str:
    async def fill() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(POSTGRES)
        await connection.close()

    asyncio.run(fill())
    return database_url


@pytest.fixture(params=["postgres_url", "sqlite_url"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / f"client_{next(_numbers)}"


@pytest.fixture
def loaded() -> Iterator[Any]:
    names: list[str] = []

    def load(folder: Path) -> ModuleType:
        name = f"generated_{next(_numbers)}"
        spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        names.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in [each for each in sys.modules if each.partition(".")[0] in names]:
        del sys.modules[name]


def generate(url: str, folder: Path, check: bool = False) -> Any:
    return asyncio.run(Generate(LiveShapes()).client(url, folder, check=check))


def test_the_code_is_formatted_linted_and_strictly_typed(url: str, folder: Path):
    generate(url, folder)
    for arguments in (
        ["ruff", "format", "--isolated", "--check"],
        ["ruff", "format", "--isolated", "--check", "--line-length", "110"],
        ["ruff", "check", "--isolated"],
        ["mypy", "--strict", "--config-file", "", "--cache-dir", "/dev/null"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *arguments, folder.name],
            cwd=folder.parent, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_schema_gives_the_same_files(url: str, folder: Path, tmp_path: Path):
    assert generate(url, folder).written
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = generate(url, folder)
    assert (again.written, again.removed, again.unchanged) == ((), (), len(before))
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    generate(url, tmp_path / "other")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        path.name: path.read_text() for path in (tmp_path / "other").iterdir()
    }


def test_check_tells_what_is_out_of_date_and_changes_nothing(sqlite_url: str, folder: Path):
    assert not generate(sqlite_url, folder, check=True).up_to_date
    assert not folder.exists()
    generate(sqlite_url, folder)
    assert generate(sqlite_url, folder, check=True).up_to_date
    connection = sqlite3.connect(folder.parent / "data.db")
    connection.executescript("DROP TABLE log; ALTER TABLE users ADD COLUMN age INT")
    connection.close()
    found = generate(sqlite_url, folder, check=True)
    assert (found.written, found.removed) == (("__init__.py", "users.py"), ("log.py",))
    assert (folder / "log.py").exists()
    generate(sqlite_url, folder)
    assert not (folder / "log.py").exists()


def test_a_file_of_a_person_is_never_overwritten(sqlite_url: str, folder: Path):
    folder.mkdir()
    (folder / "users.py").write_text("mine = True\n")
    with pytest.raises(Conflict, match=r"users\.py was not written by"):
        generate(sqlite_url, folder)
    assert [path.name for path in folder.iterdir()] == ["users.py"]


def test_without_database_nothing_is_written_and_no_password_shown(folder: Path):
    with pytest.raises(Unavailable) as refused:
        generate("postgresql://u:hunter2@127.0.0.1:1/d", folder)
    assert "hunter2" not in str(refused.value)
    assert not folder.exists()


async def _use_postgres(client: Any, connection: Any) -> None:
    users, items = client.users, client.order_items
    ann = await users.insert(
        connection,
        email="ann@x",
        moods=["sad", 'it\'s "odd"'],
        balance=Decimal("250.50"),
        date=dt.date(2026, 2, 3),
        token=uuid.UUID(int=7),
        settings={"a": [1, None]},
        address="10.0.0.1",
        span="[1,5)",
        data=b"\x00\xff",
        pause=dt.timedelta(hours=1),
    )
    assert (ann.mood, ann.tags, ann.big, ann.extra) == ("happy", [], True, None)
    assert (ann.moods, ann.balance, ann.date) == (
        ["sad", 'it\'s "odd"'],
        Decimal("250.50"),
        dt.date(2026, 2, 3),
    )
    assert (ann.settings, ann.address, ann.span) == ({"a": [1, None]}, "10.0.0.1/32", "[1,5)")
    assert (ann.data, ann.pause, ann.token) == (b"\x00\xff", dt.timedelta(hours=1), uuid.UUID(int=7))
    assert ann.seen == dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert await users.get(connection, id=ann.id) == ann
    changed = await users.update(connection, id=ann.id, settings=None, balance=None, extra=[1])
    assert (changed.settings, changed.balance, changed.big, changed.extra) == (None, None, None, [1])
    assert changed.email == "ann@x"
    assert await users.update(connection, id=ann.id) == changed
    assert await users.update(connection, id=999, mood="sad") is None
    assert [row.email for row in await client.happy.first_rows(connection)] == ["ann@x"]
    await _use_items(items, connection, ann.id)
    assert await users.delete(connection, id=ann.id) is False or not await users.list_page(connection)
    first = await client.shop_users.upsert(connection, id=uuid.UUID(int=1), note="one")
    assert await client.shop_users.upsert(connection, id=uuid.UUID(int=1)) == first
    assert (await client.shop_users.upsert(connection, id=uuid.UUID(int=1), note=None)).note is None
    assert (await client.codes.upsert(connection, code="c")).code == "c"
    assert (await client.drawn.insert(connection)).id == 1
    assert (await client.log.insert(connection, line="x")).line == "x"


async def _use_items(items: Any, connection: Any, user: int) -> None:
    for order, name in ((2, "a"), (1, "b"), (1, "a"), (2, "b")):
        row = await items.upsert(connection, order=order, class_=name, user_id=user, str_="s")
        assert getattr(row, "limit__2", row.limit_) == 7
    pages, after = [], None
    while rows := await items.list_page(connection, after=after, limit=3):
        pages.append([(row.order, row.class_) for row in rows])
        after = (rows[-1].order, rows[-1].class_)
    assert pages == [[(1, "a"), (1, "b"), (2, "a")], [(2, "b")]]
    again = await items.upsert(connection, order=1, class_="a", str_="changed")
    assert (again.str_, again.user_id) == ("changed", user)
    for order, name in ((2, "a"), (1, "b"), (1, "a"), (2, "b")):
        assert await items.delete(connection, order=order, class_=name) is True
    assert await items.delete(connection, order=1, class_="a") is False


async def _use_sqlite(client: Any, connection: Any) -> None:
    users = client.users
    ann = await users.insert(connection, email="ann@x", ratio=2, settings={"a": 1}, data=b"\x00", anything=5)
    assert (ann.active, ann.admin, ann.ratio, ann.twice) == (True, None, 2.0, 4.0)
    assert isinstance(ann.ratio, float)
    assert (ann.settings, ann.data, ann.anything, ann.price) == ({"a": 1}, b"\x00", 5, None)
    assert await users.get(connection, id=ann.id) == ann
    assert (await users.update(connection, id=ann.id, active=False, price=1.5)).active is False
    assert await users.get(connection, id=ann.id + 1) is None
    assert [row.id for row in await users.list_page(connection, after=ann.id - 1)] == [ann.id]
    assert await users.list_page(connection, after=ann.id) == []
    await _use_items(client.order_items, connection, ann.id)
    assert await users.delete(connection, id=ann.id) is True
    assert await client.active.first_rows(connection) == []
    assert (await client.log.insert(connection)).line is None


@pytest.mark.parametrize("kind", ["asyncpg", "pool", "codec", "databases"])
def test_a_client_of_postgresql_does_what_it_says(kind: str, postgres_url: str, folder: Path, loaded: Any):
    generate(postgres_url, folder)
    client = loaded(folder)

    async def use() -> None:
        if kind == "databases":
            async with Databases({"main": postgres_url}, environ={}) as databases:
                await _use_postgres(client, await databases.client("main"))
        elif kind == "pool":
            async with asyncpg.create_pool(postgres_url, min_size=1, max_size=2) as pool:
                await _use_postgres(client, pool)
        else:
            connection = await asyncpg.connect(postgres_url)
            if kind == "codec":
                await connection.set_type_codec(
                    "jsonb", schema="pg_catalog", encoder=repr, decoder=lambda text: ("decoded", text)
                )
            await _use_postgres(client, connection)
            await connection.close()

    asyncio.run(use())


@pytest.mark.parametrize("kind", ["aiosqlite", "databases"])
def test_a_client_of_sqlite_does_what_it_says(kind: str, sqlite_url: str, folder: Path, loaded: Any):
    generate(sqlite_url, folder)
    client = loaded(folder)
    assert not hasattr(client, "quaymaster_migrations")

    async def use() -> None:
        if kind == "databases":
            async with Databases({"main": sqlite_url}, environ={}) as databases:
                await _use_sqlite(client, await databases.client("main"))
        else:
            async with aiosqlite.connect(sqlite_url, uri=True) as connection:
                await _use_sqlite(client, connection)

    asyncio.run(use())


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@given(
    st.lists(NAMES, min_size=1, max_size=5, unique=True), st.lists(NAMES, min_size=1, max_size=6, unique=True)
)
def test_names_of_any_kind_give_code_that_compiles(tables: list[str], columns: list[str]):
    listed = tuple(Column(name, "int4", "int4", not_null=place == 0) for place, name in enumerate(columns))
    shape = Shape(
        "postgres",
        tuple(Table(name, f'"public".{name!r}', "table", listed, (columns[0],)) for name in tables),
    )
    files = client_files(shape)
    assert len(files) == len(tables) + 2
    for name, text in files.items():
        compile(text, name, "exec")
