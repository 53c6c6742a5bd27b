"""The studio as a person sees it, in a real Chromium."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.studio.conftest import LONG, Running, Serve, sqlite_at

Open = Callable[[Running], Page]
expect.set_options(timeout=15_000)
SHOTS = os.environ.get("QUAYMASTER_TEST_SCREENSHOTS", "")


@pytest.fixture
def enter(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Every test ends with a page that logged no error and asked for nothing from elsewhere."""
    context = chromium.new_context(color_scheme="light", viewport={"width": 1200, "height": 760})
    context.set_default_timeout(15_000)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if "Content Security" in said.text else None)
    page.on(
        "request",
        lambda sent: None if sent.url.startswith("http://127.0.0.1:") else problems.append(sent.url),
    )

    def start(studio: Running) -> Page:
        page.goto(studio.entrance)
        expect(page.locator("#database")).to_have_text("library")
        return page

    yield start
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{request.node.name}.png")
    context.close()
    assert problems == []


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return sqlite_at(tmp_path / "data.db")


def table(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    expect(page.locator("main h2")).to_have_text(name)


def test_a_person_pages_filters_and_follows_a_foreign_key(serve: Serve, url: str, enter: Open):
    page = enter(serve(url))
    table(page, "books")
    expect(page.locator("main")).to_contain_text("Rows 1\u201350")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("main")).to_contain_text("Rows 51\u2013100")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("main")).to_contain_text("Rows 101\u2013120")
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.get_by_role("button", name="Previous").click()
    expect(page.locator("tbody tr").first).to_contain_text("Book 51")
    page.get_by_label("Column").select_option("title")
    page.get_by_label("Comparison").select_option("contains")
    page.get_by_label("Value").fill("book 11")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(11)
    expect(page.locator("main")).to_contain_text("120 rows in all")
    expect(page.locator("main")).to_contain_text("Rows 1\u201311 of those that match")
    page.locator("tbody tr").first.get_by_role("link").click()
    expect(page.locator("main h2")).to_have_text("authors")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(11)
    page.get_by_role("button", name="Remove filter").click()
    expect(page.locator("tbody tr")).to_have_count(50)
    expect(page.locator("main")).not_to_contain_text("in all")


def test_what_is_in_the_database_is_never_taken_for_code(serve: Serve, sqlite_url: str, enter: Open):
    page = enter(serve(sqlite_url))
    table(page, "authors")
    expect(page.locator("tbody")).to_contain_text("<script>document.title")
    expect(page).to_have_title("library · Studio")


def test_a_long_value_is_shown_whole_on_demand(serve: Serve, sqlite_url: str, enter: Open):
    page = enter(serve(sqlite_url))
    table(page, "authors")
    page.get_by_role("button", name="Whole value of bio").click()
    expect(page.locator("dialog pre")).to_have_text(LONG.strip())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()


def test_an_empty_table_and_the_schema_say_what_they_are(serve: Serve, sqlite_url: str, enter: Open):
    page = enter(serve(sqlite_url))
    table(page, "empty")
    expect(page.locator("main")).to_contain_text("This table is empty.")
    expect(page.get_by_role("button", name="Add row")).to_have_count(0)
    table(page, "books")
    page.get_by_role("link", name="Schema").click()
    expect(page.locator("main")).to_contain_text("authors (id)")


def test_the_sql_box_answers_and_refuses(serve: Serve, url: str, enter: Open):
    page = enter(serve(url))
    page.get_by_role("link", name="SQL").click()
    box = page.get_by_label("SQL", exact=True)
    box.fill("SELECT title FROM books ORDER BY id LIMIT 2")
    box.press("Control+Enter")
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("main")).to_contain_text("2 rows in")
    box.fill("DELETE FROM books")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("main .error")).to_be_visible()


def test_with_write_a_value_is_edited_and_a_row_added_and_deleted(serve: Serve, url: str, enter: Open):
    page = enter(serve(url, writable=True))
    table(page, "authors")
    page.locator("tbody tr").nth(1).locator("td").nth(1).dblclick()
    page.get_by_label("New value").fill("Benjamin")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("tbody tr").nth(1)).to_contain_text("Benjamin")
    page.get_by_role("button", name="Add row").click()
    page.get_by_label("id INTEGER").fill("1")
    page.get_by_label("name").fill("Cy")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("dialog .error")).not_to_be_empty()
    page.get_by_label("id INTEGER").fill("3")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_role("button", name="Delete row").last.click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(2)


