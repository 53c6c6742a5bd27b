"""Two homes on one PostgreSQL, one of them cut off: every row of the conflict table, and both versions found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_server.adapters.failover.replay import conflict_id, replay
from mcp_server.adapters.failover.store import FailoverStore
from mcp_server.domain.changes import Change, Line
from mcp_server.domain.conflicts import KeptConflict
from mcp_server.domain.records import Record
from mcp_server.ports.store import Intent, Transaction
from tests.failover.homes import furnish, in_mode, running, sides, until, whole
from tests.services.postgres import PostgresServer
from tests.services.proxy import TcpProxy
from tests.store import samples
from tests.store.samples import SAMPLES, at
from tests.store.test_contract import repository

JOURNALED = Intent("update_task", "test")
Do = Callable[[Transaction], Awaitable[Any]]


class Pair:
    """`here` is cut off by `apart`; `there` always reaches PostgreSQL."""

    def __init__(
        self, here: FailoverStore, there: FailoverStore, proxy: TcpProxy, url: str, home: Path
    ) -> None:
        self.here, self.there = here, there
        self._proxy, self._url, self._home = proxy, url, home

    async def both_see(self, *records: Record) -> None:
        """Add these before the homes are parted."""

        async def fn(tx: Transaction) -> None:
            for record in records:
                await repository(tx, record.noun).add(record)

        await self.there.run(fn, JOURNALED)
        await self.here._follower.catch_up()

    async def apart(self, here: Do, there: Do) -> None:
        """Both do theirs without the other; `there` first by the clock of PostgreSQL, `here` replays afterwards."""
        self._proxy.refuse()
        await in_mode(self.here, "degraded")
        await self.here.run(here, JOURNALED)
        await self.there.run(there, JOURNALED)
        await self.together()

    async def together(self) -> None:
        self._proxy.forward()
        await whole(self.here)
        await self.here._follower.catch_up()
        both = await sides(self._url, self._home)
        assert both.registry == both.primary

    async def found(self, noun: str, key: str) -> Any:
        return await self.here.read(lambda tx: repository(tx, noun).get(key))

    async def kept(self) -> list[KeptConflict]:
        return list((await self.here.read(lambda tx: tx.conflicts.open())).items)


@asynccontextmanager
async def parted(rough: PostgresServer, proxy: TcpProxy, home: Path) -> AsyncIterator[Pair]:
    async with running(rough.url, home.with_name("there")) as there:
        await furnish(there)
        async with running(rough.url_of("quaymaster", port=proxy.port), home) as here:
            yield Pair(here, there, proxy, rough.url, home)


@pytest.fixture
async def pair(rough: PostgresServer, proxy: TcpProxy, home: Path) -> AsyncIterator[Pair]:
    async with parted(rough, proxy, home) as pair:
        yield pair


def saving(record: Record, **fields: Any) -> Do:
    async def fn(tx: Transaction) -> None:
        held = await repository(tx, record.noun).hold(record.key)
        assert held is not None
        await repository(tx, record.noun).save(held.change(**fields))

    return fn


def adding(*records: Record) -> Do:
    async def fn(tx: Transaction) -> None:
        for record in records:
            await repository(tx, record.noun).add(record)

    return fn


def removing(*names: Record) -> Do:
    async def fn(tx: Transaction) -> None:
        for name in names:
            held = await repository(tx, name.noun).hold(name.key)
            assert held is not None
            await repository(tx, name.noun).remove(held)

    return fn


async def test_what_postgresql_deleted_stays_deleted_though_its_creation_is_read_once_more(
    pair: Pair,
) -> None:
    made = samples.task("t1")
    await pair.both_see(made)
    await pair.apart(saving(made, title="edited"), removing(made))
    standing = await pair.here._primary.standing([("tasks", "t1"), ("tasks", "never")])
    assert list(standing) == [("tasks", "t1", None, 2), ("tasks", "never", None, 0)]
    creation = Change("tasks", "t1", 0, 1, made.change(rev=1))
    await pair.here._mirror.mirror([Line("again", at(0), "k", "create_task", (creation,))], None)
    assert await pair.found("tasks", "t1") is None

    async def again(tx: Transaction) -> Any:
        return await tx.tasks.add(made)

    assert (await pair.here.run(again, JOURNALED)).value.rev == 3


# -- what merges


async def test_a_task_changed_on_both_sides_has_both_changes_and_the_clash_as_a_note(pair: Pair) -> None:
    task = samples.task()
    await pair.both_see(task)
    await pair.apart(
        saving(task, title="ours", priority="high", updated_at=at(5)),
        saving(task, title="theirs", status="in-progress", updated_at=at(9)),
    )
    merged = await pair.found("tasks", "t1")
    assert (merged.title, merged.priority, merged.status) == ("theirs", "high", "in-progress")
    assert "'ours'" in merged.progress_notes[0].note
    assert await pair.kept() == []


async def test_of_two_overlapping_locks_the_lower_fence_stays_and_the_loser_is_told(pair: Pair) -> None:
    await pair.apart(
        adding(lease("a", "src/", "ann", fence=5_000_009), lease("b", "docs/x.md", "ann", fence=5_000_001)),
        adding(lease("c", "src/app.py", "bo", fence=5_000_002), lease("d", "docs/*", "bo", fence=5_000_003)),
    )
    held = await pair.here.read(lambda tx: tx.locks.of_project("app"))
    assert sorted((lock.id, lock.holder) for lock in held) == [("b", "ann"), ("c", "bo")]
    scope = await pair.found("lock_scopes", "app")
    assert sorted((one.holder, one.path) for one in scope.lost) == [("ann", "src/"), ("bo", "docs/*")]
    assert await pair.kept() == []


async def test_a_lock_that_ended_here_and_was_renewed_there_goes_on(pair: Pair) -> None:
    lock = lease("a", "src/", "ann", fence=7, expires_at=at(1))
    await pair.both_see(lock)
    await pair.apart(removing(lock), saving(lock, expires_at=at(10**9)))
    assert (await pair.found("locks", "a")).expires_at == at(10**9)


async def test_a_lock_released_here_is_gone_though_it_was_renewed_there(pair: Pair) -> None:
    lock = lease("a", "src/", "ann", fence=7)
    await pair.both_see(lock)
    await pair.apart(removing(lock), saving(lock, expires_at=at(2 * 10**9)))
    assert await pair.found("locks", "a") is None


async def test_a_lock_renewed_here_and_gone_there_is_lost_and_its_holder_is_told(pair: Pair) -> None:
    lock = lease("a", "src/", "ann", fence=7)
    await pair.both_see(lock)
    await pair.apart(saving(lock, expires_at=at(2 * 10**9)), removing(lock))
    assert await pair.found("locks", "a") is None
    assert [one.lock_id for one in (await pair.found("lock_scopes", "app")).lost] == ["a"]


async def test_a_lock_granted_anew_here_gives_way_to_one_that_was_granted_there(pair: Pair) -> None:
    """The same holder's ended lock is still there, so that nothing of it seems to have changed."""
    old = lease("a", "src/", "ann", fence=7, expires_at=at(1))
    await pair.both_see(old)
    await pair.apart(
        saving(old, fence=9_000_002, expires_at=at(10**9)),
        adding(lease("b", "src/x", "bo", fence=9_000_001)),
    )
    live = [
        lock for lock in await pair.here.read(lambda tx: tx.locks.of_project("app")) if lock.live_at(at(10))
    ]
    assert [lock.id for lock in live] == ["b"]


