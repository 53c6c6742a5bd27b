"""Backups, restores and branches on a server that projects share: nobody else notices, and nothing is left."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from tests.backups.conftest import Vault, make_yard, store, vault_over
from tests.backups.test_branches import Grove, asked
from tests.databases.conftest import MakeYard
from tests.databases.yards import Yard, run_on

__all__ = ["make_yard", "store"]


@pytest.fixture
async def vault(make_yard: MakeYard) -> Vault:
    """`shop` with a table, and `web` with one of the same name beside it."""
    yard: Yard = await make_yard(isolation="shared")
    await yard.add_project("web")
    vault = vault_over(yard)
    for project in ("shop", "web"):
        await yard.create(project, engine="postgres")
        await vault.sql(
            "CREATE TABLE pets (id SERIAL PRIMARY KEY, kind VARCHAR(9) CHECK (kind IN ('cat', 'dog')))",
            "INSERT INTO pets (kind) SELECT 'cat' FROM generate_series(1, 500)",
            project=project,
        )
    return vault


async def left(vault: Vault) -> Any:
    """Databases and roles on the server that are no project's."""
    record = await vault.yard.record("web")
    assert record is not None
    assert record.place is not None
    return await vault.yard.databases.parts.servers.run_sql(
        record.place.ref,
        "SELECT datname FROM pg_database WHERE datname ~ '^(qm_|br_)'"
        " UNION ALL SELECT rolname FROM pg_roles WHERE rolname ~ '^b[uv]_';\n",
    )


async def test_a_backup_is_proved_and_restored_while_the_neighbour_goes_on(vault: Vault) -> None:
    made = await vault.back_up()
    assert made.state == "verified", made.error
    await vault.sql("DELETE FROM pets")
    neighbour = await asyncpg.connect(await vault.yard.url("web"))
    try:
        await neighbour.execute("BEGIN")
        await neighbour.execute("INSERT INTO pets (kind) VALUES ('dog')")
        assert (await vault.restore(made.id)).status == "done"
        await neighbour.execute("COMMIT")
    finally:
        await neighbour.close()
    assert await vault.sql("SELECT count(*) FROM pets") == 500
    assert await vault.sql("SELECT count(*) FROM pets", project="web") == 501
    assert await vault.sql("INSERT INTO pets (kind) VALUES ('dog') RETURNING id") == 501
    assert await left(vault) == ""


async def test_what_was_restored_is_the_projects_own_and_nobody_elses(vault: Vault) -> None:
    made = await vault.back_up()
    await vault.restore(made.id)
    shop, web = await vault.yard.url(), await vault.yard.url("web")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run_on(f"{web.rpartition('/')[0]}/{shop.rpartition('/')[2]}", "SELECT 1")
    await vault.sql("DROP TABLE pets", "SELECT 1")
    assert (await vault.back_up()).state == "verified"


async def test_a_backup_goes_into_the_database_of_another_project(vault: Vault) -> None:
    made = await vault.back_up()
    await vault.sql("DELETE FROM pets", "SELECT 1", project="web")
    assert (await vault.restore(made.id, project=vault.yard.named("web"))).status == "done"
    assert await vault.sql("SELECT count(*) FROM pets", project="web") == 500
    assert await vault.sql("INSERT INTO pets (kind) VALUES ('dog') RETURNING id", project="web") == 501
    shop = (await vault.yard.url()).rpartition("/")[2]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run_on(f"{(await vault.yard.url('web')).rpartition('/')[0]}/{shop}", "SELECT 1")
    assert await left(vault) == ""


async def test_a_branch_has_everything_and_reaches_nothing_else(vault: Vault) -> None:
    grove = Grove(vault)
    branch = await grove.branch(reveal=True)
    assert branch.state == "ready"
    assert await asked(branch.url, "DELETE FROM pets WHERE id > 10", "SELECT count(*) FROM pets") == 10
    assert await vault.sql("SELECT count(*) FROM pets") == 500
    for stranger in (await vault.yard.url(), await vault.yard.url("web")):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asked(f"{branch.url.rpartition('/')[0]}/{stranger.rpartition('/')[2]}", "SELECT 1")
    await grove.drop()
    assert await left(vault) == ""
    assert await vault.sql("SELECT count(*) FROM pets") == 500


async def test_a_database_takes_its_branches_along_when_it_is_deleted(vault: Vault) -> None:
    grove = Grove(vault)
    vault.yard.databases.deletion._drop_branches = grove.branches.drop_of
    await grove.branch()
    plan = await vault.yard.ask("delete_database", project="shop")
    assert "its branches go with it: try" in plan.effects
    await vault.yard.delete()
    assert await left(vault) == ""
    assert await grove.names() == []
    assert await vault.sql("SELECT count(*) FROM pets", project="web") == 500


async def test_a_branch_whose_source_is_in_use_is_made_all_the_same(vault: Vault) -> None:
    session = await asyncpg.connect(await vault.yard.url())
    try:
        await session.execute("BEGIN")
        await session.execute("INSERT INTO pets (kind) VALUES ('dog')")
        branch = await Grove(vault).branch(reveal=True)
        await session.execute("COMMIT")
    finally:
        await session.close()
    assert await asked(branch.url, "SELECT count(*) FROM pets") == 500
