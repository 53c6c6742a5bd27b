"""Whatever arguments come: an answer or a clear refusal, never a crash, a hang, or a changed state after
a refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.types import CallToolResult

from mcp_server.domain.grants import GRANTS
from tests.tools.desk import Desk, opened

CODES = {
    "CONFLICT", "FORBIDDEN", "INVALID", "LOCKED", "NOT_FOUND", "PLAN_STALE", "QUOTA_EXCEEDED", "UNAVAILABLE",
}  # fmt: skip
KNOWN = st.sampled_from(["shop", "local", "src/", "src/**/*.ts", "draft", "editing", "owner", "a@b.c", ""])
TEXTS = KNOWN | st.text(max_size=40) | st.text("./*?[]{}~\\ \x00\ud800é\u0301", max_size=12)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    LEAVES, lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXTS, each, max_size=3), max_leaves=6
)


def fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of the kind that the schema asks for, mostly within its bounds."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return st.one_of(*(fitting({**schema, "type": each}) for each in kind))
    if kind == "integer":
        return st.integers(schema.get("minimum", -3), schema.get("maximum", 10**9))
    if kind == "number":
        return st.floats(0, 0.05)
    if kind == "boolean":
        return st.booleans()
    if kind == "array":
        return st.lists(fitting(schema["items"]), max_size=4)
    if kind == "object":
        return arguments(schema, strays=False)
    if schema.get("format") == "date-time":
        return st.datetimes().map(lambda at: at.isoformat() + "Z") | TEXTS
    return TEXTS


@st.composite
def arguments(
    draw: st.DrawFn, schema: dict[str, Any], real: Mapping[str, Any] | None = None, strays: bool = True
) -> dict[str, Any]:
    """Arguments out of the schema: mostly what is there, some missing, some of any kind, now and then
    one too many."""
    given: dict[str, Any] = {}
    for name, each in schema.get("properties", {}).items():
        if name == "wait_seconds" or not (name in schema.get("required", ()) or draw(st.booleans())):
            continue
        if strays and draw(st.integers(0, 19)) == 0:
            given[name] = draw(VALUES)
        elif real and name in real and draw(st.integers(0, 3)):
            given[name] = real[name]
        else:
            given[name] = draw(fitting(each))
    if strays and draw(st.integers(0, 19)) == 0:
        given[draw(TEXTS)] = draw(VALUES)
    return given


async def furnished(desk: Desk, name: str) -> dict[str, Any]:
    """Things to work on, and the arguments that name them."""
    await desk.done("create_project", {"name": "shop"})
    task = await desk.done("create_task", {"project": "shop", "title": "t"})
    member = await desk.done("add_member", {"email": "a@b.c"})
    key = await desk.done("create_key", {"name": "k"})
    await desk.done("lock_files", {"project": "shop", "paths": ["src/"], "agent": "bo"})
    return {
        "project": "shop",
        "name": "new" if name.startswith("create") else "shop",
        "task_id": task["id"],
        "member_id": member["id"],
        "key_id": key["id"],
        "paths": ["src/a.ts", "docs/*"],
        "team": "local",
        "email": "c@d.e",
    }


def snapshot(desk: Desk) -> str:
    """Everything that a caller can change."""
    state = desk.house.store._mirror._files.state  # type: ignore[attr-defined]
    records = {
        noun: {key: record.model_dump(mode="json") for key, record in kept.items()}
        for noun, kept in state.records.items()
    }
    return json.dumps(records, sort_keys=True)


class Rooms:
    """A furnished desk, made anew when a call has changed it: most calls are refused or only read."""

    def __init__(self, portal: BlockingPortal, folder: Path, name: str) -> None:
        self._portal = portal
        self._folder = folder
        self._name = name
        self._number = 0
        self._open: AbstractContextManager[Desk] | None = None
        self._now: tuple[Desk, dict[str, Any]] | None = None

    def now(self) -> tuple[Desk, dict[str, Any]]:
        if self._now is None:
            home = self._folder / str(self._number)
            home.mkdir()
            self._number += 1
            self._open = self._portal.wrap_async_context_manager(opened(home))
            desk = self._open.__enter__()
            self._now = desk, self._portal.call(furnished, desk, self._name)
        return self._now

    def close(self) -> None:
        opened, self._open, self._now = self._open, None, None
        if opened is not None:
            opened.__exit__(None, None, None)


async def called(desk: Desk, name: str, sent: dict[str, Any]) -> CallToolResult:
    async with asyncio.timeout(20):
        return await desk.call(name, sent)


@pytest.mark.parametrize("name", sorted(GRANTS))
def test_any_arguments_get_an_answer_or_a_refusal_that_changes_nothing(name: str, tmp_path: Path) -> None:
    @settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(data=st.data())
    def probe(data: st.DataObject) -> None:
        desk, real = rooms.now()
        tool = desk.server.catalogue.get(name)
        assert tool is not None
        sent = data.draw(arguments(tool.listed.input_schema, real))
        before = snapshot(desk)
        result = portal.call(called, desk, name, sent)
        after = snapshot(desk)
        if before != after:
            rooms.close()
        if result.is_error:
            assert result.structured_content is not None
            assert result.structured_content["code"] in CODES, result.structured_content
            assert result.structured_content["next"]
            assert after == before
        result.model_dump_json().encode()

    with start_blocking_portal() as portal:
        rooms = Rooms(portal, tmp_path, name)
        try:
            probe()
        finally:
            rooms.close()
