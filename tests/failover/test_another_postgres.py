"""PostgreSQL comes back as what this home did not mirror: nothing is replayed, nothing is lost, and it is said."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import asyncpg
import pytest

from mcp_server.adapters.failover.importing import bring_over
from mcp_server.adapters.failover.store import FailoverStore
from mcp_server.adapters.postgres.connections import ConnectionSettings
from mcp_server.adapters.postgres.primary import PostgresPrimary
from mcp_server.adapters.registry import maintenance
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.domain.errors import Conflict, Invalid
from mcp_server.domain.nouns import RECORDS
from mcp_server.domain.records import Record
from mcp_server.ports.mirror import Gone
from mcp_server.ports.store import Transaction
from tests.failover.homes import furnish, ids, running, sides, until, whole, whole_and_equal, write
from tests.services.loops import run_apart
from tests.services.postgres import PostgresServer
from tests.store import samples
from tests.store.backends import emptied, migrated


@pytest.fixture
def own(postgres_template: Path) -> Iterator[PostgresServer]:
    with PostgresServer(postgres_template) as server:
        run_apart(migrated(server.url))
        yield server


async def stays_degraded(store: FailoverStore, why: str) -> None:
    async def said() -> bool:
        return why in ((await store.status()).reason or "")

    await until(said, what=f"the status to say {why!r}")
    status = await store.status()
    assert (status.mode, status.healthy) == ("degraded", False)


def records_of(home: Path) -> list[Record]:
    exported = maintenance.export(home)["records"]
    return [kind.model_validate(each) for kind in RECORDS for each in exported.get(kind.noun, ())]


def gone_of(home: Path) -> list[Gone]:
    return [
        Gone(each["noun"], each["key"], each["rev"], datetime.fromisoformat(each["at"]))
        for each in maintenance.export(home)["gone"]
    ]


async def imported(url: str, home: Path) -> dict[str, int]:
    """What `quaymaster registry import` does."""
    primary, mirror = PostgresPrimary(ConnectionSettings(url)), await RegistryMirror.open(home)
    try:
        return await bring_over(primary, mirror, records_of(home), gone_of(home))
    finally:
        mirror.close()
        await primary.close()


async def test_an_old_backup_is_not_replayed_onto_until_the_right_one_is_back(
    own: PostgresServer, home: Path
) -> None:
    async with running(own.url, home) as store:
        await furnish(store)
        await write(store, "in the backup")
    old = own.snapshot()
    async with running(own.url, home) as store:
        await write(store, "later")
    new = own.snapshot()
    async with running(own.url, home) as store:
        own.kill()
        await write(store, "pending")
        own.restore_snapshot(old)
        own.start()
        await stays_degraded(store, "older state")
        await write(store, "still served")
        assert await ids(store) == {"in the backup", "later", "pending", "still served"}
        assert (await store.status()).pending == 2
        own.stop()
        own.restore_snapshot(new)
        own.start()
        await whole(store)
    await whole_and_equal(own.url, home, {"in the backup", "later", "pending", "still served"})


async def test_a_server_that_starts_on_an_old_backup_says_so_and_serves_its_mirror(
    own: PostgresServer, home: Path
) -> None:
    async with running(own.url, home) as store:
        await furnish(store)
    old = own.snapshot()
    async with running(own.url, home) as store:
        await write(store, "later")
    own.restore_snapshot(old)
    async with running(own.url, home) as store:
        await stays_degraded(store, "older state")
        assert await ids(store) == {"later"}
        assert (await write(store, "on")).notices


async def test_an_empty_postgresql_gets_nothing_but_what_a_person_imports(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home) as store:
        await furnish(store)
        await write(store, "before")
        rough.kill()
        await write(store, "pending")
        await store.record([samples.audit("read")], {})
        rough.start()
        await emptied(rough.url)
        await stays_degraded(store, "answers as installation")
        assert "registry import" in ((await store.status()).reason or "")
        assert await ids(store) == {"before", "pending"}
    counts = await imported(rough.url, home)
    assert counts["tasks"] == 3
    async with running(rough.url, home) as store:
        assert await ids(store) == {"before", "pending"}
        status = await store.status()
        assert (status.mode, status.pending) == ("primary", 0)
        await write(store, "after")
    both = await sides(rough.url, home)
    assert both.primary == both.registry
    assert {"audit-pending", "audit-after", "read"} <= set(both.audit)


async def test_what_was_imported_goes_by_the_name_that_it_had(rough: PostgresServer, home: Path) -> None:
    """Containers, DNS records and the edge carry that name."""
    embedded = await RegistryStore.open(home)
    await furnish(embedded)
    embedded.close()
    await imported(rough.url, home)
    async with running(rough.url, home) as store:
        facts = await store._mirror.refresh()
        assert facts.position is not None
        assert facts.position.installation == facts.home
        await emptied(rough.url)
        rough.cut_connections()
        await write(store, "pending")
        await stays_degraded(store, "answers as installation")
    await imported(rough.url, home)
    async with running(rough.url, home) as store:
        position = (await store._mirror.refresh()).position
        assert position is not None
        assert position.installation == facts.home
        assert await ids(store) == {"pending"}


async def test_nothing_is_imported_into_a_postgresql_that_another_home_works_with(
    rough: PostgresServer, home: Path
) -> None:
    embedded = await RegistryStore.open(home)
    await furnish(embedded)
    embedded.close()
    async with running(rough.url, home.with_name("other")) as other:
        name = (await other._mirror.refresh()).position
        await until(lambda: registered(rough.url), what="the other home to be registered")
    with pytest.raises(Conflict, match="already"):
        await imported(rough.url, home)
    async with running(rough.url, home.with_name("other")) as other:
        again = (await other._mirror.refresh()).position
        assert name is not None
        assert again is not None
        assert again.installation == name.installation


async def registered(url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        return bool(await connection.fetchval("SELECT count(*) FROM homes"))
    finally:
        await connection.close()


async def test_a_server_that_runs_during_the_import_takes_it_up_by_itself(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home) as store:
        await furnish(store)
        await write(store, "before")
        await emptied(rough.url)
        rough.cut_connections()
        await write(store, "pending")
        await stays_degraded(store, "answers as installation")
        await imported(rough.url, home)
        await whole(store)
        await write(store, "after")
    await whole_and_equal_but_audit(rough.url, home, {"before", "pending", "after"})


async def whole_and_equal_but_audit(url: str, home: Path, expected: set[str]) -> None:
    """The audit rows of before are in the home's files only."""
    both = await sides(url, home)
    assert both.registry == both.primary
    assert {key for noun, key in both.primary if noun == "tasks"} == {"counter", *expected}


