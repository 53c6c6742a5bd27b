"""What PostgreSQL promises as the primary: transactions, the change log, who it is."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest

from mcp_server.adapters.postgres import changelog
from mcp_server.adapters.postgres.connections import ConnectionSettings
from mcp_server.adapters.postgres.primary import PostgresPrimary
from mcp_server.domain.audit import AuditFilter, AuditRow
from mcp_server.domain.errors import Conflict, Invalid
from mcp_server.domain.idempotency import Remembered
from mcp_server.domain.keys import ApiKey
from mcp_server.domain.locks import LockScope, next_fence
from mcp_server.domain.nouns import RECORDS, SHORT_LIVED
from mcp_server.domain.paths import root_of
from mcp_server.domain.tasks import Task
from mcp_server.ports.mirror import AlreadyApplied, Position
from tests.postgres.samples import INTENT, NOW, add, begin_with_project, lock, project, team
from tests.services.postgres import PostgresServer

# -- transactions --------------------------------------------------------------------------------------


async def test_a_line_has_every_change_once_with_its_first_base_and_last_revision(
    primary: PostgresPrimary,
) -> None:
    await begin_with_project(primary)

    async def fn(tx: Any) -> None:
        scope = await tx.lock_scopes.hold("app")
        scope = await tx.lock_scopes.save(scope.change(fence=7))
        await tx.lock_scopes.save(scope.change(fence=8))

    logged = await primary.run(fn, INTENT, line_id="L", epoch=1)
    line = logged.line
    assert [(change.noun, change.base, change.rev) for change in line.changes] == [("lock_scopes", 1, 3)]
    assert logged.seq > 0
    assert await primary.applied("L") == line


async def test_a_transaction_that_changes_nothing_writes_no_line_but_keeps_its_audit_rows(
    primary: PostgresPrimary,
) -> None:
    await begin_with_project(primary)
    row = AuditRow(id="a1", timestamp=NOW, team_id="local", action="x", params={"p": "nul \x00 here"})
    logged = await primary.run(lambda tx: tx.audit.add(row), INTENT, line_id="L", epoch=1)
    assert (logged.seq, logged.line.changes) == (0, ())
    assert await primary.applied("L") is None
    page = await primary.read(lambda tx: tx.audit.find(AuditFilter(team_id="local")))
    assert [found.id for found in page.items] == ["a1"]


async def test_a_failed_transaction_leaves_nothing(primary: PostgresPrimary) -> None:
    async def fn(tx: Any) -> None:
        await tx.teams.add(team())
        await tx.audit.add(AuditRow(id="a1", timestamp=NOW, team_id="local", action="x"))
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await primary.run(fn, INTENT, line_id="L", epoch=1)
    assert await primary.read(lambda tx: tx.teams.get("local")) is None
    assert await primary.applied("L") is None
    assert not (await primary.read(lambda tx: tx.audit.find(AuditFilter(team_id="local")))).items


async def test_a_line_is_applied_once_whether_the_records_or_the_log_notice(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)
    with pytest.raises(AlreadyApplied):
        await begin_with_project(primary)  # the records are there
    with pytest.raises(AlreadyApplied):
        await add(primary, project("other"), line_id="begin")  # only the line is
    assert await primary.read(lambda tx: tx.projects.get("other")) is None


async def test_two_attempts_at_one_line_at_once_apply_it_once(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)

    async def fn(tx: Any) -> None:
        scope = await tx.lock_scopes.hold("app")
        await tx.lock_scopes.save(scope.change(fence=scope.fence + 1))

    tries = await asyncio.gather(
        *(primary.run(fn, INTENT, line_id="L", epoch=1) for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(outcome, AlreadyApplied) for outcome in tries) == 3
    scope = await primary.read(lambda tx: tx.lock_scopes.get("app"))
    assert scope is not None
    assert scope.fence == 1


async def test_what_is_committed_while_a_new_connection_is_asked_makes_it_no_older_postgresql(
    primary: PostgresPrimary, database_url: str
) -> None:
    class AskedSlowly:
        """A connection whose answer arrives after another one has committed."""

        def __init__(self, connection: Any) -> None:
            self.set_type_codec = connection.set_type_codec
            self._fetchrow = connection.fetchrow

        async def fetchrow(self, sql: str) -> Any:
            answer = await self._fetchrow(sql)
            await add(primary, project("meanwhile"), line_id="meanwhile")
            return answer

    await begin_with_project(primary)
    connection = await asyncpg.connect(database_url)
    try:
        await primary._connections._greet(AskedSlowly(connection))  # type: ignore[arg-type]
    finally:
        await connection.close()


async def test_a_reading_refuses_to_write(primary: PostgresPrimary) -> None:
    with pytest.raises(RuntimeError):
        await primary.read(lambda tx: tx.teams.add(team()))


async def test_a_conflict_that_is_caught_does_not_spoil_the_transaction(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)

    async def fn(tx: Any) -> None:
        for refused in (
            lambda: tx.teams.add(team()),
            lambda: tx.teams.add(team("other", slug="local")),
            lambda: tx.projects.add(project("x", team_id="nobody")),
            lambda: tx.locks.add(lock(project="nowhere")),
        ):
            with pytest.raises(Conflict):
                await refused()
        await tx.projects.add(project("second"))

    await primary.run(fn, INTENT, line_id="L", epoch=1)
    assert await primary.read(lambda tx: tx.projects.get("second")) is not None


async def test_a_removed_team_takes_everything_along_as_changes(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)
    await add(primary, lock(), line_id="lock")

    async def fn(tx: Any) -> None:
        await tx.teams.remove(await tx.teams.hold("local"))

    line = (await primary.run(fn, INTENT, line_id="L", epoch=1)).line
    assert {change.noun for change in line.changes} == {"locks", "lock_scopes", "projects", "teams"}
    assert all(change.record is None and change.rev == change.base + 1 for change in line.changes)
    records = (await primary.everything()).records
    assert records == []


async def test_a_key_that_comes_again_counts_on_from_its_tombstone(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)

    async def again(tx: Any) -> Any:
        await tx.projects.remove(await tx.projects.hold("app"))
        return await tx.projects.add(project())

    logged = await primary.run(again, INTENT, line_id="L", epoch=1)
    assert logged.value.rev == 3
    assert [(c.base, c.rev) for c in logged.line.changes if c.noun == "projects"] == [(1, 3)]


async def test_a_tombstone_is_as_old_as_the_last_deletion_of_its_key(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)

    async def remove(tx: Any) -> None:
        await tx.projects.remove(await tx.projects.hold("app"))

    async def died() -> Any:
        [gone] = [gone for gone in (await primary.everything()).gone if gone.noun == "projects"]
        return gone.at

    await primary.run(remove, INTENT, line_id="1", epoch=1)
    first = await died()
    await add(primary, project(), line_id="2")
    await primary.run(remove, INTENT, line_id="3", epoch=1)
    assert await died() > first


async def test_what_stands_of_a_deleted_record_is_its_tombstone(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)
    await add(primary, lock(), line_id="lock")

    async def remove(tx: Any) -> None:
        await tx.locks.remove(await tx.locks.hold("lock-1"))
        await tx.projects.remove(await tx.projects.hold("app"))

    await primary.run(remove, INTENT, line_id="L", epoch=1)
    names = [("teams", "local"), ("projects", "app"), ("lock_scopes", "app"), ("locks", "lock-1")]
    standing = await primary.standing([*names, ("tasks", "never")])
    assert [(noun, rev, record is None) for noun, _, record, rev in standing] == [
        ("teams", 1, False),
        ("projects", 2, True),
        ("lock_scopes", 2, True),
        ("locks", 2, True),
        ("tasks", 0, True),
    ]


async def test_a_removed_lock_stays_in_the_table_as_released(
    primary: PostgresPrimary, database_url: str
) -> None:
    await begin_with_project(primary)
    await add(primary, lock(), line_id="1")

    async def again(tx: Any) -> Any:
        await tx.locks.remove(await tx.locks.hold("lock-1"))
        return await tx.locks.add(lock())

    assert (await primary.run(again, INTENT, line_id="2", epoch=1)).value.rev == 3
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT status, released_at IS NOT NULL FROM work_task_files ORDER BY id"
        )
    finally:
        await connection.close()
    assert [tuple(row) for row in rows] == [("released", True), ("locked", False)]


async def test_the_database_itself_refuses_a_second_exclusive_lock(
    primary: PostgresPrimary, database_url: str
) -> None:
    await begin_with_project(primary)
    await add(primary, lock(), line_id="1")
    connection = await asyncpg.connect(database_url)
    try:
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(
                """
                INSERT INTO work_task_files
                  (uid, project_name, team_id, file_path, holder, fence, expires_at, lease_seconds)
                VALUES ('x', 'app', 'local', 'a.py', 'other', 2, now(), 900)
                """
            )
    finally:
        await connection.close()


async def test_the_database_finds_the_root_of_a_path_as_the_domain_does(
    primary: PostgresPrimary, database_url: str
) -> None:
    paths = ["a", "a/b", "a/", "a/b/", "**", "*", "a/*", "a/*/", "a/b?/c", "a/**/b.py", "é/ü", "[x]/{y}", "?"]
    connection = await asyncpg.connect(database_url)
    try:
        roots = [await connection.fetchval("SELECT lock_root($1)", path) for path in paths]
    finally:
        await connection.close()
    assert roots == [root_of(path) for path in paths]


async def test_text_that_postgresql_cannot_store_is_invalid(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)
    task = Task(
        id="t", team_id="local", project="app", title="nul \x00", author="a", created_at=NOW, updated_at=NOW
    )
    with pytest.raises(Invalid):
        await add(primary, task, line_id="L")


# -- as few round trips as there can be ------------------------------------------------------------------


async def _lock_one(tx: Any, path: str = "a.py") -> Any:
    """As `lock_files` does it."""
    await tx.projects.get("app")
    name = f"lock-{path}"
    scope, _ = await tx.locks.hold_near(
        "app", [path], "k1/agent:ann", ahead=timedelta(), whole=False, ids=[name]
    )
    await tx.now()
    await tx.lock_scopes.save(scope.change(fence=scope.fence + 1))
    kept = await tx.locks.add(lock(name, path=path, fence=scope.fence + 1))
    await tx.audit.add(AuditRow(id=f"a-{path}", timestamp=NOW, team_id="local", action="lock_files"))
    return kept


async def test_a_lock_its_scope_its_audit_row_and_its_line_are_one_statement(database_url: str) -> None:
    primary = PostgresPrimary(ConnectionSettings(database_url, pool_max=1))
    await primary.prepare()
    await begin_with_project(primary)
    sent: list[str] = []
    try:
        # The first time, the driver asks for the types of arrays.
        await primary.run(lambda tx: _lock_one(tx, "b.py"), INTENT, line_id="K", epoch=1)
        async with primary._connections.use() as connection:
            connection.add_query_logger(lambda query: sent.append(query.query))
        logged = await primary.run(_lock_one, INTENT, line_id="L", epoch=1)
        assert await primary.applied("L") == replace(logged.line, audit=())
        begun = sent.index("BEGIN ISOLATION LEVEL READ COMMITTED")
        commands = [query.split()[0] for query in sent[begun : sent.index("COMMIT") + 1]]
        assert commands == ["BEGIN", "SELECT", "SELECT", "WITH", "COMMIT"]
        standing = (await primary.read(lambda tx: tx.locks.of_project("app")))[0]
        scope = await primary.read(lambda tx: tx.lock_scopes.get("app"))
        rows = await primary.read(lambda tx: tx.audit.find(AuditFilter(team_id="local")))
    finally:
        await primary.close()
    assert (standing, scope and (scope.fence, scope.rev)) == (logged.value, (2, 3))
    assert [row.id for row in rows.items] == ["a-a.py", "a-b.py"]


async def test_a_lock_that_comes_again_counts_on_however_it_is_written(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)

    async def release(tx: Any) -> None:
        await tx.lock_scopes.hold("app")
        await tx.locks.remove(await tx.locks.get("lock-a.py"))

    await primary.run(_lock_one, INTENT, line_id="1", epoch=1)
    await primary.run(release, INTENT, line_id="2", epoch=1)
    logged = await primary.run(_lock_one, INTENT, line_id="3", epoch=1)
    assert logged.value.rev == 3
    assert await primary.read(lambda tx: tx.locks.get("lock-a.py")) == logged.value


async def test_what_waits_to_be_written_is_seen_by_the_same_transaction(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)

    async def many(tx: Any) -> None:
        scope = await tx.lock_scopes.hold("app")
        for _ in range(3):
            scope = await tx.lock_scopes.save(scope.change(fence=scope.fence + 1))
        paths = [f"{number}.py" for number in range(20)]
        await tx.locks.hold_near("app", paths, "h", ahead=timedelta(), whole=False, ids=paths)
        for path in paths:
            await tx.locks.add(lock(path, path=path))
        assert await tx.lock_scopes.get("app") == scope
        assert {each.id for each in await tx.locks.of_project("app")} == set(paths)
        with pytest.raises(Conflict):
            await tx.lock_scopes.save(scope.change(rev=1))

    logged = await primary.run(many, INTENT, line_id="L", epoch=1)
    assert len(logged.line.changes) == 21
    assert len(await primary.read(lambda tx: tx.locks.of_project("app"))) == 20


async def test_a_held_row_that_somebody_changed_by_hand_spoils_the_transaction(
    primary: PostgresPrimary,
) -> None:
    await begin_with_project(primary)

    async def forged(tx: Any) -> None:
        scope = await tx.lock_scopes.hold("app")
        await tx._session.connection.execute("UPDATE lock_scopes SET rev = 9")
        await tx.lock_scopes.save(scope.change(fence=5))

    with pytest.raises(Conflict):
        await primary.run(forged, INTENT, line_id="L", epoch=1)
    assert await primary.applied("L") is None


async def test_a_line_says_what_stood_beside_it_in_the_log(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)
    start = (await primary.everything()).position
    await add(primary, project("second"), line_id="second")

    async def write(tx: Any) -> None:
        await tx.projects.add(project("third"))

    logged = await primary.run(write, INTENT, line_id="third", epoch=1, known=start)
    assert logged.beside is not None
    assert logged.beside.line_ids == {"second"}
    assert (logged.beside.position.seq, logged.beside.position.line_id) == (logged.seq, "third")
    after = await primary.since(replace(logged.beside.position))
    assert [line.id for line in after.lines] == ["third"]
    for strange in (replace(start, cluster="other"), replace(start, installation="other"), None):
        line_id = f"after-{strange and strange.cluster}-{strange and strange.installation}"

        async def one(tx: Any, name: str = f"p{len(line_id)}") -> None:
            await tx.projects.add(project(name))

        assert (await primary.run(one, INTENT, line_id=line_id, epoch=1, known=strange)).beside is None


# -- races: the pool is warm, so that the transactions really overlap ----------------------------------------


@pytest.fixture
async def warm(database_url: str) -> Any:
    primary = PostgresPrimary(ConnectionSettings(database_url, pool_min=8, pool_max=8))
    await primary.prepare()
    await begin_with_project(primary)
    try:
        yield primary
    finally:
        await primary.close()


async def _count_up(tx: Any) -> Any:
    scope = await tx.lock_scopes.hold("app")
    await tx.now()  # a pause between reading and writing
    return (await tx.lock_scopes.save(scope.change(fence=next_fence(scope.fence, tx.epoch)))).fence


async def test_a_held_record_is_changed_by_nobody_else(warm: PostgresPrimary) -> None:
    fences = await asyncio.gather(
        *(warm.run(_count_up, INTENT, line_id=f"L{number}", epoch=1) for number in range(40))
    )
    assert sorted(logged.value for logged in fences) == [1_000_001 + number for number in range(40)]


async def test_locks_are_read_as_they_are_once_the_scope_is_held(warm: PostgresPrimary) -> None:
    """However long that took: the other's lock, the count of it, and its removal are seen by who waited."""
    held, may_end = asyncio.Event(), asyncio.Event()

    async def first(tx: Any, change: Any) -> None:
        await tx.lock_scopes.hold("app")
        held.set()
        await may_end.wait()
        await change(tx)

    async def second(tx: Any) -> Any:
        return await tx.locks.hold_near("app", ["a.py"], "k1", ahead=timedelta(), whole=False, ids=["lock-1"])

    async def add_one(tx: Any) -> None:
        await tx.locks.add(lock(holder="k1"))

    async def remove_it(tx: Any) -> None:
        await tx.locks.remove(await tx.locks.get("lock-1"))

    for change, expected in ((add_one, (["lock-1"], 1)), (remove_it, ([], 0))):
        held.clear()
        may_end.clear()
        name = change.__name__
        one = asyncio.create_task(warm.run(partial(first, change=change), INTENT, line_id=name, epoch=1))
        await held.wait()
        other = asyncio.create_task(warm.run(second, INTENT, line_id=f"{name}-2", epoch=1))
        await _waits_for_a_row(warm)
        may_end.set()
        await one
        scope, near = (await other).value
        assert ([each.id for each in near.locks], near.held) == expected
        assert scope.project == "app"


