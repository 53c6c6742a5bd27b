"""`config`: the effective settings, secrets redacted."""

from __future__ import annotations

from argparse import Namespace

from mcp_server.cli.context import OK, Context, table
from mcp_server.cli.parsing import Commands


def add(commands: Commands) -> None:
    config = commands.add_parser("config", help="print the effective settings, secrets redacted")
    config.add_argument("--json", action="store_true")
    config.set_defaults(run=run_config)


def run_config(chosen: Namespace, context: Context) -> int:
    from mcp_server.config import effective

    rows = effective(context.settings)
    if chosen.json:
        context.print_json([row._asdict() for row in rows])
    else:
        for line in table([(row.name, row.value, row.source) for row in rows], ("SETTING", "VALUE", "FROM")):
            context.print(line)
    return OK
