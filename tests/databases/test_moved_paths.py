"""A project's directory goes another way, or the project gets another one: its SQLite file is where it was made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.tools.desk import Desk, opened

SHOP = {"project": "shop"}


@pytest.fixture
def places(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "places"
    for name in ("mine", "new"):
        (root / name).mkdir(parents=True)
    return root


async def filled(desk: Desk, path: Path | None) -> Any:
    more = {} if path is None else {"path": str(path)}
    await desk.done("create_project", {"name": "shop", **more})
    made = await desk.done("create_database", {**SHOP, "engine": "sqlite"})
    await desk.done("query_database", {**SHOP, "sql": "CREATE TABLE pets (id INTEGER)", "write": True})
    await desk.done("branch_database", {**SHOP, "name": "try"})
    return made


async def planned(desk: Desk, tool: str, arguments: dict[str, Any]) -> Any:
    plan = await desk.done(tool, arguments)
    done = await desk.done(tool, {**arguments, "plan_token": plan["plan_token"]})
    assert done["status"] == "done"
    return done


@pytest.mark.parametrize("before", ["mine", None])
async def test_a_project_that_gets_another_path_keeps_its_database_where_it_is(
    tmp_path: Path, places: Path, before: str | None
) -> None:
    async with opened(tmp_path / "home") as desk:
        made = await filled(desk, None if before is None else places / before)
        await desk.done("update_project", {"name": "shop", "path": str(places / "new")})
        assert f'DATABASE_URL="{made["url"]}"' in (places / "new" / ".env").read_text()
        if before is not None:
            assert "DATABASE_URL" not in (places / before / ".env").read_text()
        found = await desk.done("query_database", {**SHOP, "sql": "SELECT count(*) FROM pets"})
        assert found["rows"] == [[0]]
        assert (await desk.done("backup_database", SHOP))["state"] == "verified"
        await planned(desk, "drop_branch", {**SHOP, "name": "try"})
        await planned(desk, "delete_database", SHOP)
        assert not Path(made["address"]).exists()


@pytest.mark.parametrize("link", [".", "data"])
async def test_what_a_link_leads_to_by_now_is_not_deleted_with_the_database(
    tmp_path: Path, places: Path, link: str
) -> None:
    """Neither by the deletion nor with a branch, and the records go all the same."""
    victim = places / "victim"
    async with opened(tmp_path / "home") as desk:
        await filled(desk, places / "mine")
        [branch] = list((places / "mine" / "data" / "branches").glob("*.db"))
        old = places / "mine" / link
        old.rename(places / "old")
        victim.mkdir()
        old.symlink_to(victim)
        theirs = old / "data" if link == "." else old
        (theirs / "branches").mkdir(parents=True)
        for file in (theirs / "dev.db", theirs / "branches" / branch.name):
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("CREATE TABLE theirs (id INTEGER)")
        await planned(desk, "drop_branch", {**SHOP, "name": "try"})
        done = await planned(desk, "delete_database", {**SHOP, "final_backup": False})
        assert (await desk.done("list_databases"))["items"] == []
        left = [path.name for path in victim.rglob("*.db")]
        assert sorted(left) == sorted(["dev.db", branch.name])
        if link == ".":
            assert any("leads elsewhere" in effect for effect in done["effects"])