async def _waits_for_a_row(primary: PostgresPrimary) -> None:
    async with asyncio.timeout(10), primary._connections.use() as connection:
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)


async def test_an_absence_is_held_too(warm: PostgresPrimary) -> None:
    async def once(tx: Any) -> bool:
        if await tx.projects.hold("new") is not None:
            return False
        await tx.now()
        await tx.projects.add(project("new"))
        return True

    made = await asyncio.gather(
        *(warm.run(once, INTENT, line_id=f"L{number}", epoch=1) for number in range(16))
    )
    assert sum(logged.value for logged in made) == 1


async def test_one_of_many_claims_an_idempotency_key_and_the_others_read_its_result(
    warm: PostgresPrimary,
) -> None:
    fields = {"team_id": "local", "caller": "k", "tool": "t", "arguments": "a", "created_at": NOW}
    record = Remembered(id="i", expires_at=NOW + timedelta(1), **fields)

    async def call(tx: Any) -> Any:
        standing = await tx.idempotency.claim(record)
        if standing is not None:
            return standing.result
        await tx.now()
        held = await tx.idempotency.hold("i")
        await tx.idempotency.save(held.change(result={"first": True}))
        return "made"

    results = await asyncio.gather(*(warm.run(call, INTENT, line_id=f"L{n}", epoch=1) for n in range(12)))
    values = [logged.value for logged in results]
    assert values.count("made") == 1
    assert values.count({"first": True}) == 11