def lease(id: str, path: str, holder: str, **fields: Any) -> Any:
    return samples.lock(id, path=path, holder=holder, **{"expires_at": at(10**9), **fields})


async def test_both_environments_are_kept_as_versions(pair: Pair) -> None:
    environment = samples.environment()
    await pair.both_see(environment)

    def version(number: int, value: str) -> Do:
        async def fn(tx: Transaction) -> None:
            await saving(environment, version=number, env_data={"A": value})(tx)
            await tx.environment_versions.add(samples.environment_version(number, env_data={"A": value}))

        return fn

    await pair.apart(version(2, "ours"), version(2, "theirs"))
    present = await pair.found("environments", environment.key)
    assert (present.version, present.env_data) == (3, {"A": "ours"})
    assert (await pair.found("environment_versions", "app/staging/2")).env_data == {"A": "theirs"}
    assert (await pair.found("environment_versions", "app/staging/3")).env_data == {"A": "ours"}


@pytest.mark.parametrize("noun", ["slots", "deployments"])
async def test_what_this_host_observed_wins(pair: Pair, noun: str) -> None:
    record = SAMPLES[noun].make()
    await pair.both_see(record)
    ours = SAMPLES[noun].other(record)
    their_field = {"grace_expires_at": at(99)} if noun == "slots" else {"duration": 99}
    await pair.apart(saving(record, **_differences(record, ours)), saving(record, **their_field))
    found = await pair.found(noun, record.key)
    assert found == ours.change(rev=found.rev)


