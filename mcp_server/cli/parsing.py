"""Types of arguments that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, get_args

from mcp_server.domain.roles import Role

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = object

ROLES: tuple[str, ...] = get_args(Role)


def words(text: str) -> tuple[str, ...]:
    """`a, b` gives a and b."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def port_number(text: str) -> int:
    return _within(text, range(65536), "must be a whole number, 0 to 65535")


def days(text: str) -> int:
    """How long a key may be good for."""
    from mcp_server.services.keys import MAX_DAYS

    return _within(text, range(1, MAX_DAYS + 1), f"must be whole days, 1 to {MAX_DAYS}")


def rate(text: str) -> int:
    """Requests a minute of a key."""
    return _within(text, range(1, 1_000_001), "must be requests a minute, 1 to 1000000")


def _within(text: str, allowed: range, rule: str) -> int:
    if text.isdecimal() and len(text) < 10 and int(text) in allowed:
        return int(text)
    raise argparse.ArgumentTypeError(f"{rule}; not {text[:50]!r}")


def group(commands: Commands, name: str, help_text: str) -> Commands:
    """A command that is followed by another one."""
    parser = commands.add_parser(name, help=help_text, description=help_text)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
