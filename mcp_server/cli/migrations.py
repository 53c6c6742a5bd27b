"""`migrate status|up`: the schema in PostgreSQL."""

from __future__ import annotations

from argparse import Namespace

from mcp_server.cli.context import FAILED, OK, Context, table
from mcp_server.cli.parsing import Commands, group

SOUND = {"applied", "pending"}


def add(commands: Commands) -> None:
    migrate = group(commands, "migrate", "show or update PostgreSQL's schema")
    status = migrate.add_parser(
        "status", help="list the migrations; exit 1 when one was changed or is missing"
    )
    status.set_defaults(run=run_migrate, up=False)
    up = migrate.add_parser("up", help="apply what is pending (a server does so at its start)")
    up.set_defaults(run=run_migrate, up=True)
    for each in (status, up):
        each.add_argument("--json", action="store_true")


async def run_migrate(chosen: Namespace, context: Context) -> int:
    rows = await context.root.migrations(context.settings, up=chosen.up)
    if chosen.json:
        context.print_json([{"name": name, "state": state} for name, state in rows])
    else:
        for line in table(rows, ("MIGRATION", "STATE")):
            context.print(line)
    return OK if {state for _, state in rows} <= SOUND else FAILED