def _differences(record: Record, other: Record) -> dict[str, Any]:
    return {name: value for name, value in other if getattr(record, name) != value}


@pytest.mark.parametrize("revoked_here", [True, False])
async def test_a_revocation_wins(pair: Pair, revoked_here: bool) -> None:
    key = samples.key()
    await pair.both_see(key)
    revoke, rename = saving(key, revoked_at=at(5)), saving(key, name="renamed")
    await (pair.apart(revoke, rename) if revoked_here else pair.apart(rename, revoke))
    found = await pair.found("keys", key.key)
    assert (found.revoked_at, found.name) == (at(5), "renamed")


async def test_a_used_plan_stays_used_and_the_first_remembered_result_stays(pair: Pair) -> None:
    plan = samples.plan()
    await pair.both_see(plan)

    async def ours(tx: Transaction) -> None:
        await saving(plan, used_at=at(8))(tx)
        await tx.idempotency.add(samples.remembered(result={"id": "ours"}))

    async def theirs(tx: Transaction) -> None:
        await saving(plan, effects=("two",))(tx)
        await tx.idempotency.add(samples.remembered(result={"id": "theirs"}))

    await pair.apart(ours, theirs)
    assert (await pair.found("plans", plan.key)).used_at == at(8)
    assert (await pair.found("idempotency", "r1")).result == {"id": "theirs"}
    assert await pair.kept() == []


async def test_the_rest_is_merged_by_field(pair: Pair) -> None:
    await pair.apart(saving(samples.project(), description="ours"), saving(samples.project(), path="/theirs"))
    project = await pair.found("projects", "app")
    assert (project.description, project.path) == ("ours", "/theirs")


async def test_a_line_that_was_replayed_and_not_settled_is_not_merged_again(pair: Pair) -> None:
    """The server died between the two: what the others changed since does not give way to the line a second time."""
    environment = samples.environment()
    await pair.both_see(environment)
    pair._proxy.refuse()
    await in_mode(pair.here, "degraded")
    await pair.here.run(saving(environment, version=2, env_data={"A": "ours"}), JOURNALED)
    await pair.there.run(saving(environment, version=2, env_data={"A": "theirs"}), JOURNALED)
    (line,) = await pair.here._mirror.pending(10)
    await replay(pair.there._primary, line, epoch=9)
    assert (await pair.there.read(lambda tx: tx.environments.get(environment.key))).env_data == {"A": "ours"}  # type: ignore[union-attr]
    await pair.there.run(saving(environment, version=4, env_data={"A": "theirs again"}), JOURNALED)
    await pair.together()
    present = await pair.found("environments", environment.key)
    assert (present.version, present.env_data) == (4, {"A": "theirs again"})


# -- what is kept for a person


async def test_one_field_changed_twice_is_kept_with_both_versions_and_later_changes_wait_behind_it(
    pair: Pair,
) -> None:
    async def ours(tx: Transaction) -> None:
        await saving(samples.project(), description="ours")(tx)

    pair._proxy.refuse()
    await in_mode(pair.here, "degraded")
    await pair.here.run(ours, JOURNALED)
    await pair.here.run(saving(samples.project(), path="/later"), JOURNALED)
    await pair.here.run(adding(samples.task("goes-on")), JOURNALED)
    await pair.there.run(saving(samples.project(), description="theirs"), JOURNALED)
    await pair.together()
    (kept,) = await pair.kept()
    assert (kept.target_noun, kept.target_key, kept.team_id) == ("projects", "app", "acme")
    assert kept.base is not None
    assert kept.ours is not None
    assert kept.theirs is not None
    assert kept.base["description"] == ""
    assert (kept.ours["description"], kept.ours["path"]) == ("ours", "/later")
    assert kept.theirs["description"] == "theirs"
    assert len(kept.waiting) == 1
    assert (await pair.found("projects", "app")).description == "theirs"
    assert await pair.found("tasks", "goes-on") is not None
    assert (await pair.here.status()).conflicts == 1
    assert (await pair.here._mirror.refresh()).conflicts == 1


