"""Reading as a role that Quaymaster did not make: what a superuser could do stays undone, too."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from mcp_server.adapters.project_sql.statements import ProjectStatements
from mcp_server.domain.errors import Invalid, QuaymasterError
from mcp_server.domain.queries import Bounds, Statement
from mcp_server.domain.schemas.addresses import login_of
from tests.queries.conftest import Prepared
from tests.queries.test_escapes_postgres import ESCAPES
from tests.services.postgres import ADMIN

SUPERUSERS = [
    "COPY (SELECT 1) TO PROGRAM 'touch {file}'",
    "COPY (SELECT 1) TO '{file}'",
    "-- SELECT\nCOPY (SELECT 1) TO PROGRAM 'touch {file}'",
    "/* /* */ SELECT */ COPY (SELECT 1) TO PROGRAM 'touch {file}'",
    "DO $$ BEGIN RESET ROLE; COPY (SELECT 1) TO PROGRAM 'touch {file}'; END $$",
    "SELECT lo_export(lo_from_bytea(0, 'x'), '{file}')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT rolpassword FROM pg_authid",
    "WITH gone AS (DELETE FROM pets RETURNING 1) SELECT * FROM gone",
    "SET ROLE postgres",
    "RESET ROLE",
]


async def test_nothing_changes_through_a_read_as_a_superuser(prepared: Prepared, tmp_path: Path) -> None:
    file = tmp_path / "escaped"
    tmp_path.chmod(0o777)
    login = login_of(prepared.server.url_of(prepared.name, role=ADMIN))
    before = prepared.fingerprint()
    for text in [*ESCAPES, *SUPERUSERS]:
        sql = text.replace("{file}", str(file))
        with contextlib.suppress(QuaymasterError):
            await ProjectStatements().read(login, Statement(sql=sql), Bounds(seconds=5))
        assert prepared.fingerprint() == before, sql
        assert not file.exists(), sql


@pytest.mark.parametrize("sql", ["SELECT pg_read_file('/etc/passwd')", "SELECT pg_ls_dir('/')"])
async def test_a_superuser_reads_rows_and_no_more(prepared: Prepared, sql: str) -> None:
    login = login_of(prepared.server.url_of(prepared.name, role=ADMIN))
    found = await ProjectStatements().read(
        login, Statement(sql="/* all */ (SELECT count(*) FROM pets)"), Bounds()
    )
    assert found.rows == ((30,),)
    with pytest.raises(Invalid, match="42501"):
        await ProjectStatements().read(login, Statement(sql=sql), Bounds())


def test_an_address_is_read_as_libpq_does() -> None:
    login = login_of("postgresql://a%40b:p%2Fw@db.example:6432/my%20db?sslmode=verify-full")
    assert (login.role, login.host, login.port) == ("a@b", "db.example", 6432)
    assert (login.database, login.ssl) == ("my db", "verify-full")
    assert login.password.get_secret_value() == "p/w"
    assert "p/w" not in repr(login)
    with pytest.raises(Invalid) as refused:
        login_of("postgresql://a:secret@host:port/x")
    assert "secret" not in str(refused.value.payload())
