"""Prompts, resources, completions and what the server says of itself."""

from __future__ import annotations

import json
import re

import pytest
from mcp import MCPError
from mcp.types import (
    INVALID_PARAMS,
    PromptReference,
    ResourceTemplateReference,
    TextContent,
    TextResourceContents,
)

from mcp_server.domain.callers import Caller
from mcp_server.domain.toolsets import TOOLSETS
from tests.tools.desk import ERAS, opened

both_eras = pytest.mark.parametrize("era", ERAS)


@both_eras
async def test_the_instructions_teach_the_work_cycle(tmp_path, era):
    async with opened(tmp_path) as desk, desk.client(era=era) as client:
        steps = ["create_task", "lock_files", "LOCKED", "renews", "done", "idempotency_key", "plan_token"]
        found = [(client.instructions or "").find(step) for step in steps]
        assert found == sorted(found)
        assert -1 not in found
        assert len(client.instructions or "") / 4 < 350


@both_eras
async def test_prompts_are_filled_in(tmp_path, era):
    async with opened(tmp_path) as desk, desk.client(era=era) as client:
        listed = {prompt.name: prompt for prompt in (await client.list_prompts()).prompts}
        assert set(listed) == {"start_work", "finish_work", "review_project"}
        assert all(prompt.description for prompt in listed.values())
        got = await client.get_prompt("start_work", {"project": "shop", "goal": "faster {basket}"})
        content = got.messages[0].content
        assert isinstance(content, TextContent)
        assert content.text.startswith("Work on project shop: faster {basket}")


@both_eras
async def test_prompts_name_only_tools_that_everybody_is_shown(tmp_path, era):
    filled = {"project": "shop", "goal": "speed", "task_id": "task-1"}
    async with opened(tmp_path) as desk, desk.client(era=era) as client:
        shown = {tool.name for tool in (await client.list_tools()).tools}
        for prompt in (await client.list_prompts()).prompts:
            arguments = {each.name: filled[each.name] for each in prompt.arguments or ()}
            content = (await client.get_prompt(prompt.name, arguments)).messages[0].content
            assert isinstance(content, TextContent)
            named = set(re.findall(r"\b[a-z]+_[a-z_]+\b", content.text)) - {"task_id"}
            assert named
            assert named <= shown, "the prompt sends an agent to a tool that it may not have"


async def test_locking_again_shows_which_file_was_changed_without_a_lock(tmp_path):
    """What the prompt finish_work relies on."""
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        task = await desk.done("create_task", {"project": "shop", "title": "Basket"})
        mine = {"project": "shop", "task_id": task["id"]}
        held = await desk.done("lock_files", {**mine, "paths": ["a", "b"]})
        again = await desk.done("lock_files", {**mine, "paths": ["b", "a"]})
        assert again["fence"] == held["fence"]
        more = await desk.done("lock_files", {**mine, "paths": ["a", "b", "c"]})
        assert more["fence"] > held["fence"]


@both_eras
async def test_finishing_asks_for_the_locks_of_the_changed_files(tmp_path, era):
    async with opened(tmp_path) as desk, desk.client(era=era) as client:
        got = await client.get_prompt("finish_work", {"project": "shop", "task_id": "task-1"})
        content = got.messages[0].content
        assert isinstance(content, TextContent)
        assert "lock_files" in content.text
        assert "fence" in content.text


@both_eras
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("none", {}), ("start_work", {"project": "shop"}), ("review_project", {"project": "a", "more": "b"})],
)
async def test_a_wrong_prompt_is_an_error_of_its_parameters(tmp_path, era, name, arguments):
    async with opened(tmp_path) as desk, desk.client(era=era) as client:
        with pytest.raises(MCPError) as refused:
            await client.get_prompt(name, arguments)
        assert refused.value.code == INVALID_PARAMS