async def test_a_deadlock_is_tried_again(warm: PostgresPrimary) -> None:
    await add(warm, project("other"), LockScope(project="other"), line_id="other")
    both = asyncio.Barrier(2)
    first_time = [True, True]

    def crossing(number: int, *order: str) -> Any:
        async def fn(tx: Any) -> None:
            scope = await tx.lock_scopes.hold(order[0])
            if first_time[number]:
                first_time[number] = False
                await both.wait()
            other = await tx.lock_scopes.hold(order[1])
            await tx.lock_scopes.save(scope.change(fence=scope.fence + 1))
            await tx.lock_scopes.save(other.change(fence=other.fence + 1))

        return fn

    await asyncio.gather(
        warm.run(crossing(0, "app", "other"), INTENT, line_id="X", epoch=1),
        warm.run(crossing(1, "other", "app"), INTENT, line_id="Y", epoch=1),
    )
    scope = await warm.read(lambda tx: tx.lock_scopes.get("other"))
    assert scope is not None
    assert scope.fence == 2


async def test_a_cancelled_transaction_frees_its_rows_and_its_connection(warm: PostgresPrimary) -> None:
    held = asyncio.Event()

    async def hold(tx: Any) -> None:
        await tx.lock_scopes.hold("app")
        held.set()
        await asyncio.sleep(60)

    for number in range(10):
        held.clear()
        task = asyncio.create_task(warm.run(hold, INTENT, line_id=f"C{number}", epoch=1))
        await held.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await warm.run(_count_up, INTENT, line_id="L", epoch=1)