def test_light_dark_and_narrow(serve: Serve, sqlite_url: str, enter: Open):
    page = enter(serve(sqlite_url))
    table(page, "authors")
    for scheme, width in (("dark", 1200), ("light", 1200), ("dark", 420)):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 760})
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(22, 24, 28)" if scheme == "dark" else "rgb(255, 255, 255)")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_value_is_edited_by_the_keyboard_alone_and_the_count_follows(
    serve: Serve, sqlite_url: str, enter: Open
):
    page = enter(serve(sqlite_url, writable=True))
    table(page, "authors")
    expect(page.locator("main")).to_contain_text("Double-click or Enter edits a value.")
    page.locator("tbody tr").nth(1).locator("td").nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("New value")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("Bertha")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr").nth(1)).to_contain_text("Bertha")
    expect(page.locator("main .bar").first).to_contain_text("2 rows")
    page.locator("tbody tr").nth(1).locator("td").nth(1).focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Control+A")
    page.keyboard.type("Berta")
    page.keyboard.press("Control+Enter")
    expect(page.locator("tbody tr").nth(1)).to_contain_text("Berta")
    page.get_by_role("button", name="Delete row").last.click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("main .bar").first).to_contain_text("1 row")


@pytest.mark.parametrize("width", [1200, 390])
def test_what_is_told_after_an_edit_stands_in_the_way_of_no_button(
    serve: Serve, sqlite_url: str, enter: Open, width: int
):
    page = enter(serve(sqlite_url, writable=True))
    page.set_viewport_size({"width": width, "height": 760})
    table(page, "books")
    page.locator("tbody tr").first.locator("td").nth(1).dblclick()
    page.get_by_label("New value").fill("Another")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#notice")).to_have_text("Saved.")
    expect(page.locator("tbody tr").first).to_contain_text("Another")
    button = page.get_by_role("button", name="Next →")
    told, box = page.locator("#notice").bounding_box(), button.bounding_box()
    assert told is not None
    assert box is not None
    assert told["y"] + told["height"] <= box["y"] or told["x"] + told["width"] <= box["x"]
    button.click()
    expect(page.locator("main")).to_contain_text("Rows 51")


def test_what_a_column_is_too_narrow_for_is_shown_whole_on_demand(
    serve: Serve, sqlite_url: str, tmp_path: Path, enter: Open
):
    with sqlite3.connect(tmp_path / "data.db") as connection:
        connection.execute("INSERT INTO empty VALUES (1, ?), (2, ?), (3, 'short')", ("w" * 90, "two\nlines"))
    page = enter(serve(sqlite_url))
    table(page, "empty")
    expect(page.get_by_role("button", name="Whole value of note")).to_have_count(2)
    page.get_by_role("button", name="Whole value of note").last.click()
    assert page.locator("dialog pre").text_content() == "two\nlines"
    page.keyboard.press("Escape")
    page.get_by_role("link", name="SQL").click()
    box = page.get_by_label("SQL", exact=True)
    box.fill("SELECT note FROM empty ORDER BY id")
    box.press("Control+Enter")
    page.get_by_role("button", name="Whole value of note").first.click()
    expect(page.locator("dialog pre")).to_have_text("w" * 90)


def test_who_pages_by_the_keyboard_goes_on_from_the_same_button(serve: Serve, sqlite_url: str, enter: Open):
    page = enter(serve(sqlite_url))
    table(page, "books")
    page.get_by_role("button", name="Next").focus()
    for first in ("51", "101"):
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_contain_text(f"Rows {first}\u2013")
    expect(page.locator(".grid")).to_be_focused()  # there is no next page


def test_the_arrows_go_from_value_to_value_and_back_to_the_edited_one(
    serve: Serve, sqlite_url: str, enter: Open
):
    page = enter(serve(sqlite_url, writable=True))
    table(page, "books")
    assert page.locator("td[tabindex='0']").count() == 1
    page.locator("td[tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_label("New value")).to_have_value("Book 3")
    page.get_by_label("New value").fill("Three")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("tbody tr").nth(2).locator("td").nth(1)).to_be_focused()
    expect(page.locator("tbody tr").nth(2)).to_contain_text("Three")


def test_on_a_narrow_page_the_chosen_table_is_in_sight_and_no_button_of_a_dialog_is_cut(
    serve: Serve, sqlite_url: str, enter: Open
):
    page = enter(serve(sqlite_url, writable=True))
    page.set_viewport_size({"width": 390, "height": 400})
    page.evaluate("location.hash = '#tags'")
    expect(page.locator("main h2")).to_have_text("tags")
    expect(page.locator("nav [aria-current]")).to_be_in_viewport()
    table(page, "books")
    page.get_by_role("button", name="Add row").click()
    page.get_by_label("title").fill("x")
    page.get_by_label("id INTEGER", exact=True).fill("1")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("dialog .error")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Add", exact=True)).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_only_the_first_rows_of_an_answer_are_called_so(serve: Serve, sqlite_url: str, enter: Open):
    page = enter(serve(sqlite_url))
    page.get_by_role("link", name="SQL").click()
    box = page.get_by_label("SQL", exact=True)
    box.fill(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700)"
        " SELECT i, printf('%080d', i) a, printf('%080d', i) b, printf('%080d', i) c, printf('%080d', i) d FROM n"
    )
    box.press("Control+Enter")
    expect(page.locator("main")).to_contain_text("Only the first 500 rows in")
    expect(page.locator("main")).to_contain_text("there are more.")
