"""What the studio's page is given, and who is given nothing."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcp_server.domain.queries import Bounds
from mcp_server.services import studio
from tests.studio.conftest import LONG, ROWS, Running, Serve, fill_postgres, sqlite_at


def enter(studio: Running) -> httpx2.Client:
    client = httpx2.Client(base_url=studio.base, timeout=30)
    assert client.get(studio.entrance.removeprefix(studio.base)).status_code == 303
    return client


@pytest.fixture
def reader(serve: Serve, url: str) -> httpx2.Client:
    return enter(serve(url))


@pytest.fixture
def writer(serve: Serve, url: str) -> httpx2.Client:
    return enter(serve(url, writable=True))


@pytest.fixture
def plain(serve: Serve, tmp_path: Path) -> Running:
    return serve(sqlite_at(tmp_path / "plain.db"))


# -- who is let in -------------------------------------------------------------------------------------


def test_nothing_is_told_without_the_token(plain: Running):
    for path in ("/", "/studio.js", "/api/schema", "/api/rows?table=books", "/?token=wrong"):
        assert httpx2.get(f"{plain.base}{path}").status_code == 403
    assert httpx2.post(f"{plain.base}/api/query", json={"sql": "SELECT 1"}).status_code == 403


def test_the_token_works_once(plain: Running):
    client = enter(plain)
    assert client.get("/").status_code == 200
    assert httpx2.get(plain.entrance).status_code == 403
    assert client.get("/").status_code == 200


def test_two_studios_in_one_browser_do_not_take_each_others_place(serve: Serve, tmp_path: Path):
    one, two = (serve(sqlite_at(tmp_path / f"{name}.db")) for name in ("one", "two"))
    browser = enter(one)
    assert browser.get(two.entrance).status_code == 303
    assert browser.get(f"{two.base}/").status_code == 200
    assert browser.get(f"{one.base}/").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example:1", ""])
def test_another_name_for_this_machine_is_refused(plain: Running, host: str):
    client = enter(plain)
    assert client.get("/api/schema", headers={"host": host}).status_code == 403


def test_a_foreign_page_can_neither_ask_nor_change(plain: Running):
    client = enter(plain)
    sql = {"sql": "SELECT 1"}
    assert client.post("/api/query", json=sql, headers={"origin": "https://evil.example"}).status_code == 403
    assert client.post("/api/query", json=sql, headers={"origin": "null"}).status_code == 403
    assert client.post("/api/query", json=sql, headers={"origin": plain.base}).status_code == 200
    as_form = client.post("/api/query", content=json.dumps(sql), headers={"content-type": "text/plain"})
    assert as_form.status_code == 400


def test_every_answer_forbids_what_the_page_does_not_need(plain: Running):
    client = enter(plain)
    for path in ("/", "/api/schema", "/api/rows?table=nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert (headers["cache-control"], headers["x-frame-options"]) == ("no-store", "DENY")
    cookie = httpx2.get(plain.base)
    assert "set-cookie" not in cookie.headers


# -- reading -------------------------------------------------------------------------------------------


def rows(client: httpx2.Client, table: str, **asked: Any) -> dict[str, Any]:
    params = {name: value if isinstance(value, str) else json.dumps(value) for name, value in asked.items()}
    answer = client.get("/api/rows", params={"table": table, **params})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def firsts(found: dict[str, Any]) -> list[str]:
    return [row["cells"][0][0] for row in found["rows"]]


def test_the_schema_names_keys_links_and_counts(reader: httpx2.Client):
    answer = reader.get("/api/schema")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    tables = {table["name"]: table for table in found["tables"]}
    assert list(tables) == ["authors", "books", "cheap", "empty", "files", "loose", "tags"]
    assert found["writable"] is False
    assert tables["books"]["foreign_keys"] == [
        {"columns": ["author_id"], "target": "authors", "target_columns": ["id"]}
    ]
    assert tables["authors"]["referred_by"][0]["table"] == "books"
    assert (tables["tags"]["key"], tables["loose"]["key"]) == (["book", "tag"], [])
    assert tables["books"]["count"] == {"rows": 120, "exact": True}
    assert tables["cheap"]["kind"] == "view"


@pytest.mark.parametrize("table", ["books", "tags", "loose"])
def test_pages_show_every_row_once_whatever_tells_rows_apart(reader: httpx2.Client, table: str):
    seen: list[tuple[str, ...]] = []
    after: list[str] = []
    pages = 0
    while True:
        found = rows(reader, table, after=after, limit="25")
        seen += [tuple(row["key"]) for row in found["rows"]]
        pages += 1
        if not found["more"]:
            break
        after = found["rows"][-1]["key"]
    expected = {"books": 120, "tags": 130, "loose": 60}[table]
    assert (len(seen), len(set(seen)), pages) == (expected, expected, -(-expected // 25))


def test_a_page_backwards_ends_where_the_other_begins(reader: httpx2.Client):
    found = rows(reader, "books", after=["51"], backwards="1", limit="10")
    assert firsts(found) == [str(number) for number in range(41, 51)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([["id", "=", "7"]], ["7"]),
        ([["id", "<=", "3"], ["id", "<>", "2"]], ["1", "3"]),
        ([["title", "contains", "K 11"]], ["11", "110", "111", "112", "113", "114", "115", "116", "117", "118", "119"]),
        ([["title", "starts", "book 12"]], ["12", "120"]),
        ([["title", "contains", "%"]], []),
        ([["author_id", "null", ""], ["id", "<", "20"]], ["7", "14"]),
        ([["author_id", "not null", ""], ["id", "<", "3"]], ["1", "2"]),
        ([["title", "=", "x'; DROP TABLE books; --"]], []),
    ],
)  # fmt: skip
def test_filters(reader: httpx2.Client, filters: Any, expected: list[str]):
    assert firsts(rows(reader, "books", filters=filters)) == expected


@pytest.mark.parametrize(
    "asked",
    [
        {"table": "nothing"},
        {"table": "books", "filters": "[["},
        {"table": "books", "filters": '[["nothing", "=", "1"]]'},
        {"table": "books", "filters": '[["id", "; DROP", "1"]]'},
        {"table": "books", "after": '["1", "2"]'},
        {"table": "books", "limit": "-1"},
    ],
)
def test_what_makes_no_sense_is_refused(reader: httpx2.Client, asked: dict[str, str]):
    assert reader.get("/api/rows", params=asked).status_code in (400, 404)


def test_a_long_value_is_cut_in_the_page_and_whole_by_itself(reader: httpx2.Client):
    cell = rows(reader, "authors")["rows"][1]["cells"][2]
    assert (len(cell[0]), cell[1]) == (300, len(LONG))
    whole = reader.post("/api/value", json={"table": "authors", "key": ["2"], "column": "bio"}).json()
    assert whole == {"text": LONG, "length": len(LONG)}
    gone = reader.post("/api/value", json={"table": "authors", "key": ["99"], "column": "bio"})
    assert gone.status_code == 404


# -- the SQL box ---------------------------------------------------------------------------------------


def query(client: httpx2.Client, sql: str) -> httpx2.Response:
    return client.post("/api/query", json={"sql": sql})


def test_a_query_is_answered_with_at_most_500_rows(reader: httpx2.Client):
    found = query(reader, "SELECT b.id, a.id AS other FROM books b, books a").json()
    assert (len(found["rows"]), found["truncated"]) == (500, True)
    assert [column["name"] for column in found["columns"]] == ["id", "other"]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM books",
        "WITH gone AS (DELETE FROM books RETURNING 1) SELECT * FROM gone",
        "DROP TABLE books",
        "SELECT 1; DELETE FROM books",
        "INSERT INTO empty VALUES (1)",
        "nonsense",
        "",
    ],
)
def test_the_sql_box_cannot_write_even_in_a_studio_that_may(writer: httpx2.Client, sql: str):
    answer = query(writer, sql)
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert rows(writer, "books")["more"] is True
    assert firsts(rows(writer, "empty")) == []


def test_a_query_of_sqlite_reaches_no_other_file(serve: Serve, tmp_path: Path):
    sqlite_at(tmp_path / "other.db")
    client = enter(serve(sqlite_at(tmp_path / "mine.db")))
    assert query(client, f"ATTACH '{tmp_path / 'other.db'}' AS other").status_code == 400
    assert query(client, f"VACUUM INTO '{tmp_path / 'copy.db'}'").status_code == 400
    assert not (tmp_path / "copy.db").exists()


# -- writing -------------------------------------------------------------------------------------------


def test_without_write_nothing_changes(reader: httpx2.Client):
    row = {"table": "books", "key": ["1"]}
    for path, body in (
        ("change", {**row, "column": "title", "before": "Book 1", "after": "x"}),
        ("add", {"table": "empty", "values": {"note": "x"}}),
        ("remove", row),
    ):
        assert reader.post(f"/api/{path}", json=body).status_code == 403
    assert rows(reader, "books")["rows"][0]["cells"][1][0] == "Book 1"


def test_a_value_is_changed_if_nobody_else_did(writer: httpx2.Client):
    body = {"table": "books", "key": ["1"], "column": "title", "before": "Book 1", "after": "One"}
    assert writer.post("/api/change", json=body).status_code == 200
    assert rows(writer, "books")["rows"][0]["cells"][1][0] == "One"
    assert writer.post("/api/change", json=body).status_code == 409
    to_null = {"table": "books", "key": ["1"], "column": "author_id", "before": "1", "after": None}
    assert writer.post("/api/change", json=to_null).status_code == 200
    assert rows(writer, "books")["rows"][0]["cells"][2][0] is None


def test_rows_are_added_and_removed_and_rules_hold(writer: httpx2.Client):
    assert (
        writer.post("/api/add", json={"table": "empty", "values": {"id": "5", "note": None}}).status_code
        == 200
    )
    assert firsts(rows(writer, "empty")) == ["5"]
    assert writer.post("/api/remove", json={"table": "empty", "key": ["5"]}).status_code == 200
    assert writer.post("/api/remove", json={"table": "empty", "key": ["5"]}).status_code == 409
    orphan = {"table": "books", "values": {"id": "500", "title": "x", "author_id": "77"}}
    assert writer.post("/api/add", json=orphan).status_code == 400
    assert writer.post("/api/remove", json={"table": "authors", "key": ["1"]}).status_code == 400
    assert writer.post("/api/add", json={"table": "cheap", "values": {}}).status_code == 400


def test_a_refusal_speaks_to_a_person_and_not_to_a_caller_of_tools(writer: httpx2.Client):
    taken = writer.post("/api/add", json={"table": "authors", "values": {"id": "1", "name": "x"}}).json()
    assert taken["next"] == "Nothing was changed."


def test_a_statement_that_takes_too_long_is_told_of_explain(
    writer: httpx2.Client, engine: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(studio, "QUERY_BOUNDS", Bounds(rows=5, bytes=1024, seconds=0.3))
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    refused = writer.post("/api/query", json={"sql": endless}).json()
    assert "EXPLAIN" in refused["next"]
    assert "database_stats" not in refused["next"]


def test_a_binary_value_stays_binary_when_it_is_edited_or_added(writer: httpx2.Client):
    assert writer.post(
        "/api/add", json={"table": "files", "values": {"id": "1", "data": "\\x00ff"}}
    ).is_success
    row = {"table": "files", "key": ["1"], "column": "data"}
    assert writer.post("/api/value", json=row).json() == {"text": "\\x00ff", "length": 2}
    change = {**row, "before": "\\x00ff", "after": "\\x0a0b0c"}
    assert writer.post("/api/change", json=change).is_success
    assert writer.post("/api/value", json=row).json() == {"text": "\\x0a0b0c", "length": 3}


# -- large ---------------------------------------------------------------------------------------------


async def test_a_million_rows_are_as_quick_as_a_page(serve: Serve, engine: str, url: str, tmp_path: Path):
    create = "CREATE TABLE many (id INTEGER PRIMARY KEY, note TEXT)"
    fill = ROWS.format(table="many", rows=1_000_000, select="SELECT i, 'note ' || i FROM n")
    if engine == "postgres":
        await fill_postgres(url, [create, fill, "ANALYZE many"])
    else:
        connection = sqlite3.connect(tmp_path / "data.db")
        connection.execute(create)
        connection.execute(fill)
        connection.commit()
        connection.close()
    client = enter(serve(url))
    begun = time.perf_counter()
    count = next(t["count"] for t in client.get("/api/schema").json()["tables"] if t["name"] == "many")
    assert count["exact"] is False
    assert firsts(rows(client, "many", after=["900000"], limit="2")) == ["900001", "900002"]
    assert firsts(rows(client, "many", filters=[["id", "=", "777777"]])) == ["777777"]
    assert time.perf_counter() - begun < 3
