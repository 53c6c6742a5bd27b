"""Migrations through a pooler in transaction mode: its loss of the lock is noticed, and `_DIRECT_URL` goes around it."""

from collections.abc import Iterator

import pytest

from mcp_server.domain.errors import Unavailable
from tests.schemas.conftest import Bench
from tests.services.pooler import TransactionPooler


class AfterTheLock:
    """The pooler gives the next transaction another server connection, once the lock was taken on the first."""

    def __init__(self) -> None:
        self._left = -1

    def __call__(self, sent: bytes) -> bool:
        """The owner is written beside the lock in two round trips: the statement, and what it is run with."""
        self._left = 2 if b"migration_lock" in sent else self._left - 1
        return self._left == 0


@pytest.fixture
def pooled(postgres_bench: Bench) -> Iterator[Bench]:
    """RDS_APP_URL leads through a pooler, as a hosted PostgreSQL's often does."""
    with TransactionPooler(postgres_bench.url, AfterTheLock()) as pooler:
        head, _, tail = postgres_bench.url.rpartition("@")
        pooled = f"{head}@127.0.0.1:{pooler.port}/{tail.partition('/')[2]}"
        postgres_bench.environ["RDS_APP_URL"] = pooled
        yield postgres_bench


async def test_a_lock_that_a_pooler_loses_stops_the_run_and_says_what_to_do(pooled: Bench) -> None:
    pooled.migration("001_one", "CREATE TABLE one (id integer);", "DROP TABLE one;")
    with pytest.raises(Unavailable, match="goes through a pooler") as stopped:
        await pooled.deploy()
    assert "_DIRECT_URL" in stopped.value.next
    pooled.environ["RDS_APP_URL"] = pooled.url
    assert [row.label for row in await pooled.ledger()] == []


async def test_with_a_direct_address_everything_goes_around_the_pooler(pooled: Bench) -> None:
    pooled.environ["RDS_APP_DIRECT_URL"] = pooled.url
    pooled.migration("001_one", "CREATE TABLE one (id integer PRIMARY KEY);", "DROP TABLE one;")
    pooled.migration("002_two", "INSERT INTO one VALUES (1);", "DELETE FROM one;")
    assert await pooled.deploy() == ("001_one", "002_two")
    databases = pooled.databases()
    plan = await databases.dangerous.plan(pooled.one(), "rollback", "1")
    assert await databases.dangerous.rollback(pooled.one(), plan, "1", tell=lambda text: None) == ("002_two",)
    assert await pooled.rows("SELECT count(*) FROM one") == ((0,),)
