"""`secrets rotate|reset`: the key that seals stored secrets."""

from __future__ import annotations

from argparse import Namespace

from mcp_server.cli.context import FAILED, OK, USAGE, Context
from mcp_server.cli.parsing import Commands, group
from mcp_server.domain.wording import counted


def add(commands: Commands) -> None:
    secrets = group(commands, "secrets", "the key that encrypts stored secrets")
    rotate = secrets.add_parser(
        "rotate",
        help="create a new key and re-encrypt everything with it; older keys still open older backups",
    )
    rotate.add_argument(
        "--reseal-only",
        action="store_true",
        help="no new key: re-encrypt with the newest what older ones encrypted",
    )
    rotate.add_argument(
        "--forget-older",
        action="store_true",
        help="no new key: re-encrypt what is left with the newest, then remove the older ones from secret.key",
    )
    rotate.set_defaults(run=run_rotate)
    reset = secrets.add_parser("reset", help="start over with a new key after the old one was lost")
    reset.add_argument("--yes", action="store_true", help="give up what only the lost key opens")
    reset.set_defaults(run=run_reset)


async def run_rotate(chosen: Namespace, context: Context) -> int:
    """With QUAYMASTER_SECRET_KEY the new key is printed for the operator to set; nothing is sealed with it yet."""
    if chosen.forget_older:
        forgotten = await context.root.secrets_forget(context.settings)
        context.tell(
            f"forgotten: {counted(forgotten, 'older key')}; backups copied elsewhere before need them still"
        )
        return OK
    if not chosen.reseal_only:
        new = context.root.secrets_rotate(context.settings)
        if new is not None:
            context.print(new)
            context.tell(
                "The present key was kept in this home's secret.key. Set QUAYMASTER_SECRET_KEY to the key above on "
                "every server, restart them, then: quaymaster secrets rotate --reseal-only"
            )
            return OK
    sealed, left = await context.root.secrets_reseal(context.settings)
    context.tell(f"records and backups sealed with the newest key: {sealed}")
    for each in left:
        context.print(f"left: {each}")
    return FAILED if left else OK


async def run_reset(chosen: Namespace, context: Context) -> int:
    if not chosen.yes:
        context.tell("Whatever only the lost key opens is lost. Call again with --yes to do it.")
        return USAGE
    lost = await context.root.secrets_reset(context.settings)
    for each in lost:
        context.print(each)
    context.tell(
        f"not to be opened any more: {counted(len(lost), 'record')}; rotate_database_password and set_environment "
        "make them anew"
    )
    return OK