# -- the change log --------------------------------------------------------------------------------------


async def test_a_transaction_that_runs_for_long_loses_no_line(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)
    start = (await primary.everything()).position
    logged, may_end = asyncio.Event(), asyncio.Event()

    async def slow(tx: Any) -> None:
        # A team: new projects go one after the other, for their host names.
        await tx.teams.add(team("slow"))
        logged.set()
        await may_end.wait()

    task = asyncio.create_task(primary.run(slow, INTENT, line_id="slow", epoch=1))
    await logged.wait()
    await add(primary, project("quick"), line_id="quick")
    first = await primary.since(start)
    assert [line.id for line in first.lines] == ["quick"]
    await add(primary, project("quicker"), line_id="quicker")
    second = await primary.since(first.position)
    may_end.set()
    await task
    third = await primary.since(second.position)
    seen = [line.id for batch in (first, second, third) for line in batch.lines]
    assert set(seen) == {"quick", "quicker", "slow"}
    assert not third.lost


async def test_a_number_drawn_before_and_committed_after_another_is_not_skipped(
    primary: PostgresPrimary, database_url: str
) -> None:
    """The case that a sequence alone gets wrong."""
    await begin_with_project(primary)
    start = (await primary.everything()).position
    early = await asyncpg.connect(database_url)
    try:
        transaction = early.transaction()
        await transaction.start()
        drawn = await early.fetchval(
            """
            INSERT INTO change_log (line_id, actor, action, changes) VALUES ('early', 'a', 'x', '[]')
            RETURNING seq
            """
        )
        _, seq = await add(primary, project("late"), line_id="late")
        assert drawn < seq
        first = await primary.since(start)
        await transaction.commit()
        second = await primary.since(first.position)
    finally:
        await early.close()
    assert [line.id for line in first.lines] == ["late"]
    assert first.position.line_id == "late"
    assert "early" in [line.id for line in second.lines]
    assert second.position.seq == seq


