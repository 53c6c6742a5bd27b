"""Every code that a caller can meet, and what an unexpected failure shows."""

from __future__ import annotations

import logging

import jsonschema
import pytest
from mcp import MCPError

from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Corrupt, Degraded, OutcomeUnknown, Unavailable
from tests.tools.desk import ERAS, OWNER, Desk, opened, text_of


async def code(desk: Desk, name: str, arguments: dict[str, object], *, caller: Caller = OWNER) -> str:
    result = await desk.call(name, arguments, caller=caller)
    assert result.is_error
    assert result.structured_content is not None
    return str(result.structured_content["code"])


async def test_locked_names_each_holder_and_the_text_says_it_too(tmp_path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        await desk.done("lock_files", {"project": "shop", "paths": ["src/"], "agent": "bo"})
        result = await desk.call("lock_files", {"project": "shop", "paths": ["src/a.py"], "agent": "cy"})
        error = result.structured_content
        assert error["code"] == "LOCKED"
        [conflict] = error["conflicts"]
        assert conflict["held"] == "src/"
        assert conflict["holder"].endswith("agent:bo")
        assert "agent:bo" in text_of(result)
        assert error["next"] in text_of(result)
        tool = desk.server.catalogue.get("lock_files")
        assert tool is not None
        jsonschema.validate(error, tool.listed.output_schema or False)


async def test_conflict_not_found_forbidden_and_quota_have_their_codes(tmp_path):
    async with opened(tmp_path, quota_projects="1") as desk:
        await desk.done("create_project", {"name": "shop"})
        assert await code(desk, "create_project", {"name": "shop"}) == "CONFLICT"
        assert await code(desk, "create_project", {"name": "two"}) == "QUOTA_EXCEEDED"
        assert await code(desk, "get_project", {"name": "none"}) == "NOT_FOUND"
        assert await code(desk, "create_project", {"name": "--"}) == "INVALID"
        admin = Caller(team_id="local", role="admin", user="u", key_id="k1")
        assert await code(desk, "create_key", {"name": "k", "role": "owner"}, caller=admin) == "FORBIDDEN"


async def test_the_quota_of_members_is_the_one_that_the_settings_give(tmp_path):
    async with opened(tmp_path, quota_members="1") as desk:
        await desk.done("add_member", {"email": "ann@example.org"})
        assert await code(desk, "add_member", {"email": "bo@example.org"}) == "QUOTA_EXCEEDED"


async def test_a_rate_limit_is_told_with_how_long_to_wait_also_to_wrong_calls(tmp_path):
    async with opened(tmp_path) as desk:
        caller = Caller(team_id="local", role="owner", user="u", key_id="k1", rate_limit=3, transport="http")
        for name in ("list_projects", "no_such_tool", "get_project"):
            await desk.call(name, {}, caller=caller)
        for name in ("list_projects", "no_such_tool", "get_project"):
            result = await desk.call(name, {}, caller=caller)
            assert result.structured_content["code"] == "RATE_LIMITED", name
            assert 1 <= result.structured_content["retry_after"] <= 60


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("what", ["tools", "prompts", "resources", "resource_templates", "a prompt"])
async def test_what_is_listed_counts_against_the_rate_limit_as_calls_do(tmp_path, what: str, era: str):
    caller = Caller(team_id="local", role="owner", user="u", key_id="k1", rate_limit=5, transport="http")
    async with opened(tmp_path) as desk, desk.client(caller, era=era) as client:

        async def ask() -> None:
            if what == "a prompt":
                await client.get_prompt("review_project", {"project": "shop"})
            else:
                await getattr(client, f"list_{what}")(cache_mode="bypass")

        for _ in range(5):
            await ask()
        with pytest.raises(MCPError) as refused:
            await ask()
        assert refused.value.error.data["code"] == "RATE_LIMITED"
        assert 1 <= refused.value.error.data["retry_after"] <= 60
        result = await desk.call("list_projects", {}, caller=caller)
        assert result.structured_content["code"] == "RATE_LIMITED"


@pytest.mark.parametrize("error", [Unavailable, Degraded, OutcomeUnknown, Corrupt])
async def test_trouble_with_the_store_is_told_by_its_code(tmp_path, monkeypatch, error):
    async def fails(fn: object) -> None:
        raise error("the store is away")

    async with opened(tmp_path) as desk:
        monkeypatch.setattr(type(desk.house.store), "read", lambda self, fn: fails(fn))
        assert await code(desk, "list_projects", {}) == error.code


@pytest.mark.parametrize("era", ERAS)
async def test_an_unexpected_failure_shows_a_reference_that_the_log_has_and_no_detail(
    tmp_path, monkeypatch, caplog, era
):
    async def fails(*args: object, **named: object) -> None:
        raise RuntimeError("postgres://user:hunter2@host")

    async with opened(tmp_path) as desk, desk.client(era=era) as client:
        monkeypatch.setattr(desk.house.projects, "list", fails)
        with caplog.at_level(logging.ERROR, "mcp_server"):
            result = await client.call_tool("list_projects", {})
        error = result.structured_content
        assert error["code"] == "INTERNAL"
        assert "hunter2" not in result.model_dump_json()
        [record] = [each for each in caplog.records if each.name == "mcp_server.tools.server"]
        assert record.reference == error["correlation_id"]


async def test_a_request_without_an_identity_is_refused_as_a_whole(tmp_path):
    async with opened(tmp_path) as desk:
        for attempt in (desk.server.list_tools(), desk.server.call_tool("list_projects", {})):
            with pytest.raises(MCPError, match="without an identity"):
                await attempt


async def test_refused_calls_of_every_kind_are_in_the_audit_log(tmp_path):
    async with opened(tmp_path) as desk:
        viewer = Caller(team_id="local", role="viewer", user="vi", key_id="k1")
        await desk.call("delete_team", {}, caller=viewer)
        await desk.call("no_such_tool", {"secret": "s3cr3t"}, caller=viewer)
        await desk.call("get_project", {"nam": "s3cr3t"}, caller=viewer)
        await desk.call("get_project", {"name": "none"}, caller=viewer)
        await desk.house.calls._trail.flush()
        found = await desk.done("query_audit", {"key_id": "k1", "with_params": True})
        rows = {(row["action"], row["error"].partition(":")[0]) for row in found["items"]}
        assert rows == {
            ("delete_team", "FORBIDDEN"),
            ("unknown_tool", "FORBIDDEN"),
            ("get_project", "INVALID"),
            ("get_project", "NOT_FOUND"),
        }
        assert "s3cr3t" not in str(found)


async def test_whoever_makes_up_a_name_is_told_the_nearest_one_that_he_may_call(tmp_path):
    async with opened(tmp_path) as desk:
        wrong = await desk.call("get_projects", {})
        assert "Did you mean get_project or list_projects? " in text_of(wrong)
        viewer = Caller(team_id="local", role="viewer", user="vi", key_id="k1")
        assert "mean delete_team" not in text_of(await desk.call("delete_teams", {}, caller=viewer))
        assert "mean delete_team" in text_of(await desk.call("delete_teams", {}))


async def test_whoever_makes_up_an_argument_is_told_those_that_there_are(tmp_path):
    async with opened(tmp_path) as desk:
        text = text_of(await desk.call("get_project", {"project": "shop"}))
        assert text.endswith("Its arguments are name. Correct the named arguments and call again.")
        missing = text_of(await desk.call("get_project", {}))
        assert "Its arguments" not in missing


async def test_a_plan_changes_nothing_and_its_token_does_exactly_that_once(tmp_path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        planned = await desk.call("delete_project", {"name": "shop"})
        assert text_of(planned).startswith("Nothing has been changed yet")
        token = planned.structured_content["plan_token"]
        await desk.done("get_project", {"name": "shop"})
        other = Caller(team_id="local", role="owner", user="u", key_id="k1")
        arguments: dict[str, object] = {"name": "shop", "plan_token": token}
        assert await code(desk, "delete_project", arguments, caller=other) == "PLAN_STALE"
        assert (await desk.done("delete_project", arguments))["status"] == "done"
        assert await code(desk, "get_project", {"name": "shop"}) == "NOT_FOUND"


async def test_a_plan_is_stale_when_what_it_named_has_changed(tmp_path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        token = (await desk.done("delete_project", {"name": "shop"}))["plan_token"]
        await desk.done("update_project", {"name": "shop", "description": "new"})
        assert await code(desk, "delete_project", {"name": "shop", "plan_token": token}) == "PLAN_STALE"


async def test_a_repeated_call_with_its_key_returns_the_first_result_and_makes_nothing(tmp_path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        arguments = {"project": "shop", "title": "t", "idempotency_key": "k"}
        first = await desk.done("create_task", arguments)
        assert await desk.done("create_task", arguments) == first
        assert len((await desk.done("list_tasks", {"project": "shop"}))["tasks"]) == 1
        assert await code(desk, "create_task", {**arguments, "title": "other"}) == "CONFLICT"


async def test_secrets_of_a_repeated_call_are_not_shown_again(tmp_path):
    async with opened(tmp_path) as desk:
        arguments = {"name": "ci", "idempotency_key": "k"}
        first = await desk.done("create_key", arguments)
        again = await desk.done("create_key", arguments)
        assert first["key"].startswith("qm_local_member_")
        assert (again["id"], again["key"]) == (first["id"], None)
