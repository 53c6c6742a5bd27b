"""Names of projects, and where a project may lie."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.domain.errors import Invalid
from mcp_server.domain.projects import NAME, normalise_name, placed


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop", "shop"),
        ("My Shop", "my-shop"),
        ("my_shop.v2", "my-shop-v2"),
        ("  Shop  ", "shop"),
        ("a" * 100, "a" * 100),
        ("7", "7"),
    ],
)
def test_a_name_becomes_lower_case_with_hyphens(text: str, name: str):
    assert normalise_name(text) == name


@pytest.mark.parametrize(
    "text",
    ["", " ", "-", "-shop", "shop-", "a" * 101, "shöp", "a/b", "a\x00b", "..", "shop;rm", "シ", "a\nb-"],
)
def test_what_is_not_a_name_is_refused_without_repeating_it(text: str):
    with pytest.raises(Invalid) as refusal:
        normalise_name(text)
    assert refusal.value.details["fields"].keys() == {"name"}


@pytest.mark.parametrize("strange", ["\n", "\r", "\t", "\x0b", "\x1c", "\x7f", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("name", ["a{}b", "{}ab", "ab{}"])
def test_a_control_character_is_not_taken_for_a_space(name: str, strange: str):
    with pytest.raises(Invalid):
        normalise_name(name.format(strange))


@given(st.text(max_size=120))
def test_a_normalised_name_is_a_name_and_stays_itself(text: str):
    try:
        name = normalise_name(text)
    except Invalid:
        return
    assert NAME.fullmatch(name)
    assert normalise_name(name) == name
    assert "_" not in name


def test_a_local_caller_names_any_absolute_path_while_no_root_is_set():
    assert placed("/home/ann/shop/", (), "stdio") == "/home/ann/shop"
    assert placed("//srv//shop/./x/../y", (), "cli") == "/srv/shop/y"


def test_over_http_no_path_is_taken_while_no_root_is_set():
    with pytest.raises(Invalid, match="QUAYMASTER_PROJECT_ROOTS"):
        placed("/srv/shop", (), "http")


@pytest.mark.parametrize("transport", ["http", "stdio", "cli"])
@pytest.mark.parametrize(
    "path", ["/srv/projects", "/srv/projects/", "/srv/projects/a", "/srv/x/../projects/a/b"]
)
def test_a_path_under_a_root_is_taken(path: str, transport):
    assert placed(path, ("/srv/projects/",), transport).startswith("/srv/projects")


@pytest.mark.parametrize("transport", ["http", "stdio", "cli"])
@pytest.mark.parametrize(
    "path",
    [
        "/srv/projects-2",
        "/srv",
        "/",
        "/srv/projects/../secrets",
        "/srv/projects/a/../../../etc",
        "/etc/passwd",
    ],
)
def test_a_path_outside_every_root_is_refused(path: str, transport):
    with pytest.raises(Invalid):
        placed(path, ("/srv/projects",), transport)


@pytest.mark.parametrize(
    "path", ["", "shop", "./shop", "~/shop", "C:\\shop", "/srv/a\x00b", "/" + "a" * 1001]
)
def test_what_is_not_an_absolute_path_is_refused(path: str):
    with pytest.raises(Invalid):
        placed(path, (), "stdio")


def test_the_root_of_the_disk_as_a_root_holds_everything():
    assert placed("/anything/at/all", ("/",), "http") == "/anything/at/all"


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "", "root"]), max_size=12))
def test_whatever_is_taken_lies_under_the_root(segments: list[str]):
    try:
        place = placed("/" + "/".join(segments), ("/root/a",), "http")
    except Invalid:
        return
    assert posixpath.commonpath([place, "/root/a"]) == "/root/a"
