"""What `ports.repositories` and `ports.store` promise, on every back end."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import timedelta
from typing import Any, cast

import pytest

from mcp_server.domain.audit import AuditFilter
from mcp_server.domain.errors import Conflict, Invalid
from mcp_server.domain.nouns import BY_NOUN
from mcp_server.domain.pages import encode_cursor
from mcp_server.domain.records import Record
from mcp_server.domain.tasks import TRANSITIONS
from mcp_server.ports.repositories import Repository
from mcp_server.ports.store import Reading, Store, Transaction
from tests.store import samples
from tests.store.samples import SAMPLES, SETUP, at


def repository(tx: object, noun: str) -> Repository[Record]:
    return cast("Repository[Record]", getattr(tx, noun))


async def stored(store: Store, noun: str, key: str) -> Record | None:
    return await store.read(lambda tx: repository(tx, noun).get(key))


@pytest.fixture(params=sorted(SAMPLES))
def noun(request: pytest.FixtureRequest) -> str:
    return cast(str, request.param)


@pytest.fixture
async def ready(store: Store) -> Store:
    await store.run(samples.parents, SETUP)
    return store


def test_every_noun_has_a_sample() -> None:
    assert set(SAMPLES) == set(BY_NOUN)


async def test_a_record_comes_back_as_it_was_added(ready: Store, noun: str) -> None:
    record = SAMPLES[noun].make()
    added = (await ready.run(lambda tx: repository(tx, noun).add(record), SETUP)).value
    assert added == record.change(rev=1)
    assert await stored(ready, noun, record.key) == added


async def test_a_saved_record_has_the_next_revision_and_every_field(ready: Store, noun: str) -> None:
    sample = SAMPLES[noun]
    added = (await ready.run(lambda tx: repository(tx, noun).add(sample.make()), SETUP)).value

    async def change(tx: Transaction) -> Record:
        held = await repository(tx, noun).hold(added.key)
        assert held == added
        return await repository(tx, noun).save(sample.other(held))

    saved = (await ready.run(change, SETUP)).value
    assert saved == sample.other(added).change(rev=2)
    assert await stored(ready, noun, added.key) == saved


async def test_saving_an_old_revision_is_a_conflict_and_changes_nothing(ready: Store, noun: str) -> None:
    sample = SAMPLES[noun]
    added = (await ready.run(lambda tx: repository(tx, noun).add(sample.make()), SETUP)).value
    await ready.run(lambda tx: repository(tx, noun).save(sample.other(added)), SETUP)
    with pytest.raises(Conflict):
        await ready.run(lambda tx: repository(tx, noun).save(added), SETUP)
    assert await stored(ready, noun, added.key) == sample.other(added).change(rev=2)


async def test_saving_a_removed_record_is_a_conflict(ready: Store, noun: str) -> None:
    added = (await ready.run(lambda tx: repository(tx, noun).add(SAMPLES[noun].make()), SETUP)).value
    await ready.run(lambda tx: repository(tx, noun).remove(added), SETUP)
    assert await stored(ready, noun, added.key) is None
    with pytest.raises(Conflict):
        await ready.run(lambda tx: repository(tx, noun).save(added), SETUP)


async def test_removing_at_an_old_revision_is_a_conflict(ready: Store, noun: str) -> None:
    sample = SAMPLES[noun]
    added = (await ready.run(lambda tx: repository(tx, noun).add(sample.make()), SETUP)).value
    await ready.run(lambda tx: repository(tx, noun).save(sample.other(added)), SETUP)
    with pytest.raises(Conflict):
        await ready.run(lambda tx: repository(tx, noun).remove(added), SETUP)
    assert await stored(ready, noun, added.key) is not None


async def test_a_key_that_is_taken_is_a_conflict(ready: Store, noun: str) -> None:
    record = SAMPLES[noun].make()
    await ready.run(lambda tx: repository(tx, noun).add(record), SETUP)
    with pytest.raises(Conflict):
        await ready.run(lambda tx: repository(tx, noun).add(record), SETUP)


NAMED_AGAIN = ["projects", "slots", "domains", "environments", "lock_scopes", "tasks", "idempotency"]


@pytest.mark.parametrize("name", NAMED_AGAIN)
async def test_a_name_that_comes_again_goes_on_above_the_deleted_revision(ready: Store, name: str) -> None:
    record = SAMPLES[name].make()
    added = (await ready.run(lambda tx: repository(tx, name).add(record), SETUP)).value
    await ready.run(lambda tx: repository(tx, name).remove(added), SETUP)
    again = (await ready.run(lambda tx: repository(tx, name).add(record), SETUP)).value
    assert again.rev > added.rev + 1 or again.rev == added.rev + 2


async def test_a_transaction_sees_its_own_changes_and_takes_them_back_when_it_fails(
    ready: Store, noun: str
) -> None:
    record = SAMPLES[noun].make()

    async def fail(tx: Transaction) -> None:
        added = await repository(tx, noun).add(record)
        assert await repository(tx, noun).get(record.key) == added
        changed = await repository(tx, noun).save(SAMPLES[noun].other(added))
        assert await repository(tx, noun).hold(record.key) == changed
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ready.run(fail, SETUP)
    assert await stored(ready, noun, record.key) is None


ORPHANS: dict[str, Record] = {
    "projects": samples.project("x", team_id="nobody"),
    "members": samples.member(team_id="nobody"),
    "keys": samples.key(team_id="nobody"),
    "tasks": samples.task(project="nothing"),
    "slots": samples.slots(project="nothing"),
    "deployments": samples.deployment(project="nothing"),
    "domains": samples.domain(project="nothing"),
    "environments": samples.environment(project="nothing"),
    "lock_scopes": samples.scope("nothing"),
    "locks": samples.lock(project="nothing"),
}


@pytest.mark.parametrize("name", sorted(ORPHANS))
async def test_a_child_without_its_parent_is_a_conflict(ready: Store, name: str) -> None:
    with pytest.raises(Conflict):
        await ready.run(lambda tx: repository(tx, name).add(ORPHANS[name]), SETUP)


TAKEN: list[tuple[str, Record, Record]] = [
    ("teams", samples.team("one", slug="same"), samples.team("two", slug="same")),
    ("members", samples.member("m1", email="a@b.example"), samples.member("m2", email="a@b.example")),
    ("keys", samples.key("k1", key_hash="a" * 64), samples.key("k2", key_hash="a" * 64)),
    ("locks", samples.lock("l1", path="a"), samples.lock("l2", path="a", holder="k2")),
    ("locks", samples.lock("l1", path="a", mode="reviewing"), samples.lock("l2", path="a", mode="reviewing")),
]


@pytest.mark.parametrize(("name", "first", "second"), TAKEN)
async def test_what_must_be_unique_is_a_conflict(
    ready: Store, name: str, first: Record, second: Record
) -> None:
    await ready.run(lambda tx: repository(tx, name).add(first), SETUP)
    with pytest.raises(Conflict):
        await ready.run(lambda tx: repository(tx, name).add(second), SETUP)


async def test_two_holders_may_review_one_path(ready: Store) -> None:
    async def both(tx: Transaction) -> None:
        await tx.locks.add(samples.lock("l1", path="a", mode="reviewing"))
        await tx.locks.add(samples.lock("l2", path="a", mode="reviewing", holder="k2"))

    await ready.run(both, SETUP)
    assert len(await ready.read(lambda tx: tx.locks.of_project("app"))) == 2


async def test_a_released_path_can_be_locked_again(ready: Store) -> None:
    first = (await ready.run(lambda tx: tx.locks.add(samples.lock("l1", path="a")), SETUP)).value

    async def swap(tx: Transaction) -> None:
        await tx.locks.remove(first)
        await tx.locks.add(samples.lock("l2", path="a", holder="k2"))

    await ready.run(swap, SETUP)
    assert [lock.id for lock in await ready.read(lambda tx: tx.locks.of_project("app"))] == ["l2"]


async def pages(fetch: Any) -> list[list[Any]]:
    found, cursor = [], None
    while True:
        page = await fetch(cursor)
        found.append(list(page.items))
        if page.cursor is None:
            return found
        cursor = page.cursor
        assert len(found) < 20


async def test_projects_are_paged_by_name_within_their_team(ready: Store) -> None:
    async def fill(tx: Transaction) -> None:
        await tx.teams.add(samples.team("other"))
        for name in ("zeta", "beta", "alpha-2", "alpha"):
            await tx.projects.add(samples.project(name))
        await tx.projects.add(samples.project("foreign", team_id="other"))

    await ready.run(fill, SETUP)
    found = await pages(
        lambda after: ready.read(lambda tx: tx.projects.of_team("acme", limit=2, after=after))
    )
    assert [[p.name for p in page] for page in found] == [["alpha", "alpha-2"], ["app", "beta"], ["zeta"]]
    assert await ready.read(lambda tx: tx.projects.count_of_team("acme")) == 5


async def test_domains_are_counted_over_all_projects_of_their_team_alone(ready: Store) -> None:
    async def fill(tx: Transaction) -> None:
        await tx.teams.add(samples.team("other"))
        await tx.projects.add(samples.project("second"))
        await tx.projects.add(samples.project("foreign", team_id="other"))
        for number, project in enumerate(("app", "app", "second", "foreign")):
            await tx.domains.add(samples.domain(f"d{number}.example.test", project=project))

    await ready.run(fill, SETUP)
    assert await ready.read(lambda tx: tx.domains.count_of_team("acme")) == 3
    assert await ready.read(lambda tx: tx.domains.count_of_team("none")) == 0


async def test_tasks_are_paged_newest_first_and_filtered(ready: Store) -> None:
    async def fill(tx: Transaction) -> None:
        for number in range(5):
            status = "review" if number % 2 else "draft"
            await tx.tasks.add(samples.task(f"t{number}", created_at=at(number // 2), status=status))

    await ready.run(fill, SETUP)
    found = await pages(lambda after: ready.read(lambda tx: tx.tasks.of_project("app", limit=2, after=after)))
    everything = [t.id for page in found for t in page]
    assert sorted(everything) == [f"t{n}" for n in range(5)]
    assert everything[0] == "t4"
    assert set(everything[1:3]) == {"t2", "t3"}
    page = await ready.read(lambda tx: tx.tasks.of_project("app", statuses=["review"]))
    assert {t.id for t in page.items} == {"t1", "t3"}
    assert (await ready.read(lambda tx: tx.tasks.of_project("app", author="nobody"))).items == []


async def test_the_open_tasks_of_a_team_are_counted_and_the_ended_ones_are_not(ready: Store) -> None:
    async def fill(tx: Transaction) -> None:
        await tx.teams.add(samples.team("other"))
        await tx.projects.add(samples.project("foreign", team_id="other"))
        await tx.tasks.add(samples.task("theirs", team_id="other", project="foreign"))
        for status in TRANSITIONS:
            await tx.tasks.add(samples.task(status, status=status))

    async def end(tx: Transaction) -> None:
        task = await tx.tasks.hold("review")
        assert task is not None
        await tx.tasks.save(task.change(status="done"))

    await ready.run(fill, SETUP)
    assert await ready.read(lambda tx: tx.tasks.count_open("acme")) == 3
    await ready.run(end, SETUP)
    assert await ready.read(lambda tx: tx.tasks.count_open("acme")) == 2
    assert await ready.read(lambda tx: tx.tasks.count_open("nobody")) == 0


async def test_a_cursor_that_was_not_given_is_invalid(ready: Store) -> None:
    deep = urlsafe_b64encode(b"[" * 5000).decode()
    for cursor in ("x", "!!!", "WzFd", "eyJhIjoxfQ", deep, encode_cursor("\x00"), "WyJcdWQ4MDAiXQ"):
        with pytest.raises(Invalid):
            await ready.read(lambda tx, c=cursor: tx.projects.of_team("acme", after=c))  # type: ignore[misc]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
async def test_a_cursor_with_a_time_that_utc_does_not_know_is_invalid(ready: Store, moment: str) -> None:
    await ready.record([samples.audit("a1")], {})
    with pytest.raises(Invalid):
        await ready.read(
            lambda tx: tx.audit.find(AuditFilter(team_id="acme"), after=encode_cursor(moment, "x"))
        )


async def test_the_first_claim_wins_and_the_next_sees_it(ready: Store) -> None:
    record = samples.remembered()
    assert (await ready.run(lambda tx: tx.idempotency.claim(record), SETUP)).value is None
    assert (await ready.run(lambda tx: tx.idempotency.claim(record), SETUP)).value == record.change(rev=1)


async def test_expired_plans_and_remembered_results_are_found_oldest_first(ready: Store) -> None:
    async def fill(tx: Transaction) -> None:
        for number in (3, 1, 2, 9):
            await tx.plans.add(samples.plan(f"p{number}", expires_at=at(number)))
            await tx.idempotency.add(samples.remembered(f"r{number}", expires_at=at(number)))

    await ready.run(fill, SETUP)
    assert [p.id for p in await ready.read(lambda tx: tx.plans.expired(at(5), limit=2))] == ["p1", "p2"]
    assert [r.id for r in await ready.read(lambda tx: tx.idempotency.expired(at(5), limit=9))] == [
        "r1",
        "r2",
        "r3",
    ]


async def test_open_conflicts_are_listed_until_they_are_decided(ready: Store) -> None:
    added = (await ready.run(lambda tx: tx.conflicts.add(samples.conflict()), SETUP)).value
    assert list((await ready.read(lambda tx: tx.conflicts.open())).items) == [added]
    await ready.run(lambda tx: tx.conflicts.save(added.change(decided="theirs")), SETUP)
    assert list((await ready.read(lambda tx: tx.conflicts.open())).items) == []


async def test_audit_rows_of_a_transaction_are_found_and_those_of_a_failed_one_are_not(ready: Store) -> None:
    async def fill(tx: Transaction) -> None:
        for number in range(5):
            await tx.audit.add(samples.audit(f"a{number}", timestamp=at(number), success=number != 3))

    async def fail(tx: Transaction) -> None:
        await tx.audit.add(samples.audit("gone"))
        raise ZeroDivisionError

    await ready.run(fill, SETUP)
    with pytest.raises(ZeroDivisionError):
        await ready.run(fail, SETUP)
    mine = AuditFilter(team_id="acme")
    found = await pages(lambda after: ready.read(lambda tx: tx.audit.find(mine, limit=2, after=after)))
    assert [[row.id for row in page] for page in found] == [["a4", "a3"], ["a2", "a1"], ["a0"]]
    failed = await ready.read(lambda tx: tx.audit.find(AuditFilter(team_id="acme", success=False)))
    assert [row.id for row in failed.items] == ["a3"]
    assert list((await ready.read(lambda tx: tx.audit.find(AuditFilter(team_id="other")))).items) == []
    window = AuditFilter(team_id="acme", since=at(1), until=at(3))
    assert [row.id for row in (await ready.read(lambda tx: tx.audit.find(window))).items] == ["a2", "a1"]


async def test_audit_rows_beside_transactions_are_kept_once_by_id(ready: Store) -> None:
    rows = [samples.audit("b1"), samples.audit("b2", timestamp=at(1))]
    await ready.record(rows, {})
    await ready.record(rows, {})
    found = await ready.read(lambda tx: tx.audit.find(AuditFilter(team_id="acme")))
    assert [row.id for row in found.items] == ["b2", "b1"]
    assert found.items[0] == rows[1]


async def test_a_key_s_last_use_is_noted_without_a_new_revision(ready: Store) -> None:
    added = (await ready.run(lambda tx: tx.keys.add(samples.key()), SETUP)).value
    await ready.record([], {"k1": at(100)})
    found = await ready.read(lambda tx: tx.keys.get("k1"))
    assert found is not None
    assert (found.rev, found.last_used_at) == (added.rev, at(100))


async def test_the_store_s_clock_does_not_run_backwards(ready: Store) -> None:
    async def twice(tx: Transaction) -> bool:
        before = await tx.now()
        return await tx.now() >= before

    assert (await ready.run(twice, SETUP)).value
    early = (await ready.run(lambda tx: tx.now(), SETUP)).value
    await ready.run(lambda tx: tx.teams.add(samples.team("t2")), SETUP)
    assert (await ready.run(lambda tx: tx.now(), SETUP)).value >= early
    assert (await ready.run(lambda tx: tx.now(), SETUP)).value - early < timedelta(minutes=5)


async def test_the_store_says_that_it_is_well(ready: Store) -> None:
    status = await ready.status()
    assert status.healthy
    assert status.mode in ("embedded", "primary")
    assert status.pending == 0


HELD = {
    "whole": "**",
    "above": "src/",
    "star": "src/*.py",
    "there": "src/app",
    "below": "src/app/x.py",
    "next": "src/app.py",
    "aside": "docs/a",
    "\U0010ffff": "\U0010ffff/a",
}


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        ([], {}),
        (["src/app"], {"whole", "above", "star", "there", "below"}),
        (["src/app/"], {"whole", "above", "star", "there", "below"}),
        (["src/app/?.py"], {"whole", "above", "star", "there", "below"}),
        (["src/app.py", "docs/b"], {"whole", "above", "star", "next"}),
        (["**"], set(HELD)),
        (["*.py"], set(HELD)),
    ],
)
async def test_locks_near_paths_are_those_whose_root_lies_above_or_below(
    ready: Store, paths: list[str], found: set[str]
) -> None:
    async def keep(tx: Transaction) -> None:
        for name, path in HELD.items():
            await tx.locks.add(samples.lock(name, path=path, holder=f"h-{name}"))

    await ready.run(keep, SETUP)
    near = await ready.read(lambda tx: tx.locks.near("app", paths, "me", until=at(0), whole=True))
    assert {lock.id for lock in near.locks} == set(found)
    assert [lock.path for lock in near.locks] == sorted(lock.path for lock in near.locks)
    assert near.held == 0


async def test_locks_near_nothing_are_those_that_end_soon_and_the_holder_s_own(ready: Store) -> None:
    async def keep(tx: Transaction) -> None:
        await tx.locks.add(samples.lock("ends", holder="a", expires_at=at(60)))
        await tx.locks.add(samples.lock("later", holder="a", expires_at=at(61)))
        await tx.locks.add(samples.lock("mine", holder="me", expires_at=at(900)))

    async def near(tx: Reading, whole: bool) -> tuple[list[str], int]:
        found = await tx.locks.near("app", (), "me", until=at(60), whole=whole)
        return [lock.id for lock in found.locks], found.held

    await ready.run(keep, SETUP)

    async def hold_near(tx: Transaction, project: str) -> Any:
        return await tx.locks.hold_near(project, ["src/later.py"], "me", ahead=timedelta(), whole=True)

    assert (await ready.run(lambda tx: hold_near(tx, "nowhere"), SETUP)).value is None
    scope = (await ready.run(lambda tx: tx.lock_scopes.add(samples.scope()), SETUP)).value
    held, found = (await ready.run(lambda tx: hold_near(tx, "app"), SETUP)).value
    assert held == scope
    assert ({lock.id for lock in found.locks}, found.held) == ({"ends", "later", "mine"}, 1)
    assert await ready.read(lambda tx: near(tx, False)) == (["ends"], 1)
    assert await ready.read(lambda tx: near(tx, True)) == (["ends", "mine"], 1)


async def test_projects_with_an_ended_lease_are_found_without_a_look_at_every_project(ready: Store) -> None:
    async def keep(tx: Transaction) -> None:
        await tx.projects.add(samples.project("busy"))
        await tx.locks.add(samples.lock("at-the-moment", expires_at=at(60)))
        await tx.locks.add(samples.lock("again", expires_at=at(30)))
        await tx.locks.add(samples.lock("lives", project="busy", expires_at=at(61)))

    async def ended(second: int, limit: int = 9) -> list[str]:
        return list(await ready.read(lambda tx: tx.locks.ended_in(at(second), limit=limit)))

    await ready.run(keep, SETUP)
    assert await ended(29) == []
    assert await ended(60) == ["app"]
    assert (await ended(61), await ended(61, limit=1)) == (["app", "busy"], ["app"])
    await ready.run(lambda tx: _remove_locks(tx, "at-the-moment", "again"), SETUP)
    assert await ended(61) == ["busy"]


async def _remove_locks(tx: Transaction, *names: str) -> None:
    for name in names:
        held = await tx.locks.hold(name)
        assert held is not None
        await tx.locks.remove(held)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/srv/shop", True),
        ("/srv", True),
        ("/", True),
        ("/srv/shop/db", True),
        ("/srv/shop2", False),
        ("/srv/sho", False),
    ],
)
async def test_a_project_of_another_team_is_found_by_where_it_lies(
    ready: Store, path: str, found: bool
) -> None:
    async def keep(tx: Transaction) -> None:
        await tx.projects.add(samples.project("shop", path="/srv/shop"))
        await tx.projects.add(samples.project("nowhere"))

    await ready.run(keep, SETUP)
    there = await ready.read(lambda tx: tx.projects.foreign_at("others", path))
    assert (None if there is None else there.name) == ("shop" if found else None)
    assert await ready.read(lambda tx: tx.projects.foreign_at("acme", path)) is None


async def test_the_first_that_asks_leads_for_as_long_as_it_is_there(store: Store) -> None:
    assert await store.leads("sweep")
    assert await store.leads("sweep")
