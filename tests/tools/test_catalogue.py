"""What is said of every tool: its name, its rules, its price."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mcp_server.domain import degraded, grants
from mcp_server.domain.toolsets import TOOLSETS
from mcp_server.tools.catalogue import Catalogue, Tool
from mcp_server.tools.reference import render
from mcp_server.tools.toolsets import shows
from tests.tools.desk import opened

DEFAULT = {
    "infrastructure_status", "create_project", "get_project", "list_projects", "create_task", "update_task",
    "list_tasks", "lock_files", "release_files", "check_files",
    "create_database", "get_database", "delete_database", "query_database",
    "deploy_project", "promote", "rollback", "slot_status", "deployment_logs", "set_environment", "get_environment",
}  # fmt: skip
PLANNED = {"cleanup_slot", "delete_project", "delete_database", "delete_team", "take_over_locks", "resolve_conflict",
    "remove_domain", "query_database", "restore_database", "drop_branch", "promote_database_to_postgres",
    "execute_sql", "apply_migration", "rollback_migration", "pull_schema", "push_schema",
}  # fmt: skip
BUDGET = {"default": 3_000, "all": 12_000}
AIM = {"default": 2_900, "all": 9_000}
"""Below the budget, since later tools come on top."""


@pytest.fixture
async def catalogue(tmp_path) -> Catalogue:
    async with opened(tmp_path) as desk:
        return desk.server.catalogue


async def test_every_tool_is_in_the_grants_and_in_the_table_of_the_degraded_mode(catalogue):
    names = {tool.name for tool in catalogue}
    assert names == set(grants.GRANTS)
    assert names <= set(degraded.ACTIONS)


async def test_the_default_toolset_is_the_documented_one(catalogue):
    assert {tool.name for tool in catalogue if tool.default} == DEFAULT


async def test_every_toolset_has_tools(catalogue):
    assert {tool.toolset for tool in catalogue} == set(TOOLSETS)


async def test_every_tool_says_what_it_does_and_to_what(catalogue):
    for tool in catalogue:
        listed, hints = tool.listed, tool.listed.annotations
        assert 5 <= len(listed.description or "") <= 120, tool.name
        assert hints is not None, tool.name
        assert (hints.read_only_hint is None, hints.open_world_hint) == (False, False), tool.name
        if not hints.read_only_hint:
            assert None not in (hints.destructive_hint, hints.idempotent_hint), tool.name


async def test_every_tool_that_changes_takes_an_idempotency_key_and_no_other_does(catalogue):
    for tool in catalogue:
        reads = tool.annotations.read_only_hint
        assert ("idempotency_key" in _arguments(tool)) != reads, tool.name


async def test_destructive_tools_go_by_plan(catalogue):
    assert {tool.name for tool in catalogue if "plan_token" in _arguments(tool)} == PLANNED
    assert all(tool.annotations.destructive_hint for tool in catalogue if tool.name in PLANNED)


async def test_schemas_are_valid_and_hold_no_noise(catalogue):
    for tool in catalogue:
        for schema in (tool.listed.input_schema, tool.listed.output_schema):
            jsonschema.Draft202012Validator.check_schema(schema)
        assert tool.listed.input_schema["additionalProperties"] is False
        for name, argument in _arguments(tool).items():
            assert {"title", "anyOf"}.isdisjoint(argument), (tool.name, name)
            assert argument.get("default", 1) not in (None, "", []), (tool.name, name)


@pytest.mark.parametrize("toolset", ["default", "all"])
async def test_the_tool_list_is_within_its_token_budget(catalogue, toolset):
    shown = [tool for tool in catalogue if shows(frozenset({toolset}), tool.toolset, default=tool.default)]
    text = json.dumps([_priced(tool) for tool in shown], separators=(",", ":"), ensure_ascii=False)
    tokens = len(text.encode()) / 4
    assert tokens <= AIM[toolset] <= BUDGET[toolset], f"{toolset}: {tokens:.0f}"


async def test_the_page_of_the_tools_is_current(catalogue):
    page = Path(__file__).parents[2] / "docs" / "tools.md"
    assert page.read_text(encoding="utf-8") == render(catalogue), "run: make generate"


def _arguments(tool: Tool) -> dict[str, Any]:
    return dict(tool.listed.input_schema["properties"])


def _priced(tool: Tool) -> dict[str, Any]:
    listed = tool.listed
    return {"name": listed.name, "description": listed.description, "inputSchema": listed.input_schema}


async def test_a_destructive_tool_has_a_plan_or_says_that_it_acts_at_once(tmp_path):
    async with opened(tmp_path) as desk:
        destructive = [tool for tool in desk.server.catalogue if tool.annotations.destructive_hint]
        unplanned = [tool for tool in destructive if "plan_token" not in tool.extra]
        assert {tool.name for tool in unplanned} == {
            "remove_member",
            "revoke_key",
            "rotate_database_password",
            "rotate_key",
        }
        assert [tool.name for tool in unplanned if "at once" not in (tool.listed.description or "")] == []
