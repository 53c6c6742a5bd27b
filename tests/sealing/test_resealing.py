"""After a new key every stored secret is sealed with it, and says what it said."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mcp_server.adapters.backup_files.sealed import SealedFiles
from mcp_server.adapters.sealing.aes import AesSealer
from mcp_server.adapters.sealing.keys import SETTLED_SECONDS, forget_older, rotate, setting_and_file
from mcp_server.domain.backups import Backup
from mcp_server.domain.environments import EnvironmentVersion
from mcp_server.domain.errors import Unavailable
from mcp_server.ports.store import Transaction
from mcp_server.services.resealing import Resealing
from mcp_server.services.secrets_part import SecretsPart
from mcp_server.services.vault import Vault
from tests.services.processes import run_quaymaster
from tests.usecases.conftest import make_world as make_world
from tests.usecases.world import SETUP, World


def resealing(world: World, sealer: AesSealer, home: Path) -> Resealing:
    return Resealing(world.store, sealer, SealedFiles(home / "backups", sealer), "home")


async def test_variables_open_without_the_older_key_once_they_were_sealed_anew(
    make_world: Callable[..., Awaitable[World]], tmp_path: Path
):
    world = await make_world()
    await world.do(world.caller(), "create_project", name="shop")
    project = await world.store.read(lambda tx: tx.projects.get("shop"))
    assert project is not None
    keys = setting_and_file(None, tmp_path)
    data = Vault(AesSealer(keys)).sealed(project, "production", 3, {"TOKEN": "s3cret"})

    async def write(tx: Transaction) -> None:
        await tx.environment_versions.add(
            EnvironmentVersion(
                project="shop", environment="production", version=3, env_data=data, encrypted=True,
                created_at=await tx.now(),
            )
        )  # fmt: skip

    await world.store.run(write, SETUP)
    rotate(tmp_path)
    done = await resealing(world, AesSealer(keys), tmp_path).run()
    assert (done.sealed, done.left) == (1, ())
    assert (await resealing(world, AesSealer(keys), tmp_path).run()).sealed == 0
    forget_older(tmp_path)
    kept = await world.store.read(lambda tx: tx.environment_versions.get("shop/production/3"))
    assert kept is not None
    opened = Vault(AesSealer(keys)).opened(project, "production", kept.env_data, encrypted=True)
    assert opened == {"TOKEN": "s3cret"}
    rotate(tmp_path)
    forget_older(tmp_path)
    assert await resealing(world, AesSealer(keys), tmp_path).unreadable() == (
        "environment_versions shop/production/3",
    )


async def test_health_says_that_the_key_of_what_is_kept_was_lost(
    make_world: Callable[..., Awaitable[World]], tmp_path: Path
):
    world = await make_world()
    await world.do(world.caller(), "create_project", name="shop")
    project = await world.store.read(lambda tx: tx.projects.get("shop"))
    assert project is not None
    keys = setting_and_file(None, tmp_path)
    part = SecretsPart(lambda: resealing(world, AesSealer(keys), tmp_path))
    assert (await part.check()).condition == "healthy"
    data = Vault(AesSealer(keys)).sealed(project, "production", 3, {"TOKEN": "s3cret"})

    async def write(tx: Transaction) -> None:
        version = EnvironmentVersion(
            project="shop", environment="production", version=3, env_data=data, encrypted=True,
            created_at=await tx.now(),
        )  # fmt: skip
        await tx.environment_versions.add(version)

    await world.store.run(write, SETUP)
    part = SecretsPart(lambda: resealing(world, AesSealer(keys), tmp_path))
    assert (await part.check()).condition == "healthy"
    (tmp_path / "secret.key").unlink()
    part = SecretsPart(lambda: resealing(world, AesSealer(keys), tmp_path))
    lost = await part.check()
    assert lost.condition == "degraded"
    assert "environment_versions shop/production/3" in str(lost.reason)
    assert "QUAYMASTER_SECRET_KEY" in str(lost.reason)
    assert not (tmp_path / "secret.key").exists(), "a look makes no key"


CONTEXT = ("backup", "b1", "database", "red", "", "")
CONTENT = b"rows" * 700_000


async def kept(world: World, files: SealedFiles) -> None:
    """A verified backup of this home, and one that is still written."""
    async with files.writing("b1.qmbackup", CONTEXT) as sink:
        await sink(CONTENT)
    stored = await files.stored("b1.qmbackup")

    async def write(tx: Transaction) -> None:
        now = await tx.now()
        await tx.backups.add(
            Backup(
                id="b1", team_id="red", home="home", host="m", host_name="box", engine="sqlite", stage="kept",
                file="b1.qmbackup", bytes=stored.bytes, sha256=stored.sha256, created_at=now, verified_at=now,
            )
        )  # fmt: skip

    await world.store.run(write, SETUP)


async def content(files: SealedFiles) -> bytes:
    return b"".join([piece async for piece in files.reading("b1.qmbackup", CONTEXT)])


async def test_a_backup_opens_without_the_older_key_once_it_was_sealed_anew(
    make_world: Callable[..., Awaitable[World]], tmp_path: Path
):
    world, sealer = await make_world(), AesSealer(setting_and_file(None, tmp_path))
    files = SealedFiles(tmp_path / "backups", sealer)
    await kept(world, files)
    rotate(tmp_path)
    done = await resealing(world, sealer, tmp_path).run()
    assert (done.sealed, done.left) == (1, ())
    assert (await resealing(world, sealer, tmp_path).run()).sealed == 0
    assert forget_older(tmp_path) == 1
    alone = SealedFiles(tmp_path / "backups", AesSealer(setting_and_file(None, tmp_path)))
    assert await content(alone) == CONTENT
    stored, record = (
        await alone.stored("b1.qmbackup"),
        await world.store.read(lambda tx: tx.backups.get("b1")),
    )
    assert record is not None
    assert (record.sha256, record.bytes) == (stored.sha256, stored.bytes)


async def test_a_changed_file_is_left_as_it_is_and_named(
    make_world: Callable[..., Awaitable[World]], tmp_path: Path
):
    world, sealer = await make_world(), AesSealer(setting_and_file(None, tmp_path))
    await kept(world, SealedFiles(tmp_path / "backups", sealer))
    rotate(tmp_path)
    path = tmp_path / "backups" / "b1.qmbackup"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    (tmp_path / "backups" / "b2.qmbackup").write_bytes(b"nobody knows")
    done = await resealing(world, sealer, tmp_path).run()
    assert done.sealed == 0
    assert [line.partition(":")[0] for line in done.left] == ["backups b1", "backups/b2.qmbackup"]
    assert path.read_bytes() == bytes(data)
    assert not list(path.parent.glob("*.writing"))


async def test_a_server_that_runs_while_the_key_is_rotated_seals_with_the_new_one(tmp_path: Path) -> None:
    running = AesSealer(setting_and_file(None, tmp_path))
    before = running.seal(b"x", CONTEXT)
    rotate(tmp_path)
    after = running.seal(b"x", CONTEXT)
    forget_older(tmp_path)
    started = AesSealer(setting_and_file(None, tmp_path))
    assert started.open(after, CONTEXT) == b"x"
    with pytest.raises(Unavailable):
        started.open(before, CONTEXT)


@pytest.mark.parametrize("step", ["backups.file.written", "backups.file.resealed"])
def test_a_run_that_is_killed_at_a_file_is_gone_on_with(home: Path, step: str) -> None:
    made = run_quaymaster("backup", "create", home=home)
    backup = made.stdout.strip()
    killed = run_quaymaster("secrets", "rotate", home=home, settings={"QUAYMASTER_FAULT": f"{step}:KILL"})
    assert killed.returncode == -9
    assert len((home / "secret.key").read_text().split()) == 2
    assert len(list((home / "backups").glob("*.qmbackup"))) == 1
    refused = run_quaymaster("backup", "restore", backup, "--to-home", str(home / "new"), home=home)
    assert refused.returncode == 0, refused.stderr
    some_time_later(home)
    done = run_quaymaster("secrets", "rotate", "--forget-older", home=home)
    assert done.returncode == 0, done.stderr
    assert "forgotten: 1 older key" in done.stderr
    assert len((home / "secret.key").read_text().split()) == 1
    assert run_quaymaster("backup", "verify", backup, home=home).returncode == 0


def test_no_key_is_forgotten_while_something_needs_it(home: Path) -> None:
    run_quaymaster("backup", "create", home=home)
    [path] = (home / "backups").iterdir()
    path.rename(path.with_name("b-0123.qmbackup"))
    run_quaymaster("secrets", "rotate", home=home)
    some_time_later(home)
    refused = run_quaymaster("secrets", "rotate", "--forget-older", home=home)
    assert refused.returncode == 4
    assert "b-0123.qmbackup" in refused.stderr
    assert len((home / "secret.key").read_text().split()) == 2


def test_no_key_is_forgotten_while_a_slow_call_may_still_store_what_it_sealed(home: Path) -> None:
    run_quaymaster("secrets", "rotate", home=home)
    run_quaymaster("secrets", "rotate", home=home)
    refused = run_quaymaster("secrets", "rotate", "--forget-older", home=home)
    assert refused.returncode == 4
    assert "Call again in" in refused.stderr
    assert len((home / "secret.key").read_text().split()) > 1
    some_time_later(home)
    assert run_quaymaster("secrets", "rotate", "--forget-older", home=home).returncode == 0
    assert len((home / "secret.key").read_text().split()) == 1


def some_time_later(home: Path) -> None:
    """The key file is older than any call that may still run."""
    before = time.time() - SETTLED_SECONDS - 1
    os.utime(home / "secret.key", (before, before))
