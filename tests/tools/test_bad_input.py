"""Whatever arguments come: an answer or a clear refusal, never a crash, a hang, or a changed state after
a refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize("name", sorted(GRANTS))
def test_any_arguments_get_an_answer_or_a_refusal_that_changes_nothing(name: str, tmp_path: Path) -> None:
    runner = asyncio.Runner()
    number = iter(range(1_000_000))

    @settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(data=st.data())
    def probe(data: st.DataObject) -> None:
        async def once() -> None:
            home = tmp_path / str(next(number))
            home.mkdir()
            async with opened(home) as desk:
                real = await furnished(desk, name)
                tool = desk.server.catalogue.get(name)
                assert tool is not None
                sent = data.draw(arguments(tool.listed.input_schema, real))
                before = snapshot(desk)
                async with asyncio.timeout(20):
                    result = await desk.call(name, sent)
                if result.is_error:
                    assert result.structured_content is not None
                    assert result.structured_content["code"] in CODES, result.structured_content
                    assert result.structured_content["next"]
                    assert snapshot(desk) == before
                result.model_dump_json().encode()

        runner.run(once())

    with runner:
        probe()
