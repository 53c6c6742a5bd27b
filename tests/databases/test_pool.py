"""The warm pool: filled, claimed once, replaced, and off when it must be."""

from __future__ import annotations

import asyncio
import json

import pytest

from mcp_server.adapters.postgres_projects.logins import AsyncpgLogins
from mcp_server.domain.databases import Login
from mcp_server.domain.errors import Unavailable
from mcp_server.domain.workloads import Owner
from tests.databases.conftest import MakeYard
from tests.databases.yards import Yard, run_on
from tests.services.engine import DockerEngine

GB = 1024**3


async def fill(yard: Yard) -> None:
    while await yard.databases.pool.fill_one():
        pass


async def test_nothing_is_made_before_the_first_database_and_then_as_many_as_are_set(
    make_yard: MakeYard,
) -> None:
    yard: Yard = await make_yard(pool=2)
    await fill(yard)
    assert await yard.servers() == []
    await yard.create(engine="postgres")
    await fill(yard)
    assert [one.stage for one in await yard.servers()] == ["ready", "ready"]
    assert len({one.place.port for one in await yard.servers()}) == 2
    fewer: Yard = await make_yard(pool=1)
    await fill(fewer)
    assert len(await fewer.servers()) == 1


async def test_a_claim_has_a_new_password_the_projects_name_and_a_place_in_its_network(
    make_yard: MakeYard, engine: DockerEngine, owner: Owner
) -> None:
    yard: Yard = await make_yard(pool=1)
    standby = await yard.databases.pool.add(yard.databases.parts.options.image)
    before = yard.databases.parts.passwords.login_of_server(standby).password.get_secret_value()
    made = await yard.create(engine="postgres")
    record = await yard.record()
    assert record is not None
    assert record.claimed == standby.place.container
    url = await yard.url()
    assert before not in url
    assert await run_on(url, "SELECT 1")
    shown = engine.find(f"/containers/{made.container}/json")
    assert (
        made.container
        in shown["NetworkSettings"]["Networks"][f"quaymaster-net-{yard.named('shop')}"]["Aliases"]
    )
    assert engine.find(f"/containers/{standby.place.container}/json") is None
    assert url.split(":")[2].split("@")[0] not in json.dumps(shown)
    assert [one.holder for one in await yard.ports()] == [record.uid]
    await yard.delete()
    assert engine.things(owner.installation) == []
    assert await yard.ports() == []


class Unlucky(AsyncpgLogins):
    """The first answer is lost, be it that the password was changed before or not."""

    def __init__(self, *, done: bool) -> None:
        self._done = done
        self._lucky = False

    async def change_password(self, login: Login, verifier: str, *, seconds: float) -> None:
        if self._lucky or self._done:
            await super().change_password(login, verifier, seconds=seconds)
        if not self._lucky:
            self._lucky = True
            raise Unavailable("the connection broke")


@pytest.mark.parametrize("done", [False, True])
async def test_a_claim_whose_connection_breaks_keeps_its_standby(make_yard: MakeYard, done: bool) -> None:
    yard: Yard = await make_yard(pool=1, logins=Unlucky(done=done))
    standby = await yard.databases.pool.add(yard.databases.parts.options.image)
    await yard.create(engine="postgres")
    record = await yard.record()
    assert record is not None
    assert record.claimed == standby.place.container
    assert await run_on(await yard.url(), "SELECT 1")


async def test_of_many_claims_at_one_time_none_share_a_database(make_yard: MakeYard) -> None:
    yard: Yard = await make_yard(pool=2)
    second: Yard = await make_yard(pool=2)
    image = yard.databases.parts.options.image
    await asyncio.gather(yard.databases.pool.add(image), yard.databases.pool.add(image))
    names = [f"p{number}" for number in range(4)]
    for name in names:
        await yard.add_project(name)
    servers = (yard, second, yard, second)
    views = await asyncio.gather(
        *(server.create(name, engine="postgres") for server, name in zip(servers, names, strict=True))
    )
    assert len({view.address for view in views}) == 4
    urls = [await yard.url(name) for name in names]
    assert len({url.split("@")[0] for url in urls}) == 4
    claimed = [record.claimed for record in await yard.records() if record.claimed]
    assert len(claimed) == len(set(claimed)) == 2
    for number, url in enumerate(urls):
        await run_on(url, f"CREATE TABLE mine AS SELECT {number} AS n")
    assert [(await run_on(url, "SELECT n FROM mine"))[0]["n"] for url in urls] == [0, 1, 2, 3]


async def test_a_standby_that_died_is_not_handed_out_and_its_place_is_cleared(
    make_yard: MakeYard, engine: DockerEngine, owner: Owner
) -> None:
    yard: Yard = await make_yard(pool=1)
    standby = await yard.databases.pool.add(yard.databases.parts.options.image)
    engine.ask("POST", f"/containers/{standby.place.container}/kill")
    made = await yard.create(engine="postgres")
    assert made.state == "running"
    record = await yard.record()
    assert record is not None
    assert record.claimed is None
    assert await yard.servers() == []
    assert not [thing for thing in engine.things(owner.installation) if standby.id in thing]
    assert len(await yard.ports()) == 1


async def test_the_pool_survives_its_server_and_counts_for_no_project(make_yard: MakeYard) -> None:
    first: Yard = await make_yard(pool=1)
    standby = await first.databases.pool.add(first.databases.parts.options.image)
    second: Yard = await make_yard(pool=1)
    await second.databases.recovery.run()
    assert [one.id for one in await second.servers()] == [standby.id]
    assert (await second.ask("list_databases")).items == ()
    await second.create(engine="postgres")
    record = await second.record()
    assert record is not None
    assert record.claimed == standby.place.container


async def test_the_pool_is_off_while_memory_is_short_and_says_so(make_yard: MakeYard) -> None:
    class Small:
        def port_is_free(self, port: int) -> bool:
            return True

        def free_memory(self) -> int | None:
            return GB // 10

    yard: Yard = await make_yard(pool=2, machine=Small())
    await yard.create(engine="postgres")
    keeping = asyncio.create_task(yard.databases.pool.keep_full())
    async with asyncio.timeout(10):
        while yard.databases.pool.problem is None:
            await asyncio.sleep(0.02)
    keeping.cancel()
    assert "memory" in yard.databases.pool.problem
    assert await yard.servers() == []


async def test_with_pgvector_used_one_standby_has_it_already(make_yard: MakeYard, image) -> None:
    yard: Yard = await make_yard(pool=1)
    await yard.create(engine="postgres", extensions=("vector",))
    await fill(yard)
    kinds = sorted((one.extensions for one in await yard.servers()), key=len)
    assert kinds == [(), ("vector",)]
    await yard.add_project("web")
    await yard.create("web", extensions=("vector",))
    record = await yard.record("web")
    assert record is not None
    assert record.claimed is not None
    assert await run_on(await yard.url("web"), "SELECT '[1]'::vector")


async def test_a_standby_that_cannot_be_made_leaves_nothing(
    make_yard: MakeYard, engine: DockerEngine, owner: Owner, image
) -> None:
    yard: Yard = await make_yard(pool=1, ready_seconds=2)
    with pytest.raises(Exception, match="postgres"):
        await yard.databases.pool.add(image("busybox"))
    assert await yard.servers() == []
    assert await yard.ports() == []
    assert engine.things(owner.installation) == []
