"""Nothing that looks or is named like a secret is kept, and what is kept every store can keep."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.domain.redaction import HIDDEN, MAX_TEXT, redacted, redacted_text

CANARY = "s3cr3tC4n4ryV4lue9876543"
KEY = f"qm_t-12ab34_admin_{CANARY}"

NAMES = [
    "password",
    "db_password",
    "passphrase",
    "pwd",
    "secret",
    "client_secret",
    "token",
    "access_token",
    "apiKey",
    "api_key",
    "private_key",
    "key",
    "secret_key",
    "key_hash",
    "Authorization",
    "cookie",
    "credentials",
    "url",
    "database_url",
    "redis_uri",
    "dsn",
    "slack",
    "discord",
    "webhook",
    "value",
    "values",
    "variables",
    "env",
    "env_data",
    "content",
    "sql",
    "parameters",
]

TEXTS = [
    KEY,
    f"please use {KEY}, thanks",
    f"prod_local_owner_{CANARY}",
    f"postgres://app:{CANARY}@db.example/app",
    f"postgresql://app:{CANARY}/with@signs@db.example/app",
    f"redis://:{CANARY}@cache:6379/0",
    f"Authorization: Bearer {CANARY}",
    f"curl -H 'authorization: bearer {CANARY}'",
    f"https://hooks.slack.com/services/T0/B0/{CANARY}",
    f"charged with sk_live_{CANARY}",
    f"(sk-proj-{CANARY})",
    f"git clone with ghp_{CANARY}abcdefgh",
    f"glpat-{CANARY}",
    f"xoxb-1234-{CANARY}",
    f"eyJhbGciOiJIUzI1NiJ9.eyJ{CANARY}.sig",
    f"https://discord.com/api/webhooks/1/{CANARY}",
    f"https://discordapp.com/api/webhooks/1/{CANARY}",
    f"host=db user=app password={CANARY} dbname=app",
    f"password: {CANARY}",
    f"PGPASSWORD='{CANARY} with spaces'",
    f'{{"token": "{CANARY}"}}',
    f"https://example.test/?api_key={CANARY}&x=1",
    f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
    f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [CANARY, [CANARY], {"deep": CANARY}, {CANARY: 1}])
def test_a_value_is_hidden_whole_by_its_name(name: str, value: Any):
    shown = redacted({"outer": [{name: value}]})
    assert shown == {"outer": [{name: HIDDEN}]}


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_is_hidden_by_its_form_under_any_name(text: str):
    assert CANARY not in json.dumps(redacted({"title": text, "paths": [text], text: 1}))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("before", [0, 400, 499, 3900, 3990, 8000])
def test_cutting_long_text_never_lets_a_secret_through(text: str, before: int):
    shown = redacted_text("word " * (before // 5) + text + " word" * 100)
    assert not any(CANARY[at : at + 8] in shown for at in range(len(CANARY) - 8))


def test_a_secret_at_the_end_of_what_is_scanned_is_not_shown_in_half():
    for length in range(3930, 4000):
        assert CANARY[:8] not in redacted_text("Bearer " + "a" * length + " " + KEY)


@pytest.mark.parametrize(
    "text",
    [
        "Fix the login page",
        "src/app/page.tsx",
        "see https://example.test/docs?page=2",
        "mail ann@example.test about it",
        "key-0123456789abcdef0123",
        "class sk-loading-spinner-of-the-page",
        "task-0123456789abcdefghij",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str):
    assert redacted_text(text) == text


@pytest.mark.parametrize("name", ["name", "project", "key_id", "task_id", "paths", "title", "limit", "role"])
def test_ordinary_names_stay_readable(name: str):
    assert redacted({name: "plain"}) == {name: "plain"}


@pytest.mark.parametrize("empty", [None, "", [], {}, ()])
def test_an_empty_secret_shows_that_it_was_empty(empty: object):
    assert redacted({"password": empty})["password"] in (None, "", [], {})


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
    max_leaves=30,
)


@given(JSON)
def test_what_is_shown_is_json_that_every_store_keeps(value: Any):
    shown = json.dumps(redacted(value), allow_nan=False, ensure_ascii=False)
    shown.encode("utf-8")
    assert "\\u0000" not in shown


@given(st.text(max_size=10_000))
def test_shown_text_is_bounded(text: str):
    assert len(redacted_text(text)) <= MAX_TEXT + 1


def test_a_long_list_and_a_deep_nest_are_cut():
    nest: Any = "end"
    for _ in range(2000):
        nest = [nest]
    assert len(json.dumps(redacted({"nest": nest, "list": list(range(10_000))}))) < 1000


@pytest.mark.parametrize(
    "piece",
    ["a", "a_", "://", "password ", '"', "-", "://a:", "Bearer ", "password='", "sk-", "eyJaaaaaaaa."],
)
def test_hostile_text_is_hidden_in_bounded_time(piece: str):
    began = time.perf_counter()
    redacted_text(piece * 1_000_000)
    assert time.perf_counter() - began < 1
