"""For every tool a call that succeeds, made in an order in which each finds what it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from tests.tools.desk import Desk

NEEDS_AN_ENGINE = {"stop_database", "rotate_database_password", "database_logs"} | {
    "deployment_logs",
    "promote",
    "rollback",
    "cleanup_slot",
    "build_image",
    "promote_database_to_postgres",
    "apply_database_template",
}
"""Refused without one: `tests/databases` and `tests/deployments` call them on an engine."""

NAMES_AN_OBJECT: dict[str, dict[str, Any]] = {
    "get_project": {"name": "shop"},
    "update_project": {"name": "shop", "description": "x"},
    "delete_project": {"name": "shop"},
    "create_database": {"project": "shop"},
    "get_database": {"project": "shop"},
    "list_databases": {"project": "shop"},
    "start_database": {"project": "shop"},
    "stop_database": {"project": "shop"},
    "delete_database": {"project": "shop"},
    "rotate_database_password": {"project": "shop"},
    "database_logs": {"project": "shop"},
    "query_database": {"project": "shop", "sql": "SELECT 1"},
    "database_stats": {"project": "shop"},
    "backup_database": {"project": "shop"},
    "apply_database_template": {"project": "shop", "template": "chat"},
    "branch_database": {"project": "shop", "name": "try"},
    "list_branches": {"project": "shop"},
    "drop_branch": {"project": "shop", "name": "try"},
    "promote_database_to_postgres": {"project": "shop"},
    "add_domain": {"project": "shop", "domain": "shop.example.net"},
    "verify_domain": {"domain": "shop.example.net"},
    "list_domains": {"project": "shop"},
    "remove_domain": {"domain": "shop.example.net"},
    "deploy_project": {"project": "shop", "image": "app:1"},
    "list_deployments": {"project": "shop"},
    "slot_status": {"project": "shop"},
    "deployment_logs": {"project": "shop"},
    "promote": {"project": "shop"},
    "rollback": {"project": "shop", "reason": "r"},
    "cleanup_slot": {"project": "shop"},
    "build_image": {"project": "shop"},
    "set_environment": {"project": "shop", "variables": {"A": "1"}},
    "get_environment": {"project": "shop"},
    "environment_history": {"project": "shop"},
    "diff_environment": {"project": "shop", "from_version": 0},
    "restore_environment": {"project": "shop", "version": 1},
    "unset_environment": {"project": "shop", "names": ["A"]},
    "schema_status": {"project": "shop"},
    "plan_migration": {"project": "shop", "database": "app"},
    "apply_migration": {"project": "shop", "database": "app"},
    "rollback_migration": {"project": "shop", "database": "app", "target": "base"},
    "push_schema": {"project": "shop", "database": "app"},
    "pull_schema": {"project": "shop", "database": "app"},
    "seed_database": {"project": "shop", "database": "app"},
    "validate_schema": {"project": "shop", "database": "app"},
    "execute_sql": {"project": "shop", "database": "app", "sql": "SELECT 1"},
    "create_task": {"project": "shop", "title": "t"},
    "get_task": {"task_id": "TASK"},
    "list_tasks": {"project": "shop"},
    "update_task": {"task_id": "TASK", "note": "x"},
    "lock_files": {"project": "shop", "paths": ["a"]},
    "release_files": {"project": "shop"},
    "renew_locks": {"project": "shop"},
    "check_files": {"project": "shop", "paths": ["a"]},
    "list_locks": {"project": "shop"},
    "take_over_locks": {"project": "shop", "paths": ["a"], "reason": "r"},
    "get_team": {"team": "local"},
    "update_team": {"team": "local", "name": "x"},
    "delete_team": {"team": "local"},
    "update_member": {"member_id": "MEMBER", "role": "viewer"},
    "remove_member": {"member_id": "MEMBER"},
    "revoke_key": {"key_id": "KEY"},
    "rotate_key": {"key_id": "KEY"},
}
"""A call of every tool that names an object, here of the team `local`."""


async def cycle(desk: Desk) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """A call of every tool but `resolve_conflict` and those that need an engine. What a call needs of earlier ones is there when it is
    yielded."""
    yield "infrastructure_status", {}
    yield "create_project", {"name": "My Shop", "type": "python", "description": "d", "idempotency_key": "p"}
    yield "get_project", {"name": "my_shop"}
    yield "list_projects", {"limit": 10}
    yield "update_project", {"name": "my-shop", "description": "new"}
    yield "create_database", {"project": "my-shop", "engine": "sqlite"}
    yield "get_database", {"project": "my-shop", "reveal": True}
    yield "list_databases", {}
    yield "start_database", {"project": "my-shop"}
    yield "query_database", {"project": "my-shop", "sql": "SELECT ?, 'x'", "parameters": [1]}
    yield "database_stats", {"project": "my-shop", "explain": "SELECT 1"}
    yield "backup_database", {"project": "my-shop"}
    yield "list_backups", {"project": "my-shop"}
    backup = (await desk.done("list_backups"))["items"][0]["id"]
    yield "restore_database", {"backup_id": backup}
    yield "branch_database", {"project": "my-shop", "name": "try"}
    yield "list_branches", {"project": "my-shop"}
    yield "drop_branch", {"project": "my-shop", "name": "try"}
    yield "delete_database", {"project": "my-shop"}
    database = await desk.done("delete_database", {"project": "my-shop"})
    await desk.done("delete_database", {"project": "my-shop", "plan_token": database["plan_token"]})
    yield "add_domain", {"project": "my-shop", "domain": "www.example.net"}
    yield "verify_domain", {"domain": "www.example.net"}
    yield "list_domains", {"project": "my-shop"}
    yield "remove_domain", {"domain": "www.example.net"}
    yield "set_environment", {"project": "my-shop", "variables": {"A": "1"}, "dotenv_content": "B='2'"}
    yield "get_environment", {"project": "my-shop", "reveal": True}
    yield "unset_environment", {"project": "my-shop", "names": ["B"]}
    yield "restore_environment", {"project": "my-shop", "version": 1}
    yield "environment_history", {"project": "my-shop"}
    yield "diff_environment", {"project": "my-shop", "from_version": 1, "to_version": 2}
    yield "deploy_project", {"project": "my-shop", "image": "app:1", "changed_paths": ["src/a.py"]}
    deployment = (await desk.done("list_deployments", {"project": "my-shop"}))["deployments"][0]["id"]
    yield "list_deployments", {"project": "my-shop"}
    yield "get_deployment", {"deployment_id": deployment}
    yield "cancel_deployment", {"deployment_id": deployment}
    yield "slot_status", {"project": "my-shop"}
    async for each in _schemas(desk):
        yield each
    yield "create_task", {"project": "my-shop", "title": "Basket", "affected_files": ["src/a.py"]}
    task = (await desk.done("list_tasks", {"project": "my-shop"}))["tasks"][0]["id"]
    yield "list_tasks", {"project": "my-shop", "status": ["draft"]}
    yield "get_task", {"task_id": task}
    yield "update_task", {"task_id": task, "status": "in-progress", "note": "begun"}
    yield "check_files", {"project": "my-shop", "paths": ["src/**/*.py"]}
    yield "lock_files", {"project": "my-shop", "paths": ["src/a.py"], "task_id": task}
    yield "renew_locks", {"project": "my-shop", "task_id": task, "lease_seconds": 60}
    yield "list_locks", {"project": "my-shop"}
    yield "release_files", {"project": "my-shop", "paths": ["src/a.py"], "task_id": task}
    await desk.done("lock_files", {"project": "my-shop", "paths": ["docs/"], "agent": "other"})
    yield "take_over_locks", {"project": "my-shop", "paths": ["docs/"], "reason": "gone home"}
    yield "get_team", {}
    yield "list_teams", {}
    yield "update_team", {"name": "Us", "settings": {"deploymentDefaults": {"graceHours": 24}}}
    yield "create_team", {"name": "Them"}
    yield "delete_team", {}
    yield "add_member", {"email": "bo@example.org", "role": "viewer"}
    member = (await desk.done("list_members"))["items"][0]["id"]
    yield "list_members", {}
    yield "update_member", {"member_id": member, "role": "member"}
    yield "remove_member", {"member_id": member}
    yield "create_key", {"name": "ci", "role": "member", "scopes": ["tasks"]}
    key = next(each["id"] for each in (await desk.done("list_keys"))["items"] if each["name"] == "ci")
    yield "list_keys", {}
    yield "rotate_key", {"key_id": key}
    yield "revoke_key", {"key_id": key}
    yield "query_audit", {"limit": 5, "with_params": True}
    yield "list_conflicts", {}
    yield "delete_project", {"name": "my-shop"}


async def _schemas(desk: Desk) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The tools for a code base with one database."""
    root = desk.house.settings.home.parent / "coded"
    folder = root / "db" / "app"
    folder.mkdir(parents=True)
    (folder / "schema.sql").write_text("CREATE TABLE t (id integer);")
    (folder / "seed.sql").write_text("SELECT 1;")
    (root / ".env").write_text(f"RDS_APP_URL=sqlite:///{root}/app.db\n")
    await desk.done("create_project", {"name": "coded", "path": str(root)})
    app = {"project": "coded", "database": "app"}
    for name in ("schema_status", "plan_migration", "apply_migration", "push_schema", "pull_schema"):
        yield name, app
    yield "rollback_migration", app | {"target": "base"}
    yield "seed_database", app
    yield "validate_schema", app
    yield "execute_sql", app | {"sql": "SELECT 1 AS one"}
