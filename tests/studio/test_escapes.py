"""The studio's box of SQL passes the same gate as every statement: the suite of escapes over it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mcp_server.adapters.catalog.browsers import browser_of
from mcp_server.adapters.project_sql.statements import ProjectStatements
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.queries import SqliteFile
from mcp_server.domain.schemas.addresses import login_of
from mcp_server.services.studio import Studio
from tests.queries.conftest import Prepared, file, prepared
from tests.queries.test_escapes_postgres import ESCAPES
from tests.queries.test_foreign_roles import SUPERUSERS
from tests.queries.test_sqlite import ESCAPES as SQLITE_ESCAPES
from tests.queries.test_sqlite import contents
from tests.services.postgres import ADMIN, PASSWORD

__all__ = ["file", "prepared"]


async def tried(studio: Studio, sql: str) -> None:
    said = {}
    try:
        await studio.query(sql)
    except QuaymasterError as error:
        said = error.payload()
    assert PASSWORD not in json.dumps(said)


@pytest.mark.parametrize("role", ["owner", "superuser"])
async def test_nothing_changes_through_the_box_on_postgresql(
    prepared: Prepared, tmp_path: Path, role: str
) -> None:
    tmp_path.chmod(0o777)
    name = prepared.owner.role if role == "owner" else ADMIN
    url = prepared.server.url_of(prepared.name, role=name)
    studio = Studio("x", browser_of(url), ProjectStatements(), login_of(url), writable=True)
    before = prepared.fingerprint()
    texts = [*ESCAPES, *(SUPERUSERS if role == "superuser" else ())]
    for text in texts:
        sql = text.replace("{file}", str(tmp_path / "escaped"))
        await tried(studio, sql)
        assert prepared.fingerprint() == before, sql
    assert not (tmp_path / "escaped").exists()


async def test_nothing_changes_through_the_box_on_sqlite(file: SqliteFile, tmp_path: Path) -> None:
    url = Path(file.path).as_uri()
    studio = Studio("x", browser_of(url), ProjectStatements(), file, writable=True)
    before = contents(file)
    for text in SQLITE_ESCAPES:
        await tried(studio, text.replace("{other}", str(tmp_path / "other.db")))
        assert contents(file) == before, text
    assert not (tmp_path / "other.db").exists()
    with closing(sqlite3.connect(file.path)) as connection:
        assert connection.execute("SELECT count(*) FROM pets").fetchone() == (30,)


async def test_the_box_speaks_in_the_words_of_the_database(prepared: Prepared) -> None:
    url = prepared.server.url_of(prepared.name, role=prepared.owner.role)
    studio = Studio("x", browser_of(url), ProjectStatements(), login_of(url))
    with pytest.raises(QuaymasterError, match='relation "nowhere" does not exist'):
        await studio.query("SELECT * FROM nowhere")
