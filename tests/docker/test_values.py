"""Names, subnets and verifiers: what is decided before an engine is asked."""

import hashlib
import hmac
from base64 import b64decode
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.adapters.docker.answers import image, moment
from mcp_server.domain.errors import Invalid
from mcp_server.domain.scram import verifier
from mcp_server.domain.workloads import free_subnets, image_name

POOL = IPv4Network("10.64.0.0/24")
DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("postgres", "postgres:latest"),
        ("postgres:16-alpine", "postgres:16-alpine"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        ("Registry.example.org/a__b/c-d:V1.x_y", "Registry.example.org/a__b/c-d:V1.x_y"),
        (f"a/b@{DIGEST}", f"a/b@{DIGEST}"),
        (f"a/b:1@{DIGEST}", f"a/b:1@{DIGEST}"),
        (DIGEST, DIGEST),
    ],
)
def test_names_of_images_are_taken_and_get_a_tag(text: str, name: str) -> None:
    assert image_name(text) == name


@given(text=st.text(max_size=40))
def test_no_text_becomes_a_path_or_a_question(text: str) -> None:
    try:
        name = image_name(text)
    except Invalid:
        return
    assert not {"..", ".", ""} & set(name.split("/"))
    assert not set("?#% \n\\") & set(name)


@pytest.mark.parametrize("text", ["a//b", "/a", "a/", "../a", "a/../b", "a:b:c", "a@sha256:1", "A/b", "a\n"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        image_name(text)


@given(taken=st.lists(st.integers(0, 15), max_size=16), name=st.text(max_size=10))
def test_free_subnets_are_all_that_is_left_each_once(taken: list[int], name: str) -> None:
    every = list(POOL.subnets(new_prefix=28))
    found = list(free_subnets(POOL, 28, [every[n] for n in taken], name))
    assert len(found) == len(set(found))
    assert set(found) == {every[n] for n in range(16) if n not in taken}


def test_different_names_begin_at_different_subnets() -> None:
    firsts = {next(free_subnets(IPv4Network("10.64.0.0/12"), 26, [], f"n{n}")) for n in range(100)}
    assert len(firsts) > 95


def test_a_larger_neighbour_takes_all_that_it_covers() -> None:
    found = list(free_subnets(POOL, 28, [IPv4Network("10.0.0.0/8")], "x"))
    assert found == []


def test_a_verifier_holds_what_a_server_needs_to_check_a_client_and_not_the_password() -> None:
    """By the definitions of RFC 5802, worked out from the other side."""
    made = verifier("pencil", bytes(16), 4096)
    scheme, cost, keys = made.split("$")
    stored, server = keys.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", bytes(16), 4096)
    client_key = hmac.new(salted, b"Client Key", "sha256").digest()
    assert (scheme, cost) == ("SCRAM-SHA-256", "4096:AAAAAAAAAAAAAAAAAAAAAA==")
    assert b64decode(stored) == hashlib.sha256(client_key).digest()
    assert b64decode(server) == hmac.new(salted, b"Server Key", "sha256").digest()
    assert "pencil" not in made


@pytest.mark.parametrize("password", ["", "ä", "a\n", "\x7f"])
def test_passwords_that_clients_would_prepare_differently_are_refused(password: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        verifier(password, bytes(16))


def test_an_images_digest_is_the_one_of_the_repository_it_was_named_by() -> None:
    answer = {"Id": DIGEST, "RepoDigests": ["a/x@sha256:1", "b:5000/y@sha256:2"], "Config": {}}
    assert image("b:5000/y:1", answer).digest == "b:5000/y@sha256:2"
    assert image("c", answer).digest == "a/x@sha256:1"
    assert image("c", {"Id": DIGEST}).digest is None


def test_the_engines_times_are_read_with_nanoseconds_and_never_is_none() -> None:
    read = moment("2026-11-21T03:44:45.123456789Z")
    assert read is not None
    assert read.isoformat() == "2026-11-21T03:44:45.123456+00:00"
    assert moment("0001-01-01T00:00:00Z") is None
    assert moment("") is None
