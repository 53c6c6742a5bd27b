"""Every tool through a real client, in both eras of the protocol."""

from __future__ import annotations

import json

import jsonschema
import pytest

from mcp_server.domain.callers import Caller
from mcp_server.domain.grants import GRANTS, may
from mcp_server.domain.roles import ROLES
from tests.tools.desk import ERAS, opened, text_of
from tests.tools.samples import NAMES_AN_OBJECT, NEEDS_AN_ENGINE, cycle


@pytest.mark.parametrize("era", ERAS)
async def test_every_tool_succeeds_and_answers_what_its_schema_says(tmp_path, era):
    async with opened(tmp_path) as desk, desk.client(era=era) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        called = set()
        async for name, arguments in cycle(desk):
            if name == "delete_team":
                continue
            result = await client.call_tool(name, arguments)
            assert not result.is_error, (name, result.structured_content)
            jsonschema.validate(arguments, listed[name].input_schema)
            jsonschema.validate(result.structured_content, listed[name].output_schema or False)
            assert text_of(result)
            called.add(name)
        assert called == set(listed) - {"delete_team", "resolve_conflict"} - NEEDS_AN_ENGINE


async def test_every_refusal_has_code_message_and_next(tmp_path):
    async with opened(tmp_path) as desk:
        for tool in desk.server.catalogue:
            result = await desk.call(tool.name, {"no_such_argument": "s3cr3t-value"})
            error = result.structured_content
            assert (result.is_error, error["code"]) == (True, "INVALID"), tool.name
            assert error["message"]
            assert error["next"]
            assert "no_such_argument" in error["fields"]
            assert "s3cr3t-value" not in result.model_dump_json()
            jsonschema.validate(error, tool.listed.output_schema or False)


async def test_a_refused_argument_is_named_with_its_rule_and_never_quoted(tmp_path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        refused = {
            "lease_seconds": "greater than or equal to 10",
            "mode": "'editing' or 'reviewing'",
        }
        arguments = {"project": "shop", "paths": ["a"], "lease_seconds": 3, "mode": "hunter2"}
        result = await desk.call("lock_files", arguments)
        for field, rule in refused.items():
            assert rule in result.structured_content["fields"][field]
        assert "hunter2" not in result.model_dump_json()


async def test_lists_and_objects_may_come_as_their_json_text(tmp_path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        locked = await desk.done("lock_files", {"project": "shop", "paths": '["a.py"]'})
        assert [lock["path"] for lock in locked["locks"]] == ["a.py"]


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
async def test_text_that_no_store_can_keep_is_refused(tmp_path, text):
    async with opened(tmp_path) as desk:
        result = await desk.call("create_project", {"name": "shop", "description": text})
        assert result.structured_content["fields"] == {
            "description": "text without NUL and without unpaired surrogates"
        }


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("era", ERAS)
async def test_a_role_sees_and_calls_exactly_what_it_may(tmp_path, role, era):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        caller = Caller(team_id="local", role=role, user="u", key_id="k1")
        async with desk.client(caller, era=era) as client:
            seen = {tool.name for tool in (await client.list_tools()).tools}
            assert seen == {name for name in GRANTS if may(caller, name)}
            for name in GRANTS:
                result = await client.call_tool(name, {})
                assert ("Unknown tool" in text_of(result)) == (name not in seen), name


async def test_a_hidden_tool_is_refused_in_the_words_for_one_that_does_not_exist(tmp_path):
    async with opened(tmp_path) as desk:
        viewer = Caller(team_id="local", role="viewer", user="u", key_id="k1")
        by_role = await desk.call("rotate_key", {}, caller=viewer)
        unknown = await desk.call("rotate_kez", {}, caller=viewer)
        assert json.loads(by_role.model_dump_json().replace("rotate_key", "rotate_kez")) == json.loads(
            unknown.model_dump_json()
        )


async def test_a_key_with_scopes_sees_only_their_tools(tmp_path):
    async with opened(tmp_path) as desk:
        caller = Caller(team_id="local", role="owner", user="u", key_id="k1", scopes=("tasks", "get_project"))
        async with desk.client(caller) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {"create_task", "get_task", "list_tasks", "update_task", "get_project"}


async def test_nothing_of_another_team_is_found(tmp_path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        task = (await desk.done("create_task", {"project": "shop", "title": "t"}))["id"]
        member = (await desk.done("add_member", {"email": "a@b.c"}))["id"]
        key = (await desk.done("create_key", {"name": "k"}))["id"]
        await desk.done("lock_files", {"project": "shop", "paths": ["a"]})
        ids = {"TASK": task, "MEMBER": member, "KEY": key}
        stranger = await desk.other_team()
        for name, sample in NAMES_AN_OBJECT.items():
            arguments = {key: ids.get(str(value), value) for key, value in sample.items()}
            result = await desk.call(name, arguments, caller=stranger)
            assert result.structured_content["code"] == "NOT_FOUND", name
            own = await desk.call(name, arguments)
            if name in NEEDS_AN_ENGINE:
                continue
            # "shop" has no database and no folder, so some tools find it and can do nothing.
            assert not own.is_error or own.structured_content["code"] in ("CONFLICT", "INVALID"), (
                name,
                own.structured_content,
            )
            if name == "delete_project":
                assert own.structured_content["status"] == "planned"
        for name in ("list_projects", "list_members", "list_conflicts"):
            assert (await desk.done(name, caller=stranger))["items"] == []
        assert [each["id"] for each in (await desk.done("list_teams", caller=stranger))["items"]] == [
            stranger.team_id
        ]
