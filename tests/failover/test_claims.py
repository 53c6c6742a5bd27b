"""Which of several homes may grant without PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_server.adapters.failover.store import FailoverStore
from mcp_server.domain.errors import Degraded, Unavailable
from mcp_server.ports.store import Intent, Transaction
from tests.failover.homes import furnish, in_mode, running, until, whole, write
from tests.services.postgres import PostgresServer
from tests.services.proxy import TcpProxy
from tests.store import samples

GRANT = Intent("lock_files", "test")


async def grant(store: FailoverStore, lock_id: str) -> None:
    async def fn(tx: Transaction) -> None:
        await tx.locks.add(samples.lock(lock_id, path=f"{lock_id}.py"))

    await store.run(fn, GRANT)


async def alone(store: FailoverStore, is_alone: bool = True) -> None:
    async def there() -> bool:
        return (await store.status()).alone is is_alone

    await until(there, what=f"the home to be {'alone' if is_alone else 'one of several'}")


async def test_a_home_that_is_alone_refuses_nothing_without_postgresql(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home) as store:
        await furnish(store)
        await alone(store)
        rough.kill()
        await grant(store, "l1")
        assert (await store.status()).mode == "degraded"
        rough.start()
        await whole(store)
        assert await store.read(lambda tx: tx.locks.get("l1")) is not None


async def test_of_two_homes_neither_grants_without_postgresql_and_both_go_on_with_the_rest(
    rough: PostgresServer, home: Path
) -> None:
    async with (
        running(rough.url, home) as first,
        running(rough.url, home.with_name("second")) as second,
    ):
        await furnish(first)
        await alone(first, False)
        await alone(second, False)
        await grant(first, "l1")
        await grant(second, "l2")
        rough.kill()
        for store, name in ((first, "f"), (second, "s")):
            await write(store, name)
            with pytest.raises(Degraded, match="must wait"):
                await grant(store, f"{name}-lock")
            with pytest.raises(Degraded):
                await store.run(
                    lambda tx: tx.projects.add(samples.project("x")), Intent("create_project", "t")
                )
        rough.start()
        await whole(first)
        await whole(second)
        await grant(first, "l3")
        assert {lock.id for lock in await second.read(lambda tx: tx.locks.of_project("app"))} == {
            "l1",
            "l2",
            "l3",
        }


async def test_a_second_home_grants_nothing_exclusive_until_the_first_has_confirmed_it(
    rough: PostgresServer, proxy: TcpProxy, home: Path
) -> None:
    """The first is cut off, and may be granting alone; the second hears whom it waits for."""
    async with running(rough.url_of("quaymaster", port=proxy.port), home) as first:
        await furnish(first)
        await alone(first)
        name = (await first._mirror.refresh()).home
        proxy.refuse()
        await in_mode(first, "degraded")
        async with running(rough.url, home.with_name("second")) as second:
            with pytest.raises(Unavailable, match=name) as refused:
                await grant(second, "early")
            assert "claim --force" in refused.value.next
            await write(second, "not exclusive")
            await grant(first, "by-the-first")
            proxy.forward()
            await whole(first)
            await alone(first, False)
            await grant(second, "late")
            held = await second.read(lambda tx: tx.locks.of_project("app"))
            assert {lock.id for lock in held} == {"by-the-first", "late"}


async def test_a_person_can_decide_that_the_first_home_is_gone(rough: PostgresServer, home: Path) -> None:
    async with running(rough.url, home) as first:
        await furnish(first)
        await alone(first)
    async with running(rough.url, home.with_name("second")) as second:
        with pytest.raises(Unavailable, match="confirm"):
            await grant(second, "early")
        await second._members.force()
        await grant(second, "late")
        await alone(second)


async def test_a_home_that_was_struck_off_asks_again_when_it_comes_back(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home) as first:
        await furnish(first)
        await alone(first)
    async with running(rough.url, home.with_name("second")) as second:
        await second._members.force()
        await alone(second)
        async with running(rough.url, home) as first:
            await alone(first, False)
            await alone(second, False)
            await grant(first, "l1")
            rough.kill()
            with pytest.raises(Degraded):
                await grant(first, "l2")


async def test_a_process_that_does_not_lead_never_marks_the_home(rough: PostgresServer, home: Path) -> None:
    async with running(rough.url, home, beside=False) as store:
        await furnish(store)
        await grant(store, "l1")
        assert not (await store.status()).alone


async def test_an_admission_is_asked_for_again_after_a_while(
    rough: PostgresServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of a struck-off home that does not lead must hear of it, too."""
    monkeypatch.setattr("mcp_server.adapters.failover.membership.ADMITTED_SECONDS", 0.0)
    async with running(rough.url, home, beside=False) as first:
        await furnish(first)
        await grant(first, "l1")
        async with running(rough.url, home.with_name("second"), beside=False) as second:
            await second._members.force()
            with pytest.raises(Unavailable, match="may still grant alone"):
                await grant(first, "l2")


async def test_housekeeping_is_done_by_a_home_that_may_grant_nothing(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home) as first, running(rough.url, home.with_name("second")) as second:
        await furnish(first)
        await first.run(lambda tx: tx.plans.add(samples.plan()), Intent("update_project", "t"))
        await alone(first, False)
        await second._follower.catch_up()
        rough.kill()

        async def sweep(tx: Transaction) -> None:
            for plan in await tx.plans.expired(samples.at(10_000), limit=10):
                await tx.plans.remove(plan)

        await second.run(sweep, Intent("sweep", "quaymaster"))
        rough.start()
        await whole(second)
        await whole(first)
        assert await first.read(lambda tx: tx.plans.get("p1")) is None