async def test_everything_and_since_together_miss_nothing_while_others_write(
    primary: PostgresPrimary,
) -> None:
    await begin_with_project(primary)

    async def write(number: int) -> None:
        await add(primary, project(f"p{number}"), line_id=f"w{number}")

    writers = [asyncio.create_task(write(number)) for number in range(30)]
    whole = await primary.everything()
    records, position = whole.records, whole.position
    await asyncio.gather(*writers)
    batch = await primary.since(position)
    keys = {record.key for record in records} | {
        change.key for line in batch.lines for change in line.changes
    }
    assert {f"p{number}" for number in range(30)} <= keys
    ranks = [[kind.noun for kind in RECORDS].index(record.noun) for record in records]
    assert ranks == sorted(ranks)


async def test_it_has_what_was_mirrored_and_not_what_came_later(primary: PostgresPrimary) -> None:
    await begin_with_project(primary)
    position = (await primary.everything()).position
    _, seq = await add(primary, project("b"), line_id="b")
    assert await primary.has(position)
    batch = await primary.since(position)
    assert (batch.position.seq, batch.position.line_id) == (seq, "b")
    assert await primary.has(batch.position)

    known = batch.position
    assert not await primary.has(replace(known, installation="another"))
    assert not await primary.has(replace(known, seq=seq + 1, line_id="c"))
    assert not await primary.has(replace(known, line_id="c"))


