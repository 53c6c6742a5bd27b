"""A home that was copied with its id: to another machine, or out of a backup while the first one lives on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.domain.errors import Degraded, Invalid, Unavailable
from tests.failover.homes import furnish, in_mode, running, whole, write
from tests.failover.test_claims import alone, grant
from tests.services.postgres import PostgresServer
from tests.services.proxy import TcpProxy


def copied(home: Path) -> Path:
    return Path(shutil.copytree(home, home.with_name("copied")))


async def test_a_copied_home_does_not_start_beside_the_first_one(rough: PostgresServer, home: Path) -> None:
    async with running(rough.url, home) as first:
        await furnish(first)
        await alone(first)
        name = (await first._mirror.refresh()).home
        with pytest.raises(Invalid, match=name) as refused:
            async with running(rough.url, copied(home)):
                pass
        assert "claim --force" in refused.value.next
        assert "QUAYMASTER_HOME" in refused.value.next
        await grant(first, "l1")
        await alone(first)


async def test_a_copied_home_grants_nothing_alone_while_postgresql_is_away(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home) as first:
        await furnish(first)
        await alone(first)
        rough.kill()
        await in_mode(first, "degraded")
        async with running(rough.url, copied(home)) as second:
            await write(second, "not exclusive")
            with pytest.raises(Degraded, match="must wait"):
                await grant(second, "second")
            await grant(first, "first")
            rough.start()
            await whole(first)
            await whole(second)
            with pytest.raises(Unavailable, match="copied"):
                await grant(second, "second")
            await grant(first, "third")
            await alone(first)
            assert not (await second.status()).alone


async def test_a_home_stays_the_same_over_restarts_and_changes_of_its_files(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home) as first:
        await furnish(first)
        await alone(first)
    mirror = await RegistryMirror.open(home)
    await mirror.compact()
    mirror.close()
    async with running(rough.url, home) as again:
        await grant(again, "l1")
        rough.kill()
        await in_mode(again, "degraded")
        await grant(again, "l2")
        assert (await again.status()).alone


async def test_a_person_can_say_that_a_moved_home_has_taken_the_place_of_the_first(
    rough: PostgresServer, proxy: TcpProxy, home: Path
) -> None:
    """The first one, which lives after all, hears of it."""
    async with running(rough.url, home) as first:
        await furnish(first)
        await alone(first)
        async with running(rough.url, copied(home), told_to_take_over=True) as moved:
            await alone(moved)
            await alone(first, False)
            await grant(moved, "l1")
            first._members.forget()
            with pytest.raises(Unavailable, match="copied"):
                await grant(first, "l2")
            rough.kill()
            await grant(moved, "l3")
            await in_mode(first, "degraded")
            with pytest.raises(Degraded):
                await grant(first, "l4")
