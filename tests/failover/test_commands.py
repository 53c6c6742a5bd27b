"""`quaymaster registry claim` and `registry import`, as a person types them."""

from __future__ import annotations

from pathlib import Path

from mcp_server.adapters.registry.store import RegistryStore
from tests.failover.homes import furnish, ids, running, write
from tests.failover.test_claims import alone, grant
from tests.services.postgres import PostgresServer
from tests.services.processes import run_quaymaster


async def test_a_forced_claim_admits_this_home(rough: PostgresServer, home: Path) -> None:
    settings = {"QUAYMASTER_DATABASE_URL": rough.url}
    gone = home.with_name("gone")
    async with running(rough.url, gone) as store:
        await furnish(store)
        await alone(store)
        lost = (await store._mirror.refresh()).home
    looked = run_quaymaster("registry", "claim", home=home, settings=settings)
    assert looked.returncode == 0, looked.stderr
    assert f"{lost}  may grant alone" in looked.stdout
    forced = run_quaymaster("registry", "claim", "--force", home=home, settings=settings)
    assert forced.returncode == 0, forced.stderr
    assert lost not in forced.stdout
    async with running(rough.url, home) as store:
        await grant(store, "l1")
        await alone(store)


async def test_an_import_brings_an_embedded_home_into_an_empty_postgresql(
    rough: PostgresServer, home: Path
) -> None:
    embedded = await RegistryStore.open(home)
    await furnish(embedded)
    await write(embedded, "embedded")
    embedded.close()
    settings = {"QUAYMASTER_DATABASE_URL": rough.url}
    stopped = run_quaymaster("registry", "conflicts", home=home, settings=settings)
    assert stopped.returncode != 0
    assert "registry import" in stopped.stderr
    done = run_quaymaster("registry", "import", home=home, settings=settings)
    assert done.returncode == 0, done.stderr
    assert "2 tasks" in done.stdout
    async with running(rough.url, home) as store:
        assert await ids(store) == {"embedded"}