async def test_the_log_is_trimmed_below_the_slowest_home_and_who_is_further_behind_is_told(
    primary: PostgresPrimary,
) -> None:
    await begin_with_project(primary)
    start = (await primary.everything()).position
    for number in range(5):
        await add(primary, project(f"p{number}"), line_id=f"w{number}")
    slow = (await primary.since(start)).position
    for number in range(5, 9):
        await add(primary, project(f"p{number}"), line_id=f"w{number}")
    quick = (await primary.since(slow)).position
    await primary.trim("slow", slow)
    await primary.trim("quick", quick)
    assert await primary.applied("w4") is None
    assert await primary.applied("w5") is not None
    behind = await primary.since(slow)
    assert not behind.lost
    assert [line.id for line in behind.lines] == ["w5", "w6", "w7", "w8"]
    assert (await primary.since(start)).lost
    assert await primary.has(slow)
    assert await primary.has(start)
    await primary.trim("slow", quick)
    assert await primary.applied("w8") is not None  # the newest stays as a proof
    assert await primary.has(quick)


async def test_lines_older_than_seven_days_go_even_if_a_home_lacks_them(
    primary: PostgresPrimary, database_url: str
) -> None:
    await begin_with_project(primary)
    start = (await primary.everything()).position
    await add(primary, project("old"), line_id="old")
    await add(primary, project("new"), line_id="new")
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE change_log SET at = now() - interval '8 days' WHERE line_id = 'old'")
    finally:
        await connection.close()
    await primary.trim("h", start)
    assert await primary.applied("old") is None
    assert (await primary.since(start)).lost


async def test_what_was_deleted_a_month_ago_of_what_comes_and_goes_is_forgotten(
    primary: PostgresPrimary, database_url: str
) -> None:
    assert {"idempotency", "locks", "plans"} == SHORT_LIVED  # as the statement and its index say
    await begin_with_project(primary)
    await add(primary, lock("old"), line_id="old")
    await add(primary, lock("new", path="b.py"), line_id="new")

    async def remove(tx: Any) -> None:
        for name in ("old", "new"):
            await tx.locks.remove(await tx.locks.hold(name))
        await tx.projects.remove(await tx.projects.hold("app"))

    await primary.run(remove, INTENT, line_id="L", epoch=1)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE tombstones SET at = now() - interval '31 days' WHERE key <> 'new'")
        await connection.execute("UPDATE tombstones SET at = now() - interval '29 days' WHERE key = 'new'")
        await primary.trim("h", (await primary.everything()).position)
        kept = await connection.fetch("SELECT noun, key FROM tombstones ORDER BY noun")
        assert [tuple(row) for row in kept] == [("lock_scopes", "app"), ("locks", "new"), ("projects", "app")]
        await connection.execute("SET enable_seqscan = off")
        plan = await connection.fetch(
            "EXPLAIN SELECT key FROM tombstones WHERE noun IN ('idempotency', 'locks', 'plans') AND at < now()"
        )
        assert any("tombstones_at" in row[0] for row in plan)
    finally:
        await connection.close()