async def test_another_installation_is_left_alone(rough: PostgresServer, home: Path) -> None:
    async with running(rough.url, home) as store:
        await furnish(store)
        await write(store, "mine")
    await emptied(rough.url)
    async with running(rough.url, home.with_name("other")) as other:
        await furnish(other)
        await write(other, "theirs")
    async with running(rough.url, home) as store:
        await stays_degraded(store, "answers as installation")
        assert await ids(store) == {"mine"}
        await write(store, "mine too")
    async with running(rough.url, home.with_name("other")) as other:
        assert await ids(other) == {"theirs"}
    with pytest.raises(Conflict, match="empty one only"):
        await imported(rough.url, home)


async def test_a_dump_restored_into_another_cluster_is_taken_back_with_everything_in_it(
    rough: PostgresServer, home: Path
) -> None:
    """Its transaction ids mean nothing there; its log does."""
    async with running(rough.url, home) as store:
        await furnish(store)
        await write(store, "before")
    with PostgresServer() as other:
        restored(rough, other)
        async with running(other.url, home) as store:
            assert (await store.status()).mode == "primary"
            await write(store, "after")
            other.kill()
            await write(store, "during")
            other.start()
            await whole(store)
        await whole_and_equal(other.url, home, {"before", "during", "after"})


async def test_a_dump_that_was_made_too_early_is_not(rough: PostgresServer, home: Path) -> None:
    async with running(rough.url, home) as store:
        await furnish(store)
    with PostgresServer() as other:
        restored(rough, other)
        async with running(rough.url, home) as store:
            await write(store, "later")
        async with running(other.url, home) as store:
            await stays_degraded(store, "older state")
            assert await ids(store) == {"later"}


def restored(source: PostgresServer, target: PostgresServer) -> None:
    dumped = subprocess.run(
        [source._programs / "pg_dump", "--no-owner", source.url], capture_output=True, check=True, timeout=60
    )
    subprocess.run(
        [target._programs / "psql", "--quiet", "-v", "ON_ERROR_STOP=1", target.url],
        input=dumped.stdout,
        capture_output=True,
        check=True,
        timeout=60,
    )


# -- a home that had data before it had a PostgreSQL


async def embedded(home: Path) -> None:
    store = await RegistryStore.open(home)
    await furnish(store)
    await write(store, "embedded")
    store.close()


async def test_embedded_data_and_an_empty_postgresql_stop_the_start_until_they_are_imported(
    rough: PostgresServer, home: Path
) -> None:
    await embedded(home)
    for _ in range(2):
        with pytest.raises(Invalid, match="PostgreSQL is empty") as refused:
            async with running(rough.url, home):
                pass
        assert "registry import" in refused.value.next
    await imported(rough.url, home)
    async with running(rough.url, home) as store:
        assert await ids(store) == {"embedded"}
        await write(store, "after")
    await whole_and_equal_but_audit(rough.url, home, {"embedded", "after"})


async def test_revisions_go_on_after_an_import_also_those_of_what_was_deleted(
    rough: PostgresServer, home: Path
) -> None:
    """A plan that was made for one revision must not fit another state that has the same number."""
    await embedded(home)
    store = await RegistryStore.open(home)

    async def change(tx: Transaction) -> None:
        task = await tx.tasks.hold("embedded")
        assert task is not None
        await tx.tasks.remove(await tx.tasks.save(task.change(title="edited")))
        project = await tx.projects.hold("app")
        assert project is not None
        await tx.projects.save(project.change(description="edited"))

    await store.run(change, samples.SETUP)
    before = {(each.noun, each.key): each.rev for each in records_of(home)}
    store.close()
    await imported(rough.url, home)
    async with running(rough.url, home) as opened:
        assert {(each.noun, each.key): each.rev for each in records_of(home)} == before
        await write(opened, "embedded")
        made = await opened.read(lambda tx: tx.tasks.get("embedded"))
        assert made is not None
        assert made.rev == 4


async def test_embedded_data_that_a_filled_postgresql_lacks_are_never_overwritten(
    rough: PostgresServer, home: Path
) -> None:
    await embedded(home)
    async with running(rough.url, home.with_name("other")) as other:
        await other.run(lambda tx: tx.teams.add(samples.team("others")), samples.SETUP)
    with pytest.raises(Invalid, match="does not have"):
        async with running(rough.url, home):
            pass
    store = await RegistryStore.open(home)
    assert await ids(store) == {"embedded"}
    store.close()


async def test_an_import_that_was_cut_off_is_finished_by_the_next_one(
    rough: PostgresServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await embedded(home)

    async def ends(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RegistryMirror, "set_mode", ends)
        with pytest.raises(KeyboardInterrupt):
            await imported(rough.url, home)
    await imported(rough.url, home)
    async with running(rough.url, home) as store:
        assert await ids(store) == {"embedded"}
