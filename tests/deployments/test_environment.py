"""Variables: sealed, versioned, compared, restored, and never shown unasked."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.domain.callers import Caller
from mcp_server.domain.dotenv import is_placeholder, parsed
from mcp_server.domain.errors import Invalid
from tests.services.processes import run_quaymaster
from tests.tools.desk import opened

CANARY = "c4nary-Vaule-9271"
SHOP = {"project": "shop"}


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("A=1\nB = two words # a comment\n", {"A": "1", "B": "two words"}),
        ("export A='as $it stands # here'", {"A": "as $it stands # here"}),
        ('A="line\\none\\ttab \\"q\\" \\\\ \\$x"', {"A": 'line\none\ttab "q" \\ $x'}),
        ('KEY="-----BEGIN\nmore\nEND-----"\nB=2', {"KEY": "-----BEGIN\nmore\nEND-----", "B": "2"}),
        ("# only a comment\r\n\r\nA=1\r\n", {"A": "1"}),
        ("A=\nB=''\nC=\"\"", {"A": "", "B": "", "C": ""}),
        ("A=a#b\nB=x=y", {"A": "a#b", "B": "x=y"}),
        ('LIST=["a","b"]', {"LIST": '["a","b"]'}),
        ("", {}),
    ],
)
def test_dotenv_text_is_read_as_it_is_quoted(text, variables):
    assert parsed(text) == variables


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\nnonsense\n", 2),
        ("A='open", 1),
        ('A="open', 1),
        ("A='x' y", 1),
        ("A=$HOME", 1),
        ('A="${OTHER}"', 1),
        ("A=1\nA=2", 2),
        ("A=<your-token>", 1),
        ("A=1\nB=changeme", 2),
        ("KEY=your_api_key_here", 1),
        ("A=xxxxx", 1),
        ("1A=x", 1),
    ],
)
def test_what_would_have_to_be_guessed_is_refused_with_its_line(text, line):
    with pytest.raises(Invalid) as refused:
        parsed(text)
    assert f"line {line}:" in refused.value.message
    assert "your" not in refused.value.message


@pytest.mark.parametrize("value", ["change", "password", "here", "a-b", "[]", "todos", "xx", "0", "add-on"])
def test_ordinary_words_are_no_placeholders(value):
    assert not is_placeholder(value)


@given(st.text(alphabet=st.characters(exclude_characters="'\x00\r", exclude_categories=["Cs"])))
def test_any_value_in_single_quotes_comes_back_as_it_is(value):
    text = f"A='{value}'"
    if is_placeholder(value):
        with pytest.raises(Invalid):
            parsed(text)
    else:
        assert parsed(text) == {"A": value}


async def test_every_version_is_kept_compared_and_restored(tmp_path: Path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        first = await desk.done("set_environment", {**SHOP, "variables": {"A": "1", "B": CANARY}})
        assert (first["version"], first["difference"]["added"]) == (1, ["A", "B"])
        same = await desk.done("set_environment", {**SHOP, "variables": {"A": "1"}})
        assert same["version"] == 1, "nothing changed"
        second = await desk.done("set_environment", {**SHOP, "dotenv_content": "A=2\nC='x'"})
        assert (second["version"], second["difference"]) == (
            2,
            {"added": ["C"], "removed": [], "changed": ["A"]},
        )
        third = await desk.done("unset_environment", {**SHOP, "names": ["B", "NONE"]})
        assert third["difference"]["removed"] == ["B"]
        diff = await desk.done("diff_environment", {**SHOP, "from_version": 1})
        assert diff["difference"] == {"added": ["C"], "removed": ["B"], "changed": ["A"]}
        restored = await desk.done("restore_environment", {**SHOP, "version": 1})
        assert restored["version"] == 4
        shown = await desk.done("get_environment", {**SHOP, "reveal": True})
        assert {one["name"]: one["value"] for one in shown["variables"]} == {"A": "1", "B": CANARY}
        lines = (await desk.done("environment_history", SHOP))["versions"]
        assert [line["version"] for line in lines] == [4, 3, 2, 1]
        production = await desk.done("get_environment", {**SHOP, "environment": "production"})
        assert production["variables"] == [], "staging and production share nothing"


async def test_values_are_nowhere_but_in_an_answer_that_was_asked_for(tmp_path: Path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        await desk.done("set_environment", {**SHOP, "variables": {"T": CANARY}, "idempotency_key": "k"})
        await desk.done("set_environment", {**SHOP, "dotenv_content": f"U='{CANARY}'"})
        hidden = await desk.done("get_environment", SHOP)
        assert CANARY not in str(hidden)
        marks = {one["name"]: one["fingerprint"] for one in hidden["variables"]}
        assert marks["T"] != marks["U"], "a fingerprint compares versions of one name"
        await desk.done("get_environment", {**SHOP, "reveal": True})
        rows = await desk.done("query_audit", {"action": "set_environment", "with_params": True})
        assert CANARY not in str(rows)
        await desk.house.calls._trail.flush()
        revealed = await desk.done("query_audit", {"action": "get_environment", "with_params": True})
        assert any(row["params"].get("reveal") for row in revealed["items"])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


async def test_only_the_server_writes_protected_names_and_viewers_see_no_values(tmp_path: Path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        for name in ("DATABASE_URL", "QUAYMASTER_HOME", "A-B", "1A", "A B", "A\n"):
            refused = await desk.call("set_environment", {**SHOP, "variables": {name: "x"}})
            assert refused.structured_content["code"] == "INVALID", name
        viewer = Caller(team_id="local", role="viewer", user="v", key_id="k-v")
        names = await desk.call("get_environment", SHOP, caller=viewer)
        assert not names.is_error
        values = await desk.call("get_environment", {**SHOP, "reveal": True}, caller=viewer)
        assert values.structured_content["code"] == "FORBIDDEN"


async def test_a_value_that_was_moved_to_another_place_in_the_store_does_not_open(tmp_path: Path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        await desk.done("set_environment", {**SHOP, "variables": {"A": "1", "B": "2"}})

        async def swap(tx):
            held = await tx.environments.hold("shop/staging")
            data = {"A": held.env_data["B"], "B": held.env_data["A"]}
            await tx.environments.save(held.change(env_data=data))

        from mcp_server.ports.store import Intent

        await desk.house.store.run(swap, Intent("set_environment", "test"))
        broken = await desk.call("get_environment", SHOP)
        assert broken.structured_content["code"] == "CORRUPT"


async def test_variables_whose_key_is_lost_can_be_set_again_after_a_reset_and_not_before(tmp_path: Path):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop"})
        await desk.done("set_environment", {**SHOP, "variables": {"A": "1", "B": "2"}})
        await desk.done("set_environment", {**SHOP, "variables": {"A": "3"}})
    home = tmp_path / "home"
    (home / "secret.key").unlink()
    async with opened(tmp_path) as desk:
        for tool, more in (
            ("set_environment", {"variables": {"C": "4"}}),
            ("deploy_project", {"image": "x"}),
        ):
            refused = await desk.call(tool, {**SHOP, **more})
            assert (refused.structured_content or {})["code"] == "UNAVAILABLE", tool
            assert "secret.key" in (refused.structured_content or {})["next"]
        assert (await desk.done("list_deployments", SHOP))["deployments"] == []
    reset = run_quaymaster("secrets", "reset", "--yes", home=home)
    assert "environments shop/staging" in reset.stdout, reset.stderr
    async with opened(tmp_path) as desk:
        assert (await desk.done("get_environment", SHOP))["variables"] == []
        after = await desk.done("set_environment", {**SHOP, "variables": {"A": "5"}})
        assert after["version"] == 4
        lines = (await desk.done("environment_history", SHOP))["versions"]
        told = [(line["version"], line["count"], line["readable"]) for line in lines]
        assert told == [(4, 1, True), (3, 0, False), (2, 2, False), (1, 2, False)]
        assert lines[1]["difference"]["removed"] == ["A", "B"]
        old = await desk.call("restore_environment", {**SHOP, "version": 1})
        assert (old.structured_content or {})["code"] == "UNAVAILABLE"