async def test_locks_that_were_released_a_month_ago_are_forgotten_and_the_held_ones_stay(
    primary: PostgresPrimary, database_url: str
) -> None:
    await begin_with_project(primary)
    for name in ("old", "new", "held"):
        await add(primary, lock(name, path=f"{name}.py"), line_id=name)

    async def remove(tx: Any) -> None:
        for name in ("old", "new"):
            await tx.locks.remove(await tx.locks.hold(name))

    await primary.run(remove, INTENT, line_id="L", epoch=1)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE work_task_files SET locked_at = now() - interval '99 days'")
        for name, days in (("old", 31), ("new", 29)):
            await connection.execute(
                "UPDATE work_task_files SET released_at = now() - make_interval(days => $2) WHERE uid = $1",
                name,
                days,
            )
        await primary.trim("h", (await primary.everything()).position)
        kept = await connection.fetch("SELECT uid FROM work_task_files ORDER BY uid")
        assert [row["uid"] for row in kept] == ["held", "new"]
    finally:
        await connection.close()


async def test_a_grant_looks_neither_at_the_other_locks_of_its_project_nor_at_released_ones(
    primary: PostgresPrimary, database_url: str
) -> None:
    await begin_with_project(primary)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            """
            INSERT INTO work_task_files (uid, project_name, team_id, file_path, lock_type, holder, status, released_at,
              fence, locked_at, expires_at, lease_seconds)
            SELECT 'l' || n || kind, 'app', 'local', 'd' || n || '/a.py', 'editing', 'h' || n, kind,
              CASE kind WHEN 'released' THEN now() END, n, now(), now() + interval '1 hour', 3600
            FROM generate_series(1, 3000) AS n, unnest(ARRAY['locked', 'released']) AS kind
            """
        )
        await connection.execute("ANALYZE work_task_files")
        async with connection.transaction():
            near = await connection.fetch(
                """
                SELECT f.uid FROM locks_of_holder('app', 'h9', ARRAY['x']) AS own,
                  locks_near('app', ARRAY['', 'd7/', 'd7/a.py/'], ARRAY['d7/a.py/'], ARRAY['d7/a.py0'], now(), 'h9', true) AS f
                ORDER BY f.uid
                """
            )
            looked_at = await connection.fetchval(
                "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'work_task_files'"
            )
        assert [row["uid"] for row in near] == ["l7locked", "l9locked"]
        assert looked_at < 20
        plan = await connection.fetch(
            "EXPLAIN SELECT id FROM work_task_files WHERE status = 'released' AND released_at < now() - interval '1 day'"
        )
        assert any("work_task_files_released" in row[0] for row in plan)
    finally:
        await connection.close()


async def test_a_log_that_was_restored_into_another_cluster_is_mended(
    primary: PostgresPrimary, database_url: str
) -> None:
    await begin_with_project(primary)
    before = (await primary.everything()).position
    await add(primary, project("b"), line_id="b")
    connection = await asyncpg.connect(database_url)
    try:  # as in a cluster whose transactions count from the beginning
        await connection.execute("UPDATE installation SET observed = 'elsewhere', cluster = 'elsewhere'")
        await connection.execute("UPDATE change_log SET xid = '999999999'")
    finally:
        await connection.close()
    old = Position(before.installation, "elsewhere", 999_999_990, before.seq, before.line_id)
    identity = await primary.prepare()
    assert identity.cluster not in ("elsewhere", before.cluster)
    assert await primary.has(old)
    batch = await primary.since(old)
    assert "b" in [line.id for line in batch.lines]
    assert not batch.lost
    assert batch.position.cluster == identity.cluster
    assert (await primary.since(batch.position)).lines == []
    await add(primary, project("c"), line_id="c")
    assert [line.id for line in (await primary.since(batch.position)).lines] == ["c"]
    assert (await primary.prepare()).cluster == identity.cluster


async def test_following_looks_up_the_log_by_transaction(primary: PostgresPrimary, database_url: str) -> None:
    await begin_with_project(primary)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("SET enable_seqscan = off")
        plan = await connection.fetch(
            """
            EXPLAIN SELECT l.seq FROM installation i
            LEFT JOIN change_log l ON l.xid >= (CASE WHEN i.cluster = 'x' THEN '5' ELSE '0' END)::XID8
            """
        )
    finally:
        await connection.close()
    assert any("change_log_xid" in row[0] for row in plan)


# -- wake-ups, keys, homes ---------------------------------------------------------------------------------


