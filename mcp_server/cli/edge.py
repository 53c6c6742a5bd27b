"""`edge config|check`: the configuration of the proxy, and what disagrees."""

from __future__ import annotations

import re
from argparse import Namespace

from mcp_server.cli.context import FAILED, OK, Context
from mcp_server.cli.parsing import Commands, group


def add(commands: Commands) -> None:
    edge = group(commands, "edge", "the reverse proxy in front of the projects")
    config = edge.add_parser("config", help="print the proxy's configuration, which contains a secret token")
    config.add_argument(
        "--caddy",
        metavar="VERSION",
        type=version,
        help="Caddy's version, where it is not the one that is found here",
    )
    config.set_defaults(run=run_config)
    check = edge.add_parser("check", help="compare the proxy with the store; exit 1 when anything differs")
    check.set_defaults(run=run_check)


def version(text: str) -> str:
    """Raises ValueError for what is no version."""
    if not re.fullmatch(r"v?\d+(\.\d+){1,2}", text):
        raise ValueError
    return text


async def run_config(chosen: Namespace, context: Context) -> int:
    context.out.write(await context.root.edge_config(context.settings, chosen.caddy))
    return OK


async def run_check(chosen: Namespace, context: Context) -> int:
    problems = await context.root.edge_check(context.settings)
    for problem in problems:
        context.print(problem)
    if not problems:
        context.tell("proxy and state agree")
    return FAILED if problems else OK
