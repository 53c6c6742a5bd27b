"""Branches: copies of their own, on PostgreSQL and SQLite, that go by themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from mcp_server.domain.errors import Conflict, Invalid, NotFound
from mcp_server.ports.store import Transaction
from mcp_server.services.branches import TEND, Branches
from tests.backups.conftest import Vault


class Grove:
    def __init__(self, vault: Vault, **options: Any) -> None:
        self.vault = vault
        self.branches = Branches(
            vault.yard.databases.parts,
            vault.yard.databases.holding,
            vault.backups,
            vault.backups._copies,
            **options,
        )

    async def branch(self, name: str = "try", **arguments: Any) -> Any:
        return await self.vault.ask(
            self.branches.create,
            "branch_database",
            project=self.vault.yard.named("shop"),
            name=name,
            wait_seconds=60,
            **arguments,
        )

    async def drop(self, name: str = "try") -> Any:
        known = {"project": self.vault.yard.named("shop"), "name": name}
        plan = await self.vault.ask(self.branches.drop, "drop_branch", **known)
        return await self.vault.ask(self.branches.drop, "drop_branch", token=plan.plan_token, **known)

    async def names(self) -> list[str]:
        listed = await self.vault.ask(
            self.branches.list, "list_branches", project=self.vault.yard.named("shop")
        )
        return [one.name for one in listed.items]

    async def on_server(self) -> Any:
        """Databases and roles of branches that the server has."""
        return await self.vault.sql(
            "SELECT (SELECT count(*) FROM pg_database WHERE datname LIKE 'br%')"
            " + (SELECT count(*) FROM pg_roles WHERE rolname ~ '^b[uv]_')"
        )


async def asked(url: str, *statements: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


@pytest.fixture
async def grove(vault: Vault) -> Grove:
    await vault.yard.create(engine="postgres")
    await vault.sql(
        "CREATE TABLE pets (id SERIAL PRIMARY KEY, name TEXT)",
        "CREATE SCHEMA other",
        "CREATE TABLE other.x AS SELECT generate_series(1, 100) i",
        "INSERT INTO pets (name) VALUES ('rex')",
        "SELECT 1",
    )
    return Grove(vault)


@pytest.mark.parametrize("busy", [False, True])
async def test_a_branch_is_its_own_and_the_source_is_left_alone(grove: Grove, busy: bool) -> None:
    """With somebody in the source the copy is made by a dump, and nobody is sent away."""
    source = await grove.vault.yard.url()
    guest = await asyncpg.connect(source) if busy else None
    made = await grove.branch(reveal=True)
    assert made.state == "ready"
    if guest is not None:
        assert await guest.fetchval("SELECT count(*) FROM pets") == 1
        await guest.close()
    assert await asked(made.url, "INSERT INTO pets (name) VALUES ('bo')", "SELECT count(*) FROM pets") == 2
    assert (
        await asked(made.url, "ALTER TABLE other.x ADD COLUMN j INT", "SELECT count(*) FROM other.x") == 100
    )
    assert await grove.vault.sql("SELECT count(*) FROM pets") == 1
    assert (
        await grove.vault.sql("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'app'")
        == "app"
    )
    assert (
        await grove.vault.sql(
            "CREATE TABLE mine (a INT)", "SELECT tableowner FROM pg_tables WHERE tablename = 'pets'"
        )
        == "app"
    )
    # Neither gets into the other's database, and the branch's reader only reads.
    for url, name in ((source, made.url.rpartition("/")[2]), (made.url, "app")):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(f"{url.rpartition('/')[0]}/{name}")
    record = await grove.vault.yard.store.read(
        lambda tx: tx.branches.get(f"{grove.vault.yard.named('shop')}/all/try")
    )
    assert record is not None
    assert record.place is not None
    assert record.access is not None
    passwords = grove.vault.yard.databases.parts.passwords
    reader = passwords.login(record.place, record.access, record.uid, reader=True)
    connection = await asyncpg.connect(
        host=reader.host, port=reader.port, user=reader.role, password=reader.password.get_secret_value(),
        database=reader.database,
    )  # fmt: skip
    assert await connection.fetchval("SELECT count(*) FROM pets") == 2
    assert await connection.fetchval("SELECT count(*) FROM other.x") == 100
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await connection.execute("DELETE FROM pets")
    await connection.close()
    assert await grove.on_server() == 3
    await grove.drop()
    assert await grove.names() == []
    assert await grove.on_server() == 0


async def test_an_expired_branch_goes_and_others_stay(grove: Grove) -> None:
    await grove.branch("old")
    await grove.branch("new")

    async def age(tx: Transaction) -> None:
        old = await tx.branches.hold(f"{grove.vault.yard.named('shop')}/all/old")
        assert old is not None
        await tx.branches.save(old.change(expires_at=await tx.now() - timedelta(seconds=1)))

    await grove.vault.yard.store.run(age, TEND)
    await grove.branches.tend()
    assert await grove.names() == ["new"]
    assert await grove.on_server() == 3


async def test_a_failed_copy_leaves_nothing(grove: Grove) -> None:
    with pytest.raises(Invalid, match="are made up to 0 MiB"):
        await Grove(grove.vault, most_bytes=1).branch()
    assert await grove.names() == []
    assert await grove.on_server() == 0


async def test_a_name_is_taken_once_and_must_be_a_name(grove: Grove) -> None:
    await grove.branch()
    with pytest.raises(Conflict):
        await grove.branch()
    for bad in ("../x", "", "A b", "x" * 40):
        with pytest.raises(Invalid):
            await grove.branch(bad)


async def test_a_branch_of_a_file_is_a_file(vault: Vault) -> None:
    await vault.yard.create(engine="sqlite")
    grove = Grove(vault)
    made = await grove.branch()
    assert made.state == "ready"
    assert made.address.endswith(".db")
    assert "/branches/" in made.address
    await vault.yard.delete(final_backup=False)
    await grove.branches.tend()
    with pytest.raises(NotFound):
        await grove.drop()
