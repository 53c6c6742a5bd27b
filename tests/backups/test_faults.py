"""A real server is killed at every named step of backups, restores, branches and promotions; the next start puts
everything right, and nothing that was there is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.acceptance.wire import call, send
from tests.databases.test_faults import KILLED, Berth, ask, berth
from tests.databases.yards import run_on
from tests.services.processes import ServerProcess

__all__ = ["berth"]

ROWS = 50
WHOLE = pytest.mark.soak
VALUES = ", ".join(f"({number}, 'p{number}')" for number in range(1, ROWS + 1))


def prepare(server: ServerProcess, berth: Berth, engine: str) -> None:
    ask(server, "create_project", name=berth.shop)
    assert ask(server, "create_database", project=berth.shop, engine=engine)["state"] == "running"
    for sql in ("CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)", f"INSERT INTO pets VALUES {VALUES}"):  # noqa: S608
        done = ask(server, "query_database", project=berth.shop, sql=sql, write=True)
        assert done.get("status") == "done", done


def dies(berth: Berth, fault: str, tool: str, /, **arguments: Any) -> None:
    """The call, planned where it must be, reaches the step, and the server is killed there."""
    with berth.server(fault) as server:
        found = ask(server, tool, **arguments) if tool in PLANNED else {}
        if tool in PLANNED:
            assert found.get("status") == "planned", found
            arguments["plan_token"] = found["plan_token"]
        send(server, call(9, tool, **arguments))
        assert server.wait_ended(60) == KILLED


PLANNED = {"restore_database", "promote_database_to_postgres", "drop_branch"}


def count(server: ServerProcess, berth: Berth) -> Any:
    found = ask(server, "query_database", project=berth.shop, sql="SELECT count(*) FROM pets")
    return found["rows"][0][0] if "rows" in found else found


def states(server: ServerProcess) -> list[tuple[str, str]]:
    return [(one["reason"], one["state"]) for one in ask(server, "list_backups")["items"]]


def strangers(server: ServerProcess, berth: Berth) -> Any:
    """Scratch databases, branches and their roles on the server."""
    url = ask(server, "get_database", project=berth.shop, reveal=True)["url"]
    rows = asyncio.run(
        run_on(
            url,
            "SELECT datname FROM pg_database WHERE datname ~ '^(qm|br)_'"
            " UNION ALL SELECT rolname FROM pg_roles WHERE rolname ~ '^b[uv]_'",
        )
    )
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("engine_kind", "step"),
    [
        pytest.param("sqlite", "backups.noted", marks=WHOLE),
        ("sqlite", "backups.file.written"),
        pytest.param("sqlite", "backups.written", marks=WHOLE),
        pytest.param("sqlite", "backups.proved", marks=WHOLE),
        pytest.param("postgres", "backups.written", marks=WHOLE),
        ("postgres", "backups.restored"),
        pytest.param("postgres", "backups.proved", marks=WHOLE),
    ],
)
def test_a_backup_that_dies_is_failed_and_leaves_no_file(berth: Berth, engine_kind: str, step: str) -> None:
    with berth.server() as server:
        prepare(server, berth, engine_kind)
    dies(berth, step, "backup_database", project=berth.shop)
    with berth.server() as server:
        berth.settled(server, lambda: states(server) == [("asked", "failed")], "the backup to be failed")
        if engine_kind == "postgres":
            berth.settled(server, lambda: strangers(server, berth) == [], "scratch databases to go")
        berth.settled(server, lambda: not list(berth.home.glob("backups/*")), "its file to go")
        berth.settled(server, lambda: not list(berth.home.glob("scratch/*/*")), "its plain copy to go")
        assert ask(server, "backup_database", project=berth.shop)["state"] == "verified"
        assert count(server, berth) == ROWS


@pytest.mark.parametrize("step", ["backups.settled"])
def test_a_backup_that_dies_after_it_settled_is_kept_and_comes_back(berth: Berth, step: str) -> None:
    with berth.server() as server:
        prepare(server, berth, "sqlite")
    dies(berth, step, "backup_database", project=berth.shop)
    with berth.server() as server:
        assert states(server) == [("asked", "verified")]
        empty(server, berth)
        restore(server, ask(server, "list_backups")["items"][0]["id"])
        assert count(server, berth) == ROWS


@pytest.mark.parametrize(
    ("engine_kind", "step", "rows"),
    [
        pytest.param("sqlite", "restore.backed_up", 2, marks=WHOLE),
        pytest.param("sqlite", "restore.proved", 2, marks=WHOLE),
        ("sqlite", "restore.swapped", ROWS),
        pytest.param("postgres", "restore.proved", 2, marks=WHOLE),
        pytest.param("postgres", "restore.closed", 2, marks=WHOLE),
        ("postgres", "restore.renamed", ROWS),
        pytest.param("postgres", "restore.swapped", ROWS, marks=WHOLE),
    ],
)
def test_a_restore_that_dies_leaves_the_old_or_the_new_contents_whole(
    berth: Berth, engine_kind: str, step: str, rows: int
) -> None:
    with berth.server() as server:
        prepare(server, berth, engine_kind)
        backup = ask(server, "backup_database", project=berth.shop)["id"]
        empty(server, berth)
    dies(berth, step, "restore_database", backup_id=backup)
    with berth.server() as server:
        berth.settled(server, lambda: count(server, berth) == rows, "the database to answer")
        assert ("restore", "verified") in states(server)
        if engine_kind == "postgres":
            berth.settled(server, lambda: strangers(server, berth) == [], "scratch databases to go")
        else:
            folder = Path(ask(server, "get_database", project=berth.shop)["address"]).parent
            berth.settled(server, lambda: not list(folder.glob("*.new")), "the unpacked file to go")
        # Neither the database nor the backup is anybody's work any more.
        restore(server, backup)
        assert count(server, berth) == ROWS


@pytest.mark.parametrize(
    ("engine_kind", "step"),
    [
        pytest.param("sqlite", "branch.noted", marks=WHOLE),
        pytest.param("sqlite", "branch.copied", marks=WHOLE),
        pytest.param("postgres", "branch.roles", marks=WHOLE),
        ("postgres", "branch.copied"),
    ],
)
def test_a_branch_that_dies_leaves_nothing(berth: Berth, engine_kind: str, step: str) -> None:
    with berth.server() as server:
        prepare(server, berth, engine_kind)
    dies(berth, step, "branch_database", project=berth.shop, name="try")
    with berth.server() as server:
        berth.settled(server, lambda: branches(server, berth) == [], "the branch to go")
        assert copies(server, berth, engine_kind) == []
        assert ask(server, "branch_database", project=berth.shop, name="try")["state"] == "ready"
        assert count(server, berth) == ROWS


@pytest.mark.parametrize(
    ("engine_kind", "step"),
    [("sqlite", "branch.removed"), pytest.param("postgres", "branch.removed", marks=WHOLE)],
)
def test_a_branch_whose_dropping_dies_goes_and_its_source_stays(
    berth: Berth, engine_kind: str, step: str
) -> None:
    with berth.server() as server:
        prepare(server, berth, engine_kind)
        assert ask(server, "branch_database", project=berth.shop, name="try")["state"] == "ready"
    dies(berth, step, "drop_branch", project=berth.shop, name="try")
    with berth.server() as server:
        berth.settled(server, lambda: branches(server, berth) == [], "the branch to go")
        assert copies(server, berth, engine_kind) == []
        assert count(server, berth) == ROWS


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("promote.backed_up", marks=WHOLE),
        pytest.param("promote.reserved", marks=WHOLE),
        pytest.param("promote.made", marks=WHOLE),
        "promote.loaded",
        pytest.param("promote.compared", marks=WHOLE),
    ],
)
def test_a_promotion_that_dies_stays_on_the_file_with_every_row(berth: Berth, step: str) -> None:
    with berth.server() as server:
        prepare(server, berth, "sqlite")
        path = ask(server, "get_database", project=berth.shop)["address"]
    dies(berth, step, "promote_database_to_postgres", project=berth.shop)
    with berth.server() as server:
        berth.settled(server, lambda: berth.things() == [], "what was half made to go")
        on_its_file(server, berth, path)


@pytest.mark.parametrize("step", ["promote.switched"])
def test_a_promotion_that_dies_after_the_switch_is_on_postgresql_with_every_row(
    berth: Berth, step: str
) -> None:
    with berth.server() as server:
        prepare(server, berth, "sqlite")
    dies(berth, step, "promote_database_to_postgres", project=berth.shop)
    with berth.server() as server:
        assert ask(server, "get_database", project=berth.shop)["engine"] == "postgres"
        assert count(server, berth) == ROWS
        empty(server, berth)


@pytest.mark.parametrize("step", [pytest.param("promote.undone", marks=WHOLE)])
def test_undoing_a_promotion_may_die_as_well(berth: Berth, step: str) -> None:
    with berth.server() as server:
        prepare(server, berth, "sqlite")
        path = ask(server, "get_database", project=berth.shop)["address"]
    dies(berth, "promote.made", "promote_database_to_postgres", project=berth.shop)
    with berth.server(step) as server:
        assert server.wait_ended(60) == KILLED
    with berth.server() as server:
        berth.settled(server, lambda: berth.things() == [], "what was half made to go")
        berth.settled(server, lambda: on_its_file(server, berth, path), "the record to be free")


@pytest.mark.parametrize("step", ["promote.only_reading", pytest.param("promote.back", marks=WHOLE)])
def test_a_way_back_that_dies_ends_on_one_side_that_takes_writes(berth: Berth, step: str) -> None:
    with berth.server() as server:
        prepare(server, berth, "sqlite")
        path = ask(server, "get_database", project=berth.shop)["address"]
        plan = ask(server, "promote_database_to_postgres", project=berth.shop)["plan_token"]
        done = ask(server, "promote_database_to_postgres", project=berth.shop, plan_token=plan)
        assert done["state"] == "done", done
    dies(berth, step, "promote_database_to_postgres", project=berth.shop, back=True)
    with berth.server() as server:
        if step == "promote.back":
            berth.settled(server, lambda: berth.things() == [], "the server to go")
            on_its_file(server, berth, path)
            return
        assert ask(server, "get_database", project=berth.shop)["engine"] == "postgres"
        assert count(server, berth) == ROWS
        berth.settled(server, lambda: writes(server, berth), "the role to write again")


def on_its_file(server: ServerProcess, berth: Berth, path: str) -> bool:
    found = ask(server, "get_database", project=berth.shop)
    assert (found["engine"], found["address"]) == ("sqlite", path)
    assert count(server, berth) == ROWS
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO pets VALUES (1000, 'free to write')")
        connection.rollback()
    return "plan_token" in ask(server, "promote_database_to_postgres", project=berth.shop)


def writes(server: ServerProcess, berth: Berth) -> bool:
    """As the project does it, by its own login; the server's own writes overrule what the role begins with."""
    url = ask(server, "get_database", project=berth.shop, reveal=True)["url"]
    try:
        asyncio.run(run_on(url, "UPDATE pets SET name = 'again' WHERE id = 1"))
    except asyncpg.ReadOnlySQLTransactionError:
        return False
    return True


def empty(server: ServerProcess, berth: Berth) -> None:
    """All but two rows go."""
    sql = "DELETE FROM pets WHERE id > 2"
    done = ask(server, "query_database", project=berth.shop, sql=sql, write=True)
    assert done.get("status") == "done", done


def restore(server: ServerProcess, backup: str) -> None:
    plan = ask(server, "restore_database", backup_id=backup)
    done = ask(server, "restore_database", backup_id=backup, plan_token=plan.get("plan_token"))
    assert done.get("status") == "done", (plan, done)


def branches(server: ServerProcess, berth: Berth) -> Any:
    return ask(server, "list_branches", project=berth.shop)["items"]


def copies(server: ServerProcess, berth: Berth, engine_kind: str) -> Any:
    """What there is of branches, whatever the records say."""
    if engine_kind == "postgres":
        return strangers(server, berth)
    folder = Path(ask(server, "get_database", project=berth.shop)["address"]).parent
    return [path for path in folder.glob("branches/*") if path.is_file()]
