"""Quaymaster's own PostgreSQL and registry are backed up, proved, and restored beside what is live."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from mcp_server.adapters.backup_files.scratch import HomeScratch
from mcp_server.adapters.backup_files.sealed import SealedFiles
from mcp_server.adapters.control_plane.database import ControlPlaneDatabase
from mcp_server.adapters.control_plane.programs import ProgramsOfVersion, client_workload
from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.adapters.project_sql.sums import postgres_tables
from mcp_server.adapters.registry import maintenance
from mcp_server.adapters.registry.copies import RegistryArchives
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.domain.errors import Corrupt, Unavailable
from mcp_server.domain.installation_backups import Contents, address_of, image_of, seal_of
from mcp_server.services.backups.installation import InstallationBackups
from mcp_server.services.backups.installation_restores import InstallationRestores
from tests.acceptance.wire import call, make_key, receive, send
from tests.databases.conftest import make_yard, store, yard
from tests.databases.yards import SET_UP, Yard, furnish
from tests.services.loops import run_apart
from tests.services.postgres import PostgresServer
from tests.services.processes import ServerProcess, run_quaymaster
from tests.services.waiting import wait_until

__all__ = ["make_yard", "store", "yard"]

KILLED = -9
CANARY = "canary-9f3a"
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def quaymaster(*arguments: str, home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return run_quaymaster(*arguments, home=home, settings=settings, seconds=120)


def listed(home: Path, **settings: str) -> list[dict[str, Any]]:
    found = quaymaster("backup", "list", "--json", home=home, **settings)
    assert found.returncode == 0, found.stderr
    backups: list[dict[str, Any]] = json.loads(found.stdout)
    return backups


def keys(home: Path, **settings: str) -> list[str]:
    found = quaymaster("keys", "list", "--json", home=home, **settings)
    assert found.returncode == 0, found.stderr
    return sorted(key["id"] for key in json.loads(found.stdout))


def add_key(home: Path, **settings: str) -> None:
    arguments = ("keys", "create", "--team", "local", "--role", "owner", "--name", CANARY)
    made = quaymaster(*arguments, home=home, **settings)
    assert made.returncode == 0, made.stderr


# -- the registry ------------------------------------------------------------------------------------------


@pytest.fixture
def kept(home: Path) -> str:
    """The id of a backup of a registry with one key; a second key came later."""
    add_key(home)
    made = quaymaster("backup", "create", home=home)
    assert made.returncode == 0, made.stderr
    add_key(home)
    return made.stdout.strip()


def test_a_registry_is_restored_as_a_new_home_and_the_live_one_stays(
    home: Path, kept: str, tmp_path: Path
) -> None:
    new = tmp_path / "restored"
    [backup] = listed(home)
    assert (backup["id"], backup["subject"], backup["stage"]) == (kept, "registry", "kept")
    assert backup["verified_at"]
    before = keys(home)
    restored = quaymaster("backup", "restore", kept, "--to-home", str(new), home=home)
    assert restored.returncode == 0, restored.stderr
    assert "Next: " in restored.stderr
    assert maintenance.verify(new).sound
    assert len(keys(new)) == 1
    assert keys(home) == before
    assert len(before) == 2


def test_what_lies_on_the_disk_is_sealed_and_any_changed_byte_is_found(home: Path, kept: str) -> None:
    [path] = (home / "backups").iterdir()
    assert CANARY.encode() not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert quaymaster("backup", "verify", kept, home=home).returncode == 0
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for named in (kept, str(path)):
        refused = quaymaster("backup", "verify", named, home=home)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr


def test_a_file_and_the_key_are_enough_and_without_the_key_nothing_is_told(
    home: Path, kept: str, tmp_path: Path
) -> None:
    """The old home is gone: its backup was copied elsewhere, its key kept."""
    elsewhere, other = tmp_path / "elsewhere", tmp_path / "other"
    for folder in (elsewhere, other):
        folder.mkdir()
    [path] = (home / "backups").iterdir()
    copy = elsewhere / path.name
    copy.write_bytes(path.read_bytes())
    refused = quaymaster("backup", "restore", str(copy), "--to-home", str(tmp_path / "new"), home=other)
    assert refused.returncode == 1
    assert "lacks the key" in refused.stderr
    (other / "secret.key").write_bytes((home / "secret.key").read_bytes())
    restored = quaymaster("backup", "restore", str(copy), "--to-home", str(tmp_path / "new"), home=other)
    assert restored.returncode == 0, restored.stderr
    assert len(keys(tmp_path / "new")) == 1


def test_nothing_is_restored_over_what_is_there(home: Path, kept: str, tmp_path: Path) -> None:
    before = maintenance.export(home)
    assert quaymaster("backup", "restore", kept, "--to-home", str(home), home=home).returncode == 4
    assert quaymaster("backup", "restore", kept, "--to-database", "x", home=home).returncode == 2
    assert (
        quaymaster("backup", "restore", "b-00", "--to-home", str(tmp_path / "n"), home=home).returncode == 4
    )
    assert quaymaster("backup", "restore", kept, home=home).returncode == 2
    assert maintenance.export(home)["records"] == before["records"]


async def test_a_copy_is_one_moment_of_a_registry_that_is_written_to_and_compacted(
    home: Path, tmp_path: Path
) -> None:
    mirror = await RegistryMirror.open(home)
    writing = asyncio.create_task(written(RegistryStore(mirror)))
    try:
        for number in range(12):
            place = tmp_path / str(number)
            place.mkdir()
            packed = await RegistryArchives(home).pack(f"{place}/copy", f"{place}/registry.tar")
            assert await RegistryArchives(home).unpack(f"{place}/registry.tar", f"{place}/new") == packed
            await mirror.compact()
        assert not writing.done()
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        mirror.close()


async def written(store: RegistryStore) -> None:
    number = 0
    while True:
        await furnish(store, f"m{number}")
        await store.run(partial(_touched, number=number), SET_UP)
        number += 1


async def _touched(tx: Any, *, number: int) -> None:
    team = await tx.teams.hold("t1")
    await tx.teams.save(team.change(name=f"team {number}"))


@pytest.mark.parametrize(
    ("step", "state"),
    [
        pytest.param("installation.noted", "failed", marks=pytest.mark.soak),
        ("backups.file.written", "failed"),
        ("installation.written", "kept"),
        pytest.param("installation.proved", "kept", marks=pytest.mark.soak),
    ],
)
def test_a_backup_that_dies_is_kept_when_it_was_written_to_its_end_and_else_failed(
    home: Path, step: str, state: str
) -> None:
    add_key(home)
    died = quaymaster("backup", "create", home=home, QUAYMASTER_FAULT=f"{step}:KILL")
    assert died.returncode == KILLED
    with ServerProcess.stdio(home=home, settings={}):
        wait_until(lambda: [one["stage"] for one in listed(home)] == [state], seconds=30, what="it to settle")
        assert len(list(home.glob("backups/*"))) == (state == "kept")
        wait_until(lambda: not list(home.glob("scratch/s-*")), seconds=30, what="plain copies to go")


def test_a_server_makes_what_is_due_once(home: Path) -> None:
    add_key(home)
    with ServerProcess.stdio(home=home, settings={"QUAYMASTER_BACKUP_HOURS": "1"}) as server:
        wait_until(lambda: [one["stage"] for one in listed(home)] == ["kept"], seconds=30, what="a backup")
        assert listed(home)[0]["reason"] == "schedule"
        send(server, call(1, "infrastructure_status"))
        assert receive(server)
    with ServerProcess.stdio(home=home, settings={"QUAYMASTER_BACKUP_HOURS": "1"}) as server:
        send(server, call(1, "infrastructure_status"))
        assert receive(server)
        assert len(listed(home)) == 1


def test_a_file_that_no_record_speaks_of_is_kept_and_named(home: Path, kept: str) -> None:
    """As it is after the store was restored from an older backup."""
    stranger = home / "backups" / "b-0123.qmbackup"
    stranger.write_bytes(b"sealed")
    (home / "backups" / "b-0124.qmbackup.writing").write_bytes(b"half")
    with ServerProcess.stdio(home=home, settings={}):
        half = home / "backups" / "b-0124.qmbackup.writing"
        wait_until(lambda: not half.exists(), seconds=30, what="what was half written to go")
    assert stranger.exists()
    assert "b-0123.qmbackup" in quaymaster("backup", "list", home=home).stderr


# -- PostgreSQL --------------------------------------------------------------------------------------------


@pytest.fixture
def grown(own_postgres: PostgresServer) -> PostgresServer:
    """Its role may make databases."""
    run_apart(run(own_postgres.admin_url, "ALTER ROLE quaymaster CREATEDB"))
    return own_postgres


async def run(url: str, sql: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(sql))
    finally:
        await connection.close()


def databases(server: PostgresServer) -> list[str]:
    rows = run_apart(
        run(server.admin_url, "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")
    )
    return [row["datname"] for row in rows]


def test_the_control_plane_is_restored_as_a_new_database_on_which_a_new_home_works(
    grown: PostgresServer, home: Path, tmp_path: Path
) -> None:
    here = {"QUAYMASTER_DATABASE_URL": grown.url}
    add_key(home, **here)
    made = quaymaster("backup", "create", home=home, **here)
    assert made.returncode == 0, made.stderr
    found = {one["subject"]: one for one in listed(home, **here)}
    assert {name: one["stage"] for name, one in found.items()} == {
        "control_plane": "kept",
        "registry": "kept",
    }
    assert found["control_plane"]["engine"] == "postgres"
    before = databases(grown)
    add_key(home, **here)
    backup = found["control_plane"]["id"]
    restored = quaymaster("backup", "restore", backup, "--to-database", "again", home=home, **here)
    assert restored.returncode == 0, restored.stderr
    assert databases(grown) == sorted([*before, "again"])
    again = {"QUAYMASTER_DATABASE_URL": grown.url_of("again")}
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    assert len(keys(other, **again)) == 1
    assert len(keys(home, **here)) == 2
    refused = quaymaster("backup", "restore", backup, "--to-database", "again", home=home, **here)
    assert refused.returncode == 4
    assert len(keys(other, **again)) == 1


def test_after_a_restore_the_backup_that_it_came_from_is_not_taken_for_a_broken_one(
    grown: PostgresServer, home: Path
) -> None:
    """In the dump its own record still says that it is being written."""
    here = {"QUAYMASTER_DATABASE_URL": grown.url}
    add_key(home, **here)
    made = quaymaster("backup", "create", "control_plane", home=home, **here)
    backup = made.stdout.strip()
    assert (
        quaymaster("backup", "restore", backup, "--to-database", "again", home=home, **here).returncode == 0
    )
    # The same home, whose registry is gone with the machine; its backups and its key were kept.
    new = home.parent / "new"
    new.mkdir(mode=0o700)
    (home / "backups").rename(new / "backups")
    for name in ("secret.key", "home.json", "HEAD"):
        assert (home / name).exists()
    (new / "secret.key").write_bytes((home / "secret.key").read_bytes())
    again = {"QUAYMASTER_DATABASE_URL": grown.url_of("again")}
    rows = run_apart(run(grown.url_of("again"), "SELECT stage FROM backups"))
    assert [row["stage"] for row in rows] == ["writing"]
    with ServerProcess.stdio(home=new, settings={**again, "QUAYMASTER_API_KEY": ""}):
        found = quaymaster("backup", "list", home=new, **again)
        assert f"control_plane-{backup}.qmbackup is in no record" in found.stderr
    [path] = (new / "backups").iterdir()
    assert quaymaster("backup", "verify", str(path), home=new, **again).returncode == 0


def test_a_role_that_may_make_no_database_is_told_what_it_needs_and_nothing_is_kept(
    own_postgres: PostgresServer, home: Path
) -> None:
    here = {"QUAYMASTER_DATABASE_URL": own_postgres.url}
    add_key(home, **here)
    refused = quaymaster("backup", "create", "control_plane", home=home, **here)
    assert refused.returncode == 1
    assert "ALTER ROLE ... CREATEDB" in refused.stderr
    assert [(one["stage"], one["verified_at"]) for one in listed(home, **here)] == [("failed", None)]
    assert not list(home.glob("backups/*"))


def test_the_password_is_in_no_message_and_no_record(grown: PostgresServer, home: Path) -> None:
    here = {"QUAYMASTER_DATABASE_URL": grown.url}
    add_key(home, **here)
    grown.stop()
    refused = quaymaster("backup", "create", "control_plane", home=home, **here)
    assert refused.returncode == 1
    address = address_of(grown.url)
    assert address.password
    assert address.password not in address.url
    for path in (path for path in home.rglob("*") if path.is_file()):
        assert address.password.encode() not in path.read_bytes()
    assert address.password not in refused.stdout + refused.stderr


@pytest.mark.parametrize("step", ["installation.restored"])
def test_a_proof_that_dies_leaves_no_database_and_is_done_again(
    grown: PostgresServer, home: Path, step: str
) -> None:
    here = {"QUAYMASTER_DATABASE_URL": grown.url}
    add_key(home, **here)
    before = databases(grown)
    fault = {"QUAYMASTER_FAULT": f"{step}:KILL"}
    assert quaymaster("backup", "create", "control_plane", home=home, **here, **fault).returncode == KILLED
    assert len(databases(grown)) == len(before) + 1
    key = make_key(home, **here)
    with ServerProcess.serve(home=home, settings={**here, "QUAYMASTER_API_KEY": key}):
        wait_until(
            lambda: [one["stage"] for one in listed(home, **here)] == ["kept"], seconds=60, what="its proof"
        )
    assert databases(grown) == before


async def test_a_backup_whose_restored_copy_differs_is_no_backup(yard: Yard) -> None:
    """One row more is said to be in it than there is."""
    parts, scratch = yard.databases.parts, HomeScratch(yard.home / "scratch")
    files, archives = SealedFiles(yard.home / "backups", parts.sealer), RegistryArchives(yard.home)
    async with scratch.folder() as folder:
        tables = await archives.pack(f"{folder}/copy", f"{folder}/registry.tar")
        data = Path(f"{folder}/registry.tar").read_bytes()
    for more in (0, 1):
        said = tuple(table.change(rows=table.rows + more) for table in tables)
        contents = Contents(subject="registry", id="b-01", home="h", created_at=NOW, tables=said)
        async with files.writing("registry-b-01.qmbackup", seal_of("registry-b-01.qmbackup")) as sink:
            await sink(contents.line())
            await sink(data)
        proof = InstallationRestores(scratch, archives, None).prove("registry-b-01.qmbackup", files)
        if not more:
            assert (await proof).tables == said
            continue
        with pytest.raises(Corrupt, match="rows instead of"):
            await proof


# -- with programs from a container -------------------------------------------------------------------------


def over(yard: Yard, url: str, engine: DockerOrchestrator, image: str) -> InstallationBackups:
    parts, scratch = yard.databases.parts, HomeScratch(yard.home / "scratch")
    programs = ProgramsOfVersion(address_of(url), engine, parts.site.owner(), image, parts.workers.me, {})
    postgres = ControlPlaneDatabase(url, address_of(url), programs, postgres_tables, parts.workers.alive)
    archives = RegistryArchives(yard.home)
    return InstallationBackups(
        yard.store,
        parts.workers,
        parts.site,
        SealedFiles(yard.home / "backups", parts.sealer),
        scratch,
        InstallationRestores(scratch, archives, postgres),
        archives,
        postgres,
    )


async def furnished(yard: Yard) -> str:
    """A PostgreSQL 16 of which this host has no programs, as the control plane."""
    await yard.create(engine="postgres")
    record = await yard.record()
    assert record is not None
    assert record.place is not None
    assert record.access is not None
    await yard.databases.parts.servers.run_sql(
        record.place.ref, f'ALTER ROLE "{record.access.role}" CREATEDB;\n'
    )
    url = await yard.url()
    await run(url, "CREATE TABLE notes (id SERIAL PRIMARY KEY, text TEXT)")
    await run(url, "INSERT INTO notes (text) SELECT md5(n::TEXT) FROM generate_series(1, 5000) n")
    return url


async def test_without_programs_of_the_servers_version_those_of_a_container_are_used(
    yard: Yard, orchestrator: DockerOrchestrator, image: Callable[[str], str]
) -> None:
    url = await furnished(yard)
    backups = over(yard, url, orchestrator, image("postgres"))
    made = await backups.create("control_plane")
    assert made.verified_at is not None
    assert ("public.notes", 5000) in [(one.name, one.rows) for one in made.tables]
    left = await orchestrator.list(yard.databases.parts.site.labels())
    assert {one.kind for one in left} == {"database"}
    again = await backups.verify(made.id)
    assert again.verified_at is not None
    assert again.verified_at >= made.verified_at


async def test_without_an_engine_it_is_said_which_programs_are_missing(
    yard: Yard, image: Callable[[str], str], tmp_path: Path
) -> None:
    url = await furnished(yard)
    away = DockerOrchestrator(f"unix://{tmp_path}/none.sock")
    backups = over(yard, url, away, image("postgres"))
    try:
        with pytest.raises(Unavailable, match="no pg_dump of PostgreSQL 16"):
            await backups.create("control_plane")
    finally:
        await away.close()


async def test_what_a_dead_process_left_on_the_engine_is_removed(
    yard: Yard, orchestrator: DockerOrchestrator, image: Callable[[str], str]
) -> None:
    url = await furnished(yard)
    owner = yard.databases.parts.site.owner()
    dead = client_workload(owner, image("postgres"), 16, address_of(url), "w" + "0" * 24)
    await orchestrator.create(dead)
    await over(yard, url, orchestrator, image("postgres")).tend()
    assert await orchestrator.inspect(dead.name) is None


@pytest.mark.parametrize(
    ("image", "major", "same"),
    [
        ("postgres:16-alpine", 17, "postgres:17-alpine"),
        ("reg.example:5000/pg/postgres:16.3", 15, "reg.example:5000/pg/postgres:15"),
        ("postgres", 16, "postgres"),
        ("pgvector/pgvector:pg16", 15, "pgvector/pgvector:pg16"),
    ],
)
def test_an_image_of_another_version(image: str, major: int, same: str) -> None:
    assert image_of(image, major) == same


@pytest.mark.parametrize(
    ("url", "plain", "password", "socket"),
    [
        (
            "postgresql://a:p%40%2F@h:1/d?sslmode=require",
            "postgresql://a@h:1/d?sslmode=require",
            "p@/",
            False,
        ),
        (
            "postgresql://a@h/d?password=x&application_name=q",
            "postgresql://a@h/d?application_name=q",
            "x",
            False,
        ),
        (
            "postgresql://a@/d?host=/var/run/postgresql",
            "postgresql://a@/d?host=%2Fvar%2Frun%2Fpostgresql",
            None,
            True,
        ),
    ],
)
def test_an_address_without_its_password(url: str, plain: str, password: str | None, socket: bool) -> None:
    address = address_of(url)
    assert (address.url, address.password, address.socket) == (plain, password, socket)