@both_eras
async def test_a_project_and_its_locks_are_resources(tmp_path, era):
    async with opened(tmp_path) as desk, desk.client(era=era) as client:
        await desk.done("create_project", {"name": "shop"})
        await desk.done("lock_files", {"project": "shop", "paths": ["a"]})
        templates = [
            each.uri_template for each in (await client.list_resource_templates()).resource_templates
        ]
        assert templates == ["quaymaster://projects/{name}", "quaymaster://locks/{project}"]
        for uri, look in (
            ("quaymaster://projects/shop", lambda body: body["name"] == "shop"),
            ("quaymaster://locks/shop", lambda body: [lock["path"] for lock in body["locks"]] == ["a"]),
        ):
            [content] = (await client.read_resource(uri)).contents
            assert isinstance(content, TextResourceContents)
            assert content.mime_type == "application/json"
            assert look(json.loads(content.text))


@both_eras
@pytest.mark.parametrize(
    "uri", ["quaymaster://projects/none", "quaymaster://projects/--", "quaymaster://else/a"]
)
async def test_a_resource_that_is_not_there_is_an_error_of_its_parameters(tmp_path, era, uri):
    async with opened(tmp_path) as desk, desk.client(era=era) as client:
        with pytest.raises(MCPError) as refused:
            await client.read_resource(uri)
        assert (refused.value.code, refused.value.data["uri"]) == (INVALID_PARAMS, uri)


async def test_another_teams_project_is_no_resource(tmp_path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        async with desk.client(await desk.other_team()) as client:
            with pytest.raises(MCPError) as refused:
                await client.read_resource("quaymaster://projects/shop")
            assert refused.value.code == INVALID_PARAMS
            found = await client.complete(
                PromptReference(name="start_work"), {"name": "project", "value": ""}
            )
            assert found.completion.values == []


async def test_a_key_without_the_scope_neither_sees_nor_reads_a_resource(tmp_path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        caller = Caller(team_id="local", role="owner", user="u", key_id="k1", scopes=("projects",))
        async with desk.client(caller) as client:
            templates = (await client.list_resource_templates()).resource_templates
            assert [each.uri_template for each in templates] == ["quaymaster://projects/{name}"]
            with pytest.raises(MCPError) as refused:
                await client.read_resource("quaymaster://locks/shop")
            assert refused.value.data["code"] == "FORBIDDEN"


@both_eras
async def test_project_names_are_completed(tmp_path, era):
    async with opened(tmp_path) as desk, desk.client(era=era) as client:
        for name in ("shop", "shed", "blog"):
            await desk.done("create_project", {"name": name})
        references = (
            (PromptReference(name="start_work"), "project"),
            (ResourceTemplateReference(uri="quaymaster://projects/{name}"), "name"),
            (ResourceTemplateReference(uri="quaymaster://locks/{project}"), "project"),
        )
        for reference, argument in references:
            found = await client.complete(reference, {"name": argument, "value": "sh"})
            assert found.completion.values == ["shed", "shop"]
        assert (
            await client.complete(references[0][0], {"name": "goal", "value": ""})
        ).completion.values == []


@both_eras
async def test_a_client_sees_and_calls_only_the_toolsets_it_asked_for(tmp_path, era):
    async with (
        opened(tmp_path) as desk,
        desk.client(era=era, toolsets=frozenset({"audit", "system"})) as client,
    ):
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == ["infrastructure_status", "list_conflicts", "resolve_conflict", "query_audit"]
        status = (await client.call_tool("infrastructure_status", {})).structured_content
        assert status["toolsets"] == ["audit", "system"]
        assert set(status["hidden_toolsets"]) == set(TOOLSETS) - {"audit", "system"}
        hidden = await client.call_tool("create_project", {"name": "shop"})
        assert hidden.is_error
        assert "/mcp?toolsets=all" in hidden.structured_content["next"]
        unknown = await client.call_tool("create_projekt", {"name": "shop"})
        assert unknown.structured_content["next"] == hidden.structured_content["next"]
    async with opened(tmp_path) as desk:
        assert (await desk.done("list_projects"))["items"] == []
