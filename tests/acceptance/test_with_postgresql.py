"""The commands and both transports with PostgreSQL as the store."""

from __future__ import annotations

import json

from tests.acceptance.wire import done, make_key, over_http, over_stdio, refused
from tests.services.processes import ServerProcess, run_quaymaster


def store(url: str) -> dict[str, str]:
    return {"QUAYMASTER_DATABASE_URL": url}


def test_migrations_are_listed_and_applied_by_command(tmp_path, database_url):
    settings = store(database_url)
    before = run_quaymaster("migrate", "status", "--json", home=tmp_path, settings=settings)
    assert (before.returncode, {row["state"] for row in json.loads(before.stdout)}) == (0, {"pending"})
    after = run_quaymaster("migrate", "up", "--json", home=tmp_path, settings=settings)
    assert (after.returncode, {row["state"] for row in json.loads(after.stdout)}) == (0, {"applied"})
    doctor = run_quaymaster("doctor", home=tmp_path, settings=settings)
    assert doctor.returncode == 0, doctor.stdout


def test_without_a_key_stdio_does_not_start_and_says_how_to_get_one(tmp_path, database_url):
    ended = run_quaymaster("stdio", home=tmp_path, settings=store(database_url))
    assert (ended.returncode, ended.stdout) == (4, "")
    assert "QUAYMASTER_API_KEY" in ended.stderr
    assert "quaymaster keys create" in ended.stderr


def test_a_home_that_mirrors_postgresql_takes_no_change_from_settings_that_name_none(tmp_path, database_url):
    settings = store(database_url)
    make_key(tmp_path, **settings)
    for command in (("keys", "create", "--team", "local", "--role", "member"), ("keys", "list"), ("stdio",)):
        refused = run_quaymaster(*command, home=tmp_path)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "QUAYMASTER_DATABASE_URL" in refused.stderr
    assert run_quaymaster("registry", "verify", home=tmp_path).returncode == 0
    listed = run_quaymaster("keys", "list", "--json", home=tmp_path, settings=settings)
    assert len(json.loads(listed.stdout)) == 1


async def test_two_homes_share_one_postgresql(tmp_path, database_url):
    settings = store(database_url)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    key = make_key(one, **settings)
    with ServerProcess.serve(home=two, settings=settings) as server:
        async with over_stdio(one, QUAYMASTER_API_KEY=key, **settings) as ann, over_http(server, key) as bo:
            await done(ann, "create_project", name="shop")
            held = await done(ann, "lock_files", project="shop", paths=["src/"], agent="ann")
            error = await refused(bo, "lock_files", project="shop", paths=["src/a.py"], agent="bo")
            assert error["conflicts"][0]["holder"] == held["holder"]
            status = await done(bo, "infrastructure_status")
            assert (status["mode"], status["status"]) == ("primary", "healthy")
            assert {"pool_total", "pool_idle", "pool_waiting"} <= set(status["gauges"])


async def test_embedded_data_is_not_forgotten_but_brought_over_on_request(tmp_path, database_url):
    settings = store(database_url)
    async with over_stdio(tmp_path) as client:
        await done(client, "create_project", name="shop")
        task = await done(client, "create_task", project="shop", title="Basket")
        held = await done(client, "lock_files", project="shop", paths=["a"], agent="ann")
    key = make_key(tmp_path)
    stopped = run_quaymaster("keys", "list", home=tmp_path, settings=settings)
    assert stopped.returncode == 2
    assert "quaymaster registry import" in stopped.stderr
    brought = run_quaymaster("registry", "import", home=tmp_path, settings=settings)
    assert brought.returncode == 0, brought.stderr
    name = (tmp_path / "edge" / "installation").read_text()
    async with over_stdio(tmp_path, QUAYMASTER_API_KEY=key, **settings) as client:
        assert (tmp_path / "edge" / "installation").read_text() == name
        assert (await done(client, "get_task", task_id=task["id"]))["title"] == "Basket"
        assert (await done(client, "infrastructure_status"))["mode"] == "primary"
        error = await refused(client, "lock_files", project="shop", paths=["a"], agent="ann")
        assert error["conflicts"][0]["holder"] == held["holder"]
        await done(client, "take_over_locks", project="shop", paths=["a"], reason="same person")
        free = await done(client, "lock_files", project="shop", paths=["b"], agent="ann")
        assert free["fence"] > held["fence"]
    again = run_quaymaster("registry", "import", home=tmp_path, settings=settings)
    assert again.returncode == 4
    assert "holds teams already" in again.stderr


def test_a_wrong_address_of_postgresql_is_a_sentence(tmp_path):
    ended = run_quaymaster(
        "keys", "list", home=tmp_path, settings=store("postgresql://me:hunter2@127.0.0.1:1/none")
    )
    assert ended.returncode == 1
    assert "PostgreSQL cannot be reached" in ended.stderr
    assert "hunter2" not in ended.stderr
    assert "Traceback" not in ended.stderr
