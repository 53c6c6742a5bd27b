"""What one server does for all of them: with PostgreSQL of the installation, without it of the home."""

from __future__ import annotations

from pathlib import Path

from tests.failover.homes import in_mode, running, until
from tests.services.postgres import PostgresServer


async def test_of_all_servers_one_leads_and_when_it_ends_another_one_does(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home) as first:
        assert await first.leads("sweep")
        async with (
            running(rough.url, home) as beside,
            running(rough.url, home.with_name("elsewhere")) as elsewhere,
        ):
            assert not await beside.leads("sweep")
            assert not await elsewhere.leads("sweep")
            assert await elsewhere.leads("something else")
            await first.close()
            assert await elsewhere.leads("sweep")
            assert not await beside.leads("sweep")


async def test_a_server_whose_connections_were_cut_asks_again(rough: PostgresServer, home: Path) -> None:
    async with (
        running(rough.url, home) as first,
        running(rough.url, home.with_name("elsewhere")) as second,
    ):
        assert await first.leads("sweep")
        rough.cut_connections()
        assert await second.leads("sweep")
        assert not await first.leads("sweep")


async def test_without_postgresql_the_leader_of_the_home_leads(rough: PostgresServer, home: Path) -> None:
    async with running(rough.url, home) as first:

        async def leads_the_home() -> bool:
            return first._leading

        await until(leads_the_home)
        async with running(rough.url, home) as second:
            assert await second.leads("sweep")
            rough.kill()
            assert await first.leads("sweep")
            await in_mode(first, "degraded")
            assert not await second.leads("sweep")
            rough.start()