async def test_another_servers_commit_wakes_and_an_own_one_does_not(
    primary: PostgresPrimary, database_url: str
) -> None:
    await begin_with_project(primary)
    other = PostgresPrimary(database_url)
    try:
        waiting = asyncio.create_task(primary.changed(20))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            number = 0
            while not waiting.done():
                number += 1
                await add(other, project(f"n{number}"), line_id=f"n{number}")
                await asyncio.sleep(0.05)
        await other.close()
        clock = asyncio.get_running_loop().time
        await primary.changed(0.3)  # what was still on its way
        begun = clock()
        own = asyncio.create_task(primary.changed(0.5))
        await add(primary, project("own"), line_id="own")
        await own
        assert clock() - begun >= 0.45
    finally:
        await other.close()


async def test_the_last_use_of_a_key_is_noted_without_a_revision(primary: PostgresPrimary) -> None:
    key = ApiKey(
        id="k1",
        key_hash="a" * 64,
        key_prefix="qm",
        name="n",
        team_id="local",
        role="member",
        rate_limit=60,
        created_at=NOW,
    )
    await begin_with_project(primary)
    await add(primary, key, line_id="key")
    await primary.record(
        [AuditRow(id=f"a{n}", timestamp=NOW, team_id="local", action="x") for n in range(3)], {"k1": NOW}
    )
    await primary.record(
        [AuditRow(id="a1", timestamp=NOW, team_id="local", action="y")], {"k1": NOW - timedelta(1)}
    )
    found = await primary.find_key("a" * 64)
    assert found == key.change(rev=1, last_used_at=NOW)
    page = await primary.read(lambda tx: tx.audit.find(AuditFilter(team_id="local")))
    assert [(row.id, row.action) for row in page.items] == [("a0", "x"), ("a1", "x"), ("a2", "x")]


async def test_a_home_is_alone_until_another_asks_and_it_confirms(primary: PostgresPrimary) -> None:
    assert (await primary.claim("a", "there")).alone
    asked = await primary.claim("b", "there")
    assert (asked.alone, asked.holder, asked.asked_by) == (False, "a", "b")
    assert (await primary.claim("b", "there", confirm=True)).holder == "a"  # only the holder can give it up
    told = await primary.claim("a", "there")
    assert (told.alone, told.asked_by) == (True, "b")
    given = await primary.claim("a", "there", confirm=True)
    assert (given.alone, given.holder, list(given.homes)) == (False, None, ["a", "b"])
    assert not (await primary.claim("b", "there")).alone


async def test_a_person_may_decide_that_the_holder_is_gone(primary: PostgresPrimary) -> None:
    await primary.claim("a", "there")
    await primary.claim("b", "there")
    forced = await primary.claim("b", "there", force=True)
    assert (forced.alone, forced.holder, list(forced.homes)) == (True, "b", ["b"])
    assert (await primary.claim("a", "there")).holder == "b"


async def test_a_home_registered_elsewhere_changes_nothing_until_it_is_forced(
    primary: PostgresPrimary,
) -> None:
    await primary.claim("a", "there")
    copied = await primary.claim("a", "elsewhere", confirm=True)
    assert (copied.copied, copied.alone, copied.holder) == (True, False, "a")
    assert await primary.place_of("a") == "there"
    assert (await primary.claim("a", "there")).alone
    assert (await primary.claim("a", "elsewhere", force=True)).alone
    assert (await primary.claim("a", "there")).copied
    assert await primary.place_of("unheard of") is None


async def test_the_epoch_never_falls(primary: PostgresPrimary) -> None:
    assert await primary.raise_epoch(5) == 5
    assert await primary.raise_epoch(3) == 5
    assert (await primary.identify()).epoch == 5


async def test_an_empty_database_has_no_installation_and_a_prepared_one_keeps_its_own(
    database_url: str,
) -> None:
    primary = PostgresPrimary(database_url)
    try:
        empty = await primary.identify()
        assert (empty.installation, empty.schema_version) == (None, 0)
        prepared = await primary.prepare()
        assert prepared.installation
        assert prepared.schema_version >= 4
        assert await primary.identify() == prepared == await primary.prepare()
    finally:
        await primary.close()


async def test_a_server_without_the_right_to_its_cluster_identifier_has_a_substitute(
    own_postgres: PostgresServer,
) -> None:
    own_postgres.run_as_admin(
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC", database="quaymaster"
    )
    primary = PostgresPrimary(own_postgres.url)
    try:
        identity = await primary.prepare()
        assert identity.cluster.startswith("database-")
        assert await primary.prepare() == identity
    finally:
        await primary.close()


def test_lines_are_kept_for_seven_days() -> None:
    assert changelog.KEEP_DAYS == 7
