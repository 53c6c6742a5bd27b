"""The runner of the migrations, and the schemas that they make."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from mcp_server.adapters.postgres.connections import Connections, ConnectionSettings
from mcp_server.adapters.postgres.migrations import LOCK, Migrations, folder, read
from mcp_server.adapters.postgres.primary import PostgresPrimary
from mcp_server.domain.errors import Corrupt, Invalid, Unavailable
from tests.postgres.catalogue import catalogue
from tests.services.postgres import PostgresServer

SEED = Path(__file__).with_name("seed_schema.txt").read_text().splitlines()
COUNT = len(read(folder()))
LAST = read(folder())[-1].version


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of the migrations that a test may spoil."""
    return shutil.copytree(folder(), tmp_path / "migrations")


def runner(url: str, directory: Path | None = None, *, wait: float = 30) -> Migrations:
    return Migrations(Connections(ConnectionSettings(url, migration_wait=wait)), directory=directory)


def only(files: Path, last: int) -> Path:
    for migration in read(files)[last:]:
        (files / migration.name).unlink()
    return files


async def test_the_first_three_give_exactly_the_seeds_schema(database_url: str, files: Path) -> None:
    await runner(database_url, only(files, 3)).up()
    assert await catalogue(database_url) == SEED


async def test_later_ones_keep_every_table_column_type_default_and_index_of_the_seed(
    database_url: str,
) -> None:
    await runner(database_url).up()
    now = {line.replace(" not null", "") for line in await catalogue(database_url)}
    gone = {line.replace(" not null", "") for line in SEED} - now
    assert all("FOREIGN KEY" in line for line in gone)  # these gained ON UPDATE CASCADE


async def test_every_applied_file_is_recorded_with_name_checksum_duration_and_who(database_url: str) -> None:
    await runner(database_url).up()
    status = await runner(database_url).status()
    assert [row.name for row in status.applied] == [file.name for file in read(folder())]
    assert [row.checksum for row in status.applied] == [file.checksum for file in read(folder())]
    assert all(row.duration is not None and row.applied_at is not None for row in status.applied)
    assert all(row.applied_by == status.applied[0].applied_by for row in status.applied)
    assert str(os.getpid()) in (status.applied[0].applied_by or "")
    assert not status.pending


async def test_a_second_run_changes_nothing(database_url: str) -> None:
    await runner(database_url).up()
    before = await runner(database_url).status()
    assert await runner(database_url).up() == []
    assert await runner(database_url).status() == before


async def test_two_runners_at_once_apply_each_file_once(database_url: str) -> None:
    applied = await asyncio.gather(*(runner(database_url).up() for _ in range(4)))
    assert sorted(len(files) for files in applied) == [0, 0, 0, COUNT]


async def test_a_runner_that_waits_too_long_names_the_owner_of_the_lock(database_url: str) -> None:
    owner = await asyncpg.connect(
        database_url, server_settings={"application_name": "quaymaster migrate 7@there"}
    )
    try:
        await owner.execute(f"SELECT pg_advisory_lock({LOCK[0]}, {LOCK[1]})")
        pid = owner.get_server_pid()
        with pytest.raises(Unavailable) as refused:
            await runner(database_url, wait=0.2).up()
    finally:
        await owner.close()
    assert refused.value.details["application"] == "quaymaster migrate 7@there"
    assert refused.value.details["pid"] == pid
    assert refused.value.details["since"]
    assert str(pid) in refused.value.message


async def test_the_lock_is_held_under_a_name_that_says_who_holds_it(database_url: str, files: Path) -> None:
    (files / f"{LAST + 1:04d}_slow.sql").write_text("SELECT pg_sleep(3);")
    running = asyncio.create_task(runner(database_url, files).up())
    connection = await asyncpg.connect(database_url)
    try:
        await _asleep(connection)
        with pytest.raises(Unavailable) as refused:
            await runner(database_url, files, wait=0.1).up()
    finally:
        await connection.close()
    assert f"migrate {os.getpid()}@" in refused.value.details["application"]
    await running


