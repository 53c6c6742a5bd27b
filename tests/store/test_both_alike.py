"""The same random transactions on the registry and on PostgreSQL end alike, with the same records."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_server.adapters.postgres.connections import ConnectionSettings
from mcp_server.adapters.postgres.primary import PostgresPrimary
from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.records import Record
from mcp_server.ports.repositories import Repository
from mcp_server.ports.store import Intent, Reading, Transaction
from tests.store import samples
from tests.store.samples import at

CHANGE = Intent("update_task", "test")


class Planned(Exception):
    """A transaction that is told to fail."""


@dataclass(frozen=True)
class Op:
    noun: str
    key: str
    verb: str
    number: int


NOUNS: dict[str, tuple[tuple[str, ...], Callable[[str, int], Record]]] = {
    "members": (("m1", "m2"), lambda key, n: samples.member(key, email=f"{n % 2}@a.example", name=str(n))),
    "projects": (("p1", "p2"), lambda key, n: samples.project(key, description=str(n), updated_at=at(n))),
    "tasks": (
        ("t1", "t2", "t3"),
        lambda key, n: samples.task(key, project=("p1", "p2")[n % 2], title=f"T{n}", created_at=at(n % 3)),
    ),
    "lock_scopes": (("p1", "p2"), lambda key, n: samples.scope(key, fence=n)),
    "locks": (
        ("l1", "l2", "l3"),
        lambda key, n: samples.lock(
            key,
            project=("p1", "p2")[n % 2],
            path=("a.py", "b/")[n // 2 % 2],
            mode=("editing", "reviewing")[n // 4 % 2],
            holder=f"k{n % 3}",
            expires_at=at(n),
        ),
    ),
    "idempotency": (("r1", "r2"), lambda key, n: samples.remembered(key, arguments=f"{n:032}")),
}


def operations() -> st.SearchStrategy[Op]:
    def of(noun: str) -> st.SearchStrategy[Op]:
        verbs = st.sampled_from(("add", "add", "save", "save", "remove", "stale", "get"))
        return st.builds(Op, st.just(noun), st.sampled_from(NOUNS[noun][0]), verbs, st.integers(0, 11))

    return st.sampled_from(sorted(NOUNS)).flatmap(of)


transactions = st.lists(st.tuples(st.lists(operations(), min_size=1, max_size=4), st.booleans()), max_size=12)


def repository(tx: object, noun: str) -> Repository[Record]:
    return cast("Repository[Record]", getattr(tx, noun))


async def apply(tx: Transaction, op: Op) -> Record | None:
    """One operation on the record as it stands. A project is only removed when nothing belongs to it."""
    repo, make = repository(tx, op.noun), NOUNS[op.noun][1]
    standing = await repo.hold(op.key)
    if op.verb == "add":
        return await repo.add(make(op.key, op.number))
    if standing is None or op.verb == "get":
        return standing
    if op.verb == "save":
        return await repo.save(make(op.key, op.number).change(rev=standing.rev, **unchanging(standing)))
    if op.verb == "stale":
        return await repo.save(standing.change(rev=standing.rev + 1))
    if op.noun != "projects" or await childless(tx, op.key):
        await repo.remove(standing)
    return None


def unchanging(record: Record) -> dict[str, Any]:
    """A record never moves to another parent."""
    return {name: getattr(record, name) for name in ("project", "team_id") if hasattr(record, name)}


async def childless(tx: Reading, project: str) -> bool:
    tasks = (await tx.tasks.of_project(project, limit=1)).items
    return not tasks and not await tx.locks.of_project(project) and await tx.lock_scopes.get(project) is None


async def everything(tx: Reading) -> list[Any]:
    found: list[Any] = []
    for noun, (keys, _) in NOUNS.items():
        found += [await repository(tx, noun).get(key) for key in keys]
    found.append(list((await tx.members.of_team("acme")).items))
    found.append(list((await tx.projects.of_team("acme")).items))
    for project in ("p1", "p2"):
        found.append(list((await tx.tasks.of_project(project)).items))
        found.append(list(await tx.locks.of_project(project)))
        found.append(await tx.locks.near(project, ["b/c.py"], "k1", until=at(4), whole=False))
        found.append(await tx.locks.near(project, ["a.py/*"], "k2", until=at(0), whole=True))
    return found


async def outcome(
    run: Callable[[Callable[[Transaction], Awaitable[Any]]], Awaitable[Any]], ops: list[Op], fails: bool
) -> Any:
    async def fn(tx: Transaction) -> list[Any]:
        values = [await apply(tx, op) for op in ops]
        if fails:
            raise Planned
        return values

    try:
        return await run(fn)
    except Planned:
        return "planned"
    except QuaymasterError as error:
        return error.code


class Pair:
    """Both stores, emptied before each example."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._runner = asyncio.Runner()
        self._primary = PostgresPrimary(ConnectionSettings(url))
        self._runner.run(self._primary.prepare())
        self._line = 0

    def close(self) -> None:
        self._runner.run(self._primary.close())
        self._runner.close()

    def compare(self, script: list[tuple[list[Op], bool]]) -> None:
        self._runner.run(self._compare(script))

    async def _compare(self, script: list[tuple[list[Op], bool]]) -> None:
        await self._empty()
        home = Path(tempfile.mkdtemp(prefix="qm-alike-"))
        registry = await RegistryStore.open(home)
        try:
            await registry.run(lambda tx: tx.teams.add(samples.team()), CHANGE)
            await self._primary_run(lambda tx: tx.teams.add(samples.team()))
            for ops, fails in script:
                one = await outcome(lambda fn: self._registry_run(registry, fn), ops, fails)
                other = await outcome(self._primary_run, ops, fails)
                assert one == other
                assert await registry.read(everything) == await self._primary.read(everything)
        finally:
            registry.close()
            shutil.rmtree(home)

    async def _registry_run(
        self, registry: RegistryStore, fn: Callable[[Transaction], Awaitable[Any]]
    ) -> Any:
        return (await registry.run(fn, CHANGE)).value

    async def _primary_run(self, fn: Callable[[Transaction], Awaitable[Any]]) -> Any:
        self._line += 1
        return (await self._primary.run(fn, CHANGE, line_id=f"alike-{self._line}", epoch=1)).value

    async def _empty(self) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute("TRUNCATE teams, tombstones, idempotency, plans, conflicts CASCADE")
        finally:
            await connection.close()


@pytest.fixture
def pair(database_url: str) -> Iterator[Pair]:
    both = Pair(database_url)
    yield both
    both.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(script=transactions)
def test_the_same_transactions_end_alike_on_both_stores(
    pair: Pair, script: list[tuple[list[Op], bool]]
) -> None:
    pair.compare(script)
