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
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError
    return number


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def group(commands: Commands, name: str, help_text: str) -> Commands:
    """A command that is followed by another one."""
    parser = commands.add_parser(name, help=help_text, description=help_text)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
