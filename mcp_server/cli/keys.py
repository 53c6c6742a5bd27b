"""`keys create|list|revoke|rotate`: by the person at the command line, in any team."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from mcp_server.cli.context import OK, Context, table
from mcp_server.cli.parsing import ROLES, Commands, days, group, rate, words
from mcp_server.domain.pages import MAX_LIMIT

if TYPE_CHECKING:
    from mcp_server.services.keys import KeyIssued, KeyItem


def add(commands: Commands) -> None:
    keys = group(commands, "keys", "create, list, revoke and rotate API keys")
    create = keys.add_parser("create", help="create a key; stdout gets only the key, which is shown once")
    create.add_argument("--team", required=True, help="id or slug")
    create.add_argument("--role", required=True, choices=ROLES)
    create.add_argument("--name", default="command line", help="what it is for (default: %(default)s)")
    create.add_argument("--expires", type=days, metavar="DAYS")
    create.add_argument(
        "--scopes",
        type=words,
        default=(),
        help="names of tools or groups, separated by commas; without it everything the role may do",
    )
    create.add_argument(
        "--rate-limit", type=rate, metavar="N", help="requests a minute (default: QUAYMASTER_RATE_LIMIT)"
    )
    create.set_defaults(run=run_create)
    listing = keys.add_parser("list", help="list the keys of a team")
    listing.add_argument("--team", default="local", help="id or slug (default: %(default)s)")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=run_list)
    revoke = keys.add_parser("revoke", help="revoke a key, at once and for good")
    revoke.add_argument("id")
    revoke.set_defaults(run=run_revoke)
    rotate = keys.add_parser("rotate", help="replace a key; stdout gets only the new one")
    rotate.add_argument("id")
    rotate.add_argument(
        "--grace", type=int, default=0, metavar="SECONDS", help="how long the old key stays valid"
    )
    rotate.set_defaults(run=run_rotate)


async def run_create(chosen: Namespace, context: Context) -> int:
    call = context.call("create_key", team=chosen.team, name=chosen.name, role=chosen.role)
    async with context.root.open_app(context.settings) as app:
        await app.bootstrap.run(context.root.local_user(), with_key=False)
        issued = await app.calls.perform(
            call,
            lambda: app.keys.create_for(
                call,
                team=chosen.team,
                name=chosen.name,
                role=chosen.role,
                scopes=chosen.scopes,
                expires_days=chosen.expires,
                rate_limit=chosen.rate_limit,
            ),
        )
    return _show(issued, context)


async def run_rotate(chosen: Namespace, context: Context) -> int:
    call = context.call("rotate_key", id=chosen.id, grace_seconds=chosen.grace)
    async with context.root.open_app(context.settings) as app:
        issued = await app.calls.perform(
            call, lambda: app.keys.rotate_for(call, key_id=chosen.id, grace_seconds=chosen.grace)
        )
    return _show(issued, context)


async def run_revoke(chosen: Namespace, context: Context) -> int:
    call = context.call("revoke_key", id=chosen.id)
    async with context.root.open_app(context.settings) as app:
        revoked = await app.calls.perform(call, lambda: app.keys.revoke_for(call, key_id=chosen.id))
    context.tell(f"key {revoked.id} ({revoked.name}) is revoked")
    return OK


async def run_list(chosen: Namespace, context: Context) -> int:
    items: list[KeyItem] = []
    cursor: str | None = None
    async with context.root.open_app(context.settings) as app:
        while True:
            call = context.call("list_keys", team=chosen.team)
            after = cursor
            page = await app.calls.perform(
                call,
                lambda: app.keys.list_for(call, team=chosen.team, limit=MAX_LIMIT, cursor=after),  # noqa: B023
            )
            items += page.items
            cursor = page.cursor
            if cursor is None:
                break
    if chosen.json:
        context.print_json([item.model_dump(mode="json") for item in items])
    else:
        for line in table(
            [_row(item) for item in items], ("ID", "ROLE", "STATE", "PREFIX", "EXPIRES", "NAME")
        ):
            context.print(line)
    return OK


def _row(item: KeyItem) -> tuple[str, ...]:
    expires = "" if item.expires_at is None else item.expires_at.date().isoformat()
    return (item.id, item.role, item.state, item.prefix, expires, item.name)


def _show(issued: KeyIssued, context: Context) -> int:
    until = "" if issued.expires_at is None else f", until {issued.expires_at.date().isoformat()}"
    context.tell(
        f"key {issued.id} ({issued.name}), {issued.role} of team {issued.team_id}{until}; shown this once:"
    )
    context.print(issued.key or "")
    return OK
