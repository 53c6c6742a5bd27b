"""Which host names there are, whose they are, and which projects would share one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.domain import hosts
from mcp_server.domain.errors import Invalid
from mcp_server.domain.projects import NAME

BASE = "quay.test"
NAMES = st.from_regex(NAME, fullmatch=True) | st.lists(
    st.sampled_from(["app", "staging", "preview", "production", "blue", "green"]), min_size=1, max_size=4
).map("-".join)


def test_the_names_of_a_project_are_these() -> None:
    assert hosts.environment_host("app", "production", BASE) == "app.quay.test"
    assert hosts.environment_host("app", "staging", BASE) == "app-staging.quay.test"
    assert hosts.preview_host("app", "production", "green", BASE) == "app-production-green.quay.test"
    assert hosts.project_hosts("app", "localhost") == {
        "app.localhost", "app-staging.localhost", "app-preview.localhost",
        "app-production-blue.localhost", "app-production-green.localhost",
        "app-staging-blue.localhost", "app-staging-green.localhost",
        "app-preview-blue.localhost", "app-preview-green.localhost",
    }  # fmt: skip


def test_the_staging_of_one_project_is_a_rival_of_the_production_of_another() -> None:
    assert "app-staging" in hosts.rivals("app")
    assert "app" in hosts.rivals("app-staging")
    assert "app-admin" not in hosts.rivals("app")


@given(one=NAMES, other=NAMES)
def test_projects_are_rivals_exactly_when_they_share_a_name(one: str, other: str) -> None:
    shared = bool(hosts.project_hosts(one, BASE) & hosts.project_hosts(other, BASE))
    if one != other and shared:
        assert other in hosts.rivals(one)
    for rival in hosts.rivals(one):
        assert one in hosts.rivals(rival)


@given(one=NAMES, first=st.integers(0, 8), second=st.integers(0, 8))
def test_a_name_made_of_another_projects_name_is_found_as_its_rival(
    one: str, first: int, second: int
) -> None:
    mine, theirs = hosts._SUFFIXES[first], hosts._SUFFIXES[second]
    other = (one + mine).removesuffix(theirs)
    if (one + mine).endswith(theirs) and other != one and NAME.fullmatch(other):
        assert other in hosts.rivals(one)


def test_a_name_that_dns_would_not_take_is_refused_with_the_room_there_is() -> None:
    with pytest.raises(Invalid, match="at most 55"):
        hosts.environment_host("x" * 56, "staging", BASE)
    assert hosts.environment_host("x" * 55, "staging", BASE)
    with pytest.raises(Invalid):
        hosts.environment_host("x", "production", ".".join(["y" * 60] * 5))


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Shop.Example.COM.", "shop.example.com"),
        (" www.x.de ", "www.x.de"),
        ("xn--bcher-kva.de", "xn--bcher-kva.de"),
    ],
)
def test_a_custom_domain_is_kept_in_one_spelling(written: str, kept: str) -> None:
    assert hosts.custom_host(written, BASE) == kept


@pytest.mark.parametrize(
    "written",
    [
        *(
            "",
            "localhost",
            "*.x.de",
            "10.0.0.1",
            "bücher.de",
            "a_b.de",
            "x..de",
            "-x.de",
            "x.de/y",
            "x.de:80",
        ),
        *("{x}.de", "shop.quay.test", "quay.test", "x" * 64 + ".de", "x.de\n\n.", "\x00.de", "[::1]"),
        "x.\u212aom",
    ],
)
def test_what_is_no_public_name_of_ones_own_is_refused(written: str) -> None:
    with pytest.raises(Invalid):
        hosts.custom_host(written, BASE)


@given(text=st.text())
def test_whatever_is_taken_as_a_custom_domain_is_plain(text: str) -> None:
    try:
        host = hosts.custom_host(text, BASE)
    except Invalid:
        return
    assert host.isascii()
    assert host == host.lower()
    assert set(host) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


def test_a_zone_holds_its_own_names_and_not_those_that_end_alike() -> None:
    assert hosts.lies_in("a.admin.x", "admin.x")
    assert not hosts.lies_in("app-admin.x", "admin.x")
