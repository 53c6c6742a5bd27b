"""What databases need beside the engine: dotenv blocks, SQLite files, marks of living processes, values."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from mcp_server.adapters.dotenv.blocks import DotenvBlocks, with_block
from mcp_server.adapters.host.machine import ThisMachine
from mcp_server.adapters.host.workers import HomeWorkers
from mcp_server.adapters.sqlite.files import DiskSqliteFiles
from mcp_server.domain.database_setup import Verifiers, extension_lines, set_up
from mcp_server.domain.databases import Access, known_extensions, named, parse_ports
from mcp_server.domain.errors import Invalid
from tests.services.processes import CHECKOUT

URL = {"DATABASE_URL": SecretStr("postgresql://app:x@127.0.0.1:5433/app")}
lines = st.lists(
    st.binary(max_size=20).filter(lambda b: b"\n" not in b and not b.startswith(b"# ")), max_size=6
)


@given(before=lines, after=lines, newline=st.booleans())
def test_a_block_comes_and_goes_and_every_other_byte_stays(
    before: list[bytes], after: list[bytes], newline: bool
) -> None:
    text = b"\n".join(before) + (b"\n" if newline and before else b"")
    filled = with_block(text, URL)
    assert filled.startswith(text)
    assert with_block(filled, URL) == filled
    other = with_block(filled + b"\n".join(after), {"DATABASE_URL": SecretStr("file:/x")})
    assert other.endswith(b"\n".join(after))
    assert b"5433" not in other
    gone = with_block(other, {})
    assert gone.startswith(text)
    assert gone.endswith(b"\n".join(after))
    assert b"DATABASE_URL" not in gone


async def test_no_dotenv_file_is_written_where_a_project_s_path_leads_elsewhere_by_now(
    tmp_path: Path,
) -> None:
    other = tmp_path.resolve() / "other" / "app"
    other.mkdir(parents=True)
    (other / ".env").write_text("A=1\n")
    (tmp_path.resolve() / "mine").symlink_to(other.parent)
    with pytest.raises(Invalid, match="leads elsewhere"):
        await DotenvBlocks().put(str(tmp_path.resolve() / "mine" / "app"), ".env", URL)
    assert (other / ".env").read_text() == "A=1\n"
    assert [one.name for one in other.iterdir()] == [".env"]


async def test_a_dotenv_file_that_is_a_link_or_no_text_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("A=1\n")
    root = tmp_path / "project"
    root.mkdir()
    (root / ".env").symlink_to(target)
    with pytest.raises(Invalid, match="symbolic link"):
        await DotenvBlocks().put(str(root), ".env", URL)
    assert target.read_text() == "A=1\n"
    (root / ".env").unlink()
    (root / ".env").write_bytes(b"\x00\x01")
    with pytest.raises(Invalid, match="not a dotenv"):
        await DotenvBlocks().put(str(root), ".env", URL)
    (root / ".env").write_text("A=1\n")
    (root / ".env").chmod(0o644)
    await DotenvBlocks().put(str(root), ".env", URL)
    assert (root / ".env").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in root.iterdir()) == [".env"]


async def test_a_sqlite_file_is_its_owners_in_wal_and_gone_with_its_journals(tmp_path: Path) -> None:
    files, path = DiskSqliteFiles(), str(tmp_path / "data" / "dev.db")
    assert await files.create(str(tmp_path), path) is True
    assert Path(path).stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.execute("CREATE TABLE t (n)")
    assert await files.create(str(tmp_path), path) is False
    assert await files.check(path) is None
    await files.remove(str(tmp_path), path)
    connection.close()
    assert list((tmp_path / "data").iterdir()) == []
    assert await files.check(path) == "its file is gone"
    assert not Path(path).exists()


@pytest.mark.parametrize("trap", ["folder", "file", "other"])
async def test_a_sqlite_file_is_never_made_or_removed_through_a_link(tmp_path: Path, trap: str) -> None:
    outside, root = tmp_path / "outside", tmp_path / "project"
    outside.mkdir()
    root.mkdir()
    path = root / "data" / "dev.db"
    if trap == "folder":
        (root / "data").symlink_to(outside)
    else:
        path.parent.mkdir()
        victim = outside / "victim"
        victim.write_text("something else")
        if trap == "file":
            path.symlink_to(victim)
        else:
            path.write_text("no database at all")
    with pytest.raises(Invalid):
        await DiskSqliteFiles().create(str(root), str(path))
    assert [each.name for each in outside.iterdir()] == ([] if trap == "folder" else ["victim"])


async def test_a_place_outside_of_the_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises((Invalid, ValueError)):
        await DiskSqliteFiles().create(str(tmp_path), f"{tmp_path}/data/../../dev.db")


SLEEPER = """
import sys, time
from pathlib import Path
from mcp_server.adapters.host.workers import HomeWorkers
workers = HomeWorkers.open(Path(sys.argv[1]))
print(workers.me, workers.lead(), flush=True)
time.sleep(60)
"""


def test_a_process_counts_as_alive_frozen_too_until_it_ends_however_it_ends(home: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(home)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert other.stdout is not None
    token, leads = other.stdout.readline().split()
    workers = HomeWorkers.open(home)
    try:
        assert leads == "True"
        assert workers.lead() is False
        assert workers.alive(workers.me)
        assert workers.alive(token)
        other.send_signal(signal.SIGSTOP)
        assert workers.alive(token)
        other.kill()
        other.wait(10)
        assert not workers.alive(token)
        assert workers.lead() is True
        assert not workers.alive(None)
        assert not workers.alive("../../etc/passwd")
    finally:
        other.kill()
        other.wait(10)
        other.stdout.close()
        workers.close()


def test_the_host_has_one_name_for_all_and_says_which_ports_are_free() -> None:
    import socket

    assert ThisMachine().id == ThisMachine().id
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        assert not ThisMachine().port_is_free(taken.getsockname()[1])


def access(**fields: str) -> Access:
    values = {
        "database": "app",
        "role": "app",
        "password": "x",
        "reader": "app_reader",
        "reader_password": "y",
    }
    return Access(**{**values, **fields})


VERIFIERS = Verifiers("SCRAM-SHA-256$4096:c2FsdA==$a2V5:a2V5", "SCRAM-SHA-256$4096:c2FsdA==$b2V5:b2V5")


def test_the_set_up_holds_verifiers_and_no_password_and_refuses_names_that_are_not_ours() -> None:
    script = set_up(
        access(password="s3cret-1", reader_password="s3cret-2"), VERIFIERS, extensions=("vector",)
    )
    assert "s3cret" not in script
    assert script.count("SCRAM-SHA-256$") == 2
    assert 'CREATE EXTENSION IF NOT EXISTS "vector" CASCADE;' in script
    for name in ('a"b', "a;b", "a'b", "", "A", "a\nb"):
        with pytest.raises(ValueError, match="name of ours"):
            set_up(access(role=name), VERIFIERS)
        with pytest.raises(ValueError, match="name of ours"):
            extension_lines([name])


def test_ranges_names_and_extensions_are_what_they_say() -> None:
    assert parse_ports("5432-5500") == range(5432, 5501)
    for text in ("5432", "5500-5432", "0-10", "1-65536", "a-b", "5432 - 5500"):
        with pytest.raises(ValueError, match="ports"):
            parse_ports(text)
    assert named("q-{project}", "shop", None) == "q-shop"
    assert named("q-{project}", "shop", "staging") == "q-shop-staging"
    assert known_extensions(["vector", "vector", "citext"], "auto") == ("citext", "vector")
    with pytest.raises(Invalid):
        known_extensions(["plpython3u"], "postgres")
