# ruff: noqa: S608  # rows are easier to read on one line; tables are named by the test
"""Databases of earlier versions, filled with data, become what a new one is; nothing in them is lost."""

import json
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from mcp_server.adapters.postgres.connections import Connections, ConnectionSettings
from mcp_server.adapters.postgres.migrations import Migrations, folder, read
from mcp_server.adapters.postgres.primary import PostgresPrimary
from tests.postgres.catalogue import catalogue
from tests.services.postgres import PostgresServer

VERSIONS = [migration.version for migration in read(folder())]
HASH = "A" * 64

# What the seed's server writes, and what somebody may have written by hand.
FILLED: dict[int, str] = {
    1: f"""
        INSERT INTO teams (id, name, slug, owner, plan, settings) VALUES
          ('team_abc123', 'My Team', 'my-team', 'owner@example.com', 'free',
            '{{"notifications": {{"slack": "https://hooks.example/x", "mail": "y"}}, "theme": "dark"}}'),
          ('team-abc123', 'Twin', 'my_team', 'o', 'gold', NULL), ('ok', '', 'ok', '', NULL, '[]');
        INSERT INTO team_members (id, team_id, email, role) VALUES
          ('m1', 'team_abc123', 'a@example.com', 'admin'), ('m2', 'ok', 'b@example.com', 'boss'), ('m3', NULL, 'c', 'x');
        INSERT INTO api_keys (id, key_hash, key_prefix, name, team_id, role, scopes, rate_limit) VALUES
          ('k1', '{HASH}', 'codeb_', 'Deploy', 'team_abc123', 'member', '["deploy"]', '{{"max": 5}}'),
          ('k2', '{"b" * 64}', 'codeb_', '', 'ok', 'root', '"all"', '60'), ('k3', 'short', 'c', 'n', 'ok', 'owner', '[]', NULL);
        INSERT INTO projects (name, team_id, type, database_name, database_port) VALUES
          ('my-app', 'team_abc123', 'nextjs', 'my_app_db', 5433), ('My_App', 'ok', 'rust', NULL, NULL),
          ('loose', NULL, NULL, NULL, NULL);
        INSERT INTO project_slots (project_name, environment, blue_state, blue_port, green_state) VALUES
          ('my-app', 'production', 'active', 4100, 'odd'), ('My_App', 'qa', 'empty', NULL, 'empty'),
          ('loose', 'staging', NULL, NULL, NULL);
        INSERT INTO deployments (id, project_name, environment, slot, status, steps) VALUES
          ('d1', 'my-app', 'production', 'blue', 'success',
            '[{{"name": "pull", "status": "success", "duration": 3000}}, {{"name": "x", "status": "odd", "output": "o"}}]'),
          ('d2', 'My_App', 'staging', 'green', 'unknown', NULL);
        INSERT INTO audit_logs (id, team_id, action, params) VALUES ('a1', 'team_abc123', 'deploy_project', '{{"a": 1}}');
        """,
    2: """
        INSERT INTO domains (domain, project_name, type, ssl_enabled) VALUES
          ('app.example.com', 'my-app', 'subdomain', NULL), ('x.example.com', 'loose', 'odd', true);
        INSERT INTO project_envs (project_name, environment, env_data, version) VALUES
          ('my-app', 'production', '{"A": "1", "B": 2, "C": null}', 7), ('My_App', 'staging', '[1]', NULL);
        """,
    3: """
        INSERT INTO work_tasks (team_id, project_name, title, author, status, affected_files, progress_notes) VALUES
          ('team_abc123', 'my-app', 'T', 'ann', 'in-progress', '["a.py", 1]',
            '[{"date": "2025-01-15", "note": "begun", "author": "ann"}, {"date": "soon", "note": ""}, "bare"]'),
          (NULL, 'My_App', '', 'bob', 'odd', NULL, NULL), (NULL, NULL, 'lost', 'eve', 'draft', '[]', '[]');
        INSERT INTO work_task_files (task_id, file_path, lock_type, status) VALUES
          (1, 'a.py', 'editing', 'locked'), (2, 'a.py', 'editing', 'locked'), (1, 'a.py', 'editing', 'locked'),
          (1, 'b.py', 'reading', 'odd'), (1, 'c.py', 'editing', 'released'), (NULL, 'd.py', 'editing', 'locked'),
          (3, 'e.py', 'editing', 'locked');
        """,
}


async def up(url: str, directory: Path | None = None) -> None:
    await Migrations(Connections(ConnectionSettings(url)), directory=directory).up()


