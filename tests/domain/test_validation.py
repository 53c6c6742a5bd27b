"""How a broken rule is said."""

from __future__ import annotations

import pytest

from mcp_server.domain.errors import Invalid
from mcp_server.domain.records import Value
from mcp_server.domain.validation import checked, rule


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("String should have at least 1 character", "should have at least 1 character"),
        ("List should have at least 1 item after validation, not 0", "should have at least 1 item"),
        ("Value error, must be a name", "must be a name"),
        ("Input should be 'low' or 'high'", "should be 'low' or 'high'"),
        ("Field required", "Field required"),
    ],
)
def test_a_rule_is_said_without_what_the_argument_s_name_says_already(message: str, said: str) -> None:
    assert rule(message) == said


def test_every_broken_rule_is_named_by_its_field() -> None:
    class Pair(Value):
        one: int
        two: int

    with pytest.raises(Invalid, match=r"^one: should be a valid integer.*; two: should be a valid integer"):
        checked(Pair, {"one": "x", "two": "y"})