async def _asleep(connection: asyncpg.Connection) -> None:
    async with asyncio.timeout(20):
        while not await connection.fetchval(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        ):
            await asyncio.sleep(0.05)


async def test_a_changed_file_stops_the_start_with_its_name(database_url: str, files: Path) -> None:
    await runner(database_url, files).up()
    (files / "0002_domains_environments.sql").write_text("SELECT 1;")
    with pytest.raises(Corrupt, match=r"0002_domains_environments\.sql was changed"):
        await runner(database_url, files).up()


async def test_a_database_from_a_later_version_is_refused(database_url: str, files: Path) -> None:
    await runner(database_url).up()
    with pytest.raises(Corrupt, match=f"has migration {LAST}"):
        await runner(database_url, only(files, COUNT - 1)).up()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: (d / "0002_twice.sql").write_text(""), "0002_twice.sql has the number of 0002_domains"),
        (lambda d: (d / "later.sql").write_text(""), "later.sql is not named"),
    ],
)
async def test_a_number_given_twice_and_a_stray_file_are_errors(
    database_url: str, files: Path, spoil, said: str
) -> None:
    spoil(files)
    with pytest.raises(Corrupt, match=re.escape(said)):
        await runner(database_url, files).up()


async def test_a_file_that_fails_leaves_nothing_of_itself_and_all_before_it(
    database_url: str, files: Path
) -> None:
    bad = files / f"{LAST + 1:04d}_bad.sql"
    bad.write_text("CREATE TABLE half (i int); SELECT 1/0;")
    with pytest.raises(Invalid, match=f"{bad.name} could not be applied"):
        await runner(database_url, files).up()
    status = await runner(database_url, files).status()
    assert [len(status.applied), [file.name for file in status.pending]] == [COUNT, [bad.name]]
    assert not [line for line in await catalogue(database_url) if line.startswith("half")]
    bad.write_text("CREATE TABLE half (i int);")
    assert [file.name for file in await runner(database_url, files).up()] == [bad.name]


async def test_a_runner_that_is_killed_leaves_nothing_half_and_the_next_goes_on(
    database_url: str, files: Path
) -> None:
    (files / f"{LAST + 1:04d}_slow.sql").write_text("CREATE TABLE half (i int); SELECT pg_sleep(60);")
    program = (
        "import asyncio, pathlib; from tests.postgres.test_migrations import runner; "
        f"asyncio.run(runner({database_url!r}, pathlib.Path({str(files)!r})).up())"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    connection = await asyncpg.connect(database_url)
    try:
        await _asleep(connection)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        # A server that sleeps does not look at its client; in real life its statement ends by itself.
        await connection.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE wait_event = 'PgSleep' AND datname = current_database()
            """
        )
    finally:
        await connection.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert len((await runner(database_url, files).status()).applied) == COUNT
    (files / f"{LAST + 1:04d}_slow.sql").write_text("CREATE TABLE half (i int);")
    assert len(await runner(database_url, files).up()) == 1


async def test_a_database_of_the_seeds_server_keeps_its_version_table(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        for migration in read(folder())[:3]:
            await connection.execute(migration.sql)
        await connection.execute(
            """
            CREATE TABLE schema_migrations
              (version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ DEFAULT now());
            INSERT INTO schema_migrations (version) VALUES (1), (2), (3)
            """
        )
    finally:
        await connection.close()
    applied = await runner(database_url).up()
    assert applied[0].version == 4


async def test_the_primary_is_prepared_again_after_an_outage(own_postgres: PostgresServer) -> None:
    primary = PostgresPrimary(own_postgres.url)
    try:
        first = await primary.prepare()
        await asyncio.to_thread(own_postgres.kill)
        await asyncio.to_thread(own_postgres.start)
        assert await primary.prepare() == first
    finally:
        await primary.close()