async def old_database(url: str, version: int, scratch: Path) -> None:
    directory = shutil.copytree(folder(), scratch / f"to-{version}")
    for migration in read(directory)[version:]:
        (directory / migration.name).unlink()
    await up(url, directory)
    for number in range(1, min(version, 3) + 1):
        await _execute(url, FILLED[number])


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _fetch(url: str, sql: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_the_schema_from_empty_equals_the_schema_upgraded_from_an_earlier_version_with_data(
    database_url: str, postgres: PostgresServer, tmp_path: Path, version: int
) -> None:
    other = postgres.create_database(f"t_from_{version}_{tmp_path.name.replace('-', '_')}"[:60].lower())
    try:
        await old_database(other, version, tmp_path)
        await up(other)
        await up(database_url)
        assert await catalogue(other) == await catalogue(database_url)
    finally:
        postgres.drop_database(other.rsplit("/", 1)[1])


@pytest.mark.parametrize("version", [version for version in VERSIONS[:-1] if version >= 4])
async def test_every_version_between_upgrades_to_the_last(
    database_url: str, tmp_path: Path, version: int
) -> None:
    await old_database(database_url, 3, tmp_path)
    directory = shutil.copytree(folder(), tmp_path / "between")
    for migration in read(directory)[version:]:
        (directory / migration.name).unlink()
    await up(database_url, directory)
    await up(database_url)
    assert len(await _fetch(database_url, "SELECT version FROM schema_migrations")) == len(VERSIONS)


async def test_every_row_of_an_earlier_version_is_a_record_or_a_left_over(
    database_url: str, tmp_path: Path
) -> None:
    await old_database(database_url, 3, tmp_path)
    tables = {
        "teams": 3,
        "team_members": 3,
        "api_keys": 3,
        "projects": 3,
        "project_slots": 3,
        "deployments": 2,
    }
    tables |= {"domains": 2, "project_envs": 2, "work_tasks": 3, "work_task_files": 7, "audit_logs": 1}
    await up(database_url)
    for table, before in tables.items():
        (now,) = await _fetch(database_url, f"SELECT count(*) FROM {table}")
        (left,) = await _fetch(
            database_url,
            f"SELECT count(*) FROM upgrade_leftovers WHERE table_name = '{table}' AND reason LIKE 'no %'",
        )
        assert (table, now[0] + left[0]) == (table, before)


async def test_upgraded_rows_are_records_with_sensible_values(database_url: str, tmp_path: Path) -> None:
    await old_database(database_url, 3, tmp_path)
    primary = PostgresPrimary(database_url)
    try:
        await primary.prepare()
        records = (await primary.everything()).records
    finally:
        await primary.close()
    by = {(record.noun, record.key): json.loads(record.model_dump_json()) for record in records}
    teams = sorted(key for noun, key in by if noun == "teams")
    assert len(teams) == 3
    assert "team-abc123" in teams
    assert "ok" in teams
    renamed = by["projects", "my-app"]["team_id"]
    assert by["teams", renamed]["slug"] == "my-team"
    assert by["teams", renamed]["settings"]["notifications"]["slack"] == "https://hooks.example/x"
    assert by["teams", "team-abc123"]["plan"] == "free"
    assert by["members", "m2"]["role"] == "viewer"
    assert (
        by["keys", "k1"] | {"key_hash": "a" * 64, "scopes": ["deploy"], "rate_limit": None}
        == by["keys", "k1"]
    )
    assert by["keys", "k2"]["revoked_at"]
    assert by["keys", "k2"]["role"] == "viewer"
    assert ("keys", "k3") not in by
    assert by["projects", _renamed_project(by)]["type"] == "nextjs"
    assert by["slots", "my-app/production"]["blue"]["port"] == 4100
    assert by["slots", "my-app/production"]["green"]["state"] == "empty"
    assert [step["status"] for step in by["deployments", "d1"]["steps"]] == ["success", "success"]
    assert by["deployments", "d2"]["status"] == "failed"
    assert by["domains", "app.example.com"]["ssl_enabled"] is True
    assert by["environments", "my-app/production"]["env_data"] == {"A": "1", "B": "2", "C": ""}
    assert by["environment_versions", "my-app/production/7"]["env_data"] == {"A": "1", "B": "2", "C": ""}
    task = by["tasks", "task-1"]
    assert task["affected_files"] == ["a.py", "1"]
    assert [note["note"] for note in task["progress_notes"]] == ["begun", "(empty)", "bare"]
    assert task["progress_notes"][0]["date"].startswith("2025-01-15")
    assert by["tasks", "task-2"]["title"] == "(untitled)"
    locks = {key: record for (noun, key), record in by.items() if noun == "locks"}
    assert {record["path"] for record in locks.values() if record["project"] == "my-app"} == {"a.py", "b.py"}
    assert locks["lock-1"]["task_id"] == "task-1"
    assert "lock-3" not in locks
    assert by["lock_scopes", "my-app"]["fence"] >= max(record["fence"] for record in locks.values())


def _renamed_project(by: dict[tuple[str, str], Any]) -> str:
    """'My_App' would be 'my-app', which is taken."""
    (name,) = [key for noun, key in by if noun == "projects" and key != "my-app"]
    assert name.startswith("project-")
    return name


async def test_audit_rows_follow_their_renamed_team(database_url: str, tmp_path: Path) -> None:
    await old_database(database_url, 3, tmp_path)
    await up(database_url)
    (row,) = await _fetch(
        database_url, "SELECT a.team_id = t.id FROM audit_logs a JOIN teams t ON t.slug = 'my-team'"
    )
    assert row == (True,)
