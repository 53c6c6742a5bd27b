"""What a .dockerignore leaves out, by Docker's rules."""

from __future__ import annotations

import time

import pytest

from mcp_server.domain.dockerignore import Ignored
from mcp_server.domain.errors import Invalid


@pytest.mark.parametrize(
    ("text", "out", "kept"),
    [
        ("keys\n*.pem", ["keys", "keys/a/b", "a.pem"], ["x/keys", "x/a.pem", "keys2"]),
        ("**/*.pem", ["a.pem", "x/y/a.pem"], ["a.pems", "x/pem"]),
        ("/build/", ["build/x"], ["a/build"]),
        ("*\n!src\n!Dockerfile", ["a", "b/c", ".git2"], ["src/a", "Dockerfile"]),
        ("a/**/b", ["a/b", "a/x/y/b", "a/x/b/c"], ["a/x", "b"]),
        ("docs/**", ["docs/a"], ["doc"]),
        ("a*b*c", ["abc", "axbxc", "abbcc", "abcbc"], ["abcx", "ac"]),
        ("ab*b", ["abb", "abxb"], ["ab"]),
        ("[a-c]?\n[^x]z", ["ax", "yz"], ["dx", "xz", "a"]),
        ("\ufeff# words\n\n  x  \n", ["x"], ["# words", "y"]),
        ("*.md\n!README*.md\nREADME-own.md", ["a.md", "README-own.md"], ["README.md"]),
        ("\\*x", ["*x"], ["ax"]),
        ("./a/../b", ["b/c"], ["a"]),
        ("**", ["a", "b/c"], []),
        ("", [], ["a"]),
        (".", [], ["a"]),
    ],
)
def test_a_path_is_left_out_as_docker_leaves_it_out(text: str, out: list[str], kept: list[str]):
    ignored = Ignored(text)
    assert [path for path in (*out, *kept) if ignored.leaves_out(path)] == out


def test_no_pattern_takes_long():
    hard = Ignored("*a" * 100 + "b\n" + "**/a/" * 100 + "b")
    begun = time.perf_counter()
    assert not hard.leaves_out("a" * 255 + "c")
    assert not hard.leaves_out("a/" * 2000 + "c")
    assert time.perf_counter() - begun < 5


def test_a_line_that_is_no_pattern_is_named():
    with pytest.raises(Invalid, match="no pattern"):
        Ignored("fine\n[b-a]")