async def test_a_deleted_parent_keeps_what_was_made_under_it(pair: Pair) -> None:
    task = samples.task("old")
    await pair.both_see(task)

    async def ours(tx: Transaction) -> None:
        await saving(task, title="ours")(tx)
        await tx.tasks.add(samples.task("new"))

    await pair.apart(ours, removing(samples.project()))
    kept = {each.target_key: each for each in await pair.kept()}
    assert set(kept) == {"old", "new"}
    assert all("parent was deleted" in each.reason and each.theirs is None for each in kept.values())
    assert kept["old"].ours is not None
    assert kept["old"].ours["title"] == "ours"
    assert await pair.found("projects", "app") is None
    assert await pair.found("tasks", "new") is None


async def test_a_deletion_against_a_change_is_kept(pair: Pair) -> None:
    task = samples.task()
    await pair.both_see(task)
    await pair.apart(removing(task), saving(task, title="theirs"))
    (kept,) = await pair.kept()
    assert kept.ours is None
    assert kept.theirs is not None
    assert (await pair.found("tasks", "t1")).title == "theirs"


async def test_a_name_taken_on_both_sides_is_kept_with_all_that_was_made_under_it(pair: Pair) -> None:
    """The other project may belong to another team: nothing of ours may appear in it."""
    await pair.both_see(samples.team("other"))

    async def ours(tx: Transaction) -> None:
        await tx.projects.add(samples.project("web", uid="ours"))
        await tx.lock_scopes.add(samples.scope("web"))

    pair._proxy.refuse()
    await in_mode(pair.here, "degraded")
    await pair.here.run(ours, JOURNALED)
    await pair.here.run(adding(samples.task("ours-task", project="web")), JOURNALED)
    await pair.there.run(adding(samples.project("web", uid="theirs", team_id="other")), JOURNALED)
    await pair.together()
    assert (await pair.found("projects", "web")).uid == "theirs"
    kept = {(each.target_noun, each.target_key): each for each in await pair.kept()}
    assert ("projects", "web") in kept
    assert ("tasks", "ours-task") in kept
    assert "both" in kept["projects", "web"].reason
    assert await pair.found("tasks", "ours-task") is None


async def test_what_must_be_unique_and_was_taken_there_is_kept_and_the_rest_of_its_line_goes_on(
    pair: Pair,
) -> None:
    async def ours(tx: Transaction) -> None:
        await tx.members.add(samples.member("m-ours", email="x@acme.example"))
        await tx.idempotency.add(samples.remembered())

    await pair.apart(ours, adding(samples.member("m-theirs", email="x@acme.example")))
    (kept,) = await pair.kept()
    assert (kept.target_noun, kept.target_key) == ("members", "m-ours")
    assert await pair.found("members", "m-theirs") is not None
    assert await pair.found("idempotency", "r1") is not None


async def test_a_decided_conflict_lets_the_next_one_have_its_place(pair: Pair) -> None:
    for turn in range(2):
        await pair.apart(
            saving(samples.project(), description=f"ours {turn}"),
            saving(samples.project(), description=f"theirs {turn}"),
        )
        (kept,) = await pair.kept()
        assert kept.id == conflict_id("projects", "app")
        assert kept.ours is not None
        assert kept.ours["description"] == f"ours {turn}"
        await pair.here.run(saving(kept, decided="theirs", decided_by="ann"), JOURNALED)
        await until(lambda: _none_kept(pair), what="the decision to be seen")


async def _none_kept(pair: Pair) -> bool:
    return not await pair.kept()


# -- writes of other servers in between


async def test_what_others_wrote_meanwhile_is_in_the_registry_afterwards(pair: Pair) -> None:
    await pair.apart(
        adding(*(samples.task(f"here-{n}") for n in range(5))),
        adding(*(samples.task(f"there-{n}") for n in range(5))),
    )
    page = await pair.here.read(lambda tx: tx.tasks.of_project("app", limit=100))
    assert {task.id for task in page.items} == {
        "counter",
        *(f"here-{n}" for n in range(5)),
        *(f"there-{n}" for n in range(5)),
    }
