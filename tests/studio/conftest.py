"""Studios over real databases, and a real browser to look at them with."""

import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest
import uvicorn
from playwright.sync_api import Browser, sync_playwright

from mcp_server.adapters.catalog.browsers import browser_of
from mcp_server.adapters.catalog.places import sqlite_file
from mcp_server.adapters.project_sql.statements import ProjectStatements
from mcp_server.domain.queries import SqliteFile, Target
from mcp_server.domain.schemas.addresses import login_of
from mcp_server.http.studio.app import studio_app
from mcp_server.services.studio import Studio
from tests.services.loops import run_apart
from tests.services.missing import do_without
from tests.services.waiting import wait_until

LONG = "long " * 2000
SHARED = """
CREATE TABLE authors (id INTEGER PRIMARY KEY, name VARCHAR(200) NOT NULL, bio TEXT);
CREATE TABLE books (
    id INTEGER PRIMARY KEY, title TEXT NOT NULL, author_id INTEGER REFERENCES authors (id), price NUMERIC
);
CREATE TABLE tags (book INTEGER NOT NULL, tag TEXT NOT NULL, note TEXT, PRIMARY KEY (book, tag));
CREATE TABLE empty (id INTEGER PRIMARY KEY, note TEXT);
CREATE TABLE loose (note TEXT);
CREATE VIEW cheap AS SELECT id, title FROM books WHERE price < 3;
INSERT INTO authors VALUES (1, 'Ann <script>document.title = "broken"</script>', NULL);
"""
BINARY = {"postgres": "bytea", "sqlite": "BLOB"}
ROWS = """
INSERT INTO {table}
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) {select}
"""
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


class Running(NamedTuple):
    """`entrance` works once."""

    base: str
    entrance: str
    token: str


Serve = Callable[..., Running]


def script(engine: str) -> list[str]:
    binary = f"CREATE TABLE files (id INTEGER PRIMARY KEY, data {BINARY[engine]})"
    books = "SELECT i, 'Book ' || i, CASE WHEN i % 7 = 0 THEN NULL ELSE 1 END, i * 0.5 FROM n"
    tags = "SELECT i / 3, 'tag ' || i, NULL FROM n"
    return [
        *SHARED.split(";\n")[:-1],
        f"INSERT INTO authors VALUES (2, 'Ben', '{LONG}')",  # noqa: S608
        binary,
        ROWS.format(table="books", rows=120, select=books),
        ROWS.format(table="tags", rows=130, select=tags),
        ROWS.format(table="loose", rows=60, select="SELECT 'note ' || i FROM n"),
    ]


@pytest.fixture(params=["postgres", "sqlite"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if engine == "sqlite":
        return sqlite_at(tmp_path / "data.db")
    found = str(request.getfixturevalue("database_url"))
    run_apart(fill_postgres(found, script("postgres")))
    return found


def sqlite_at(path: Path) -> str:
    connection = sqlite3.connect(path)
    for statement in script("sqlite"):
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path.as_uri()


async def fill_postgres(url: str, statements: list[str]) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


def reader_of(url: str) -> Target:
    """As the command finds it where no address of a reader is given."""
    if url.startswith("postgres"):
        return login_of(url)
    path = sqlite_file(url)
    return SqliteFile(root=str(Path(path).parent), path=path)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(url, writable=...)`: a studio on loopback until the end of the test."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(url: str, *, writable: bool = False) -> Running:
        studio = Studio("library", browser_of(url), ProjectStatements(), reader_of(url), writable=writable)
        gate = studio_app(studio)
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(gate, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        servers.append((server, thread))
        wait_until(lambda: server.started, seconds=10, what="the studio")
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        return Running(base, f"{base}/?token={gate.token}", gate.token)

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def chromium() -> Iterator[Browser]:
    """One for each test: while Playwright is open this thread can run no other event loop."""
    path = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if path is None:
        do_without("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield browser
        browser.close()
