"""`backup create|list|verify|restore`: Quaymaster itself, its PostgreSQL and this home's registry."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.cli.context import OK, USAGE, Context, table
from mcp_server.cli.parsing import Commands, group
from mcp_server.domain.wording import counted

if TYPE_CHECKING:
    from mcp_server.domain.backups import Backup

SUBJECTS = ("control_plane", "registry")


def add(commands: Commands) -> None:
    backup = group(commands, "backup", "back up Quaymaster itself: its PostgreSQL and this home's registry")
    create = backup.add_parser("create", help="make a backup of each and verify it by restoring it")
    create.add_argument(
        "subjects", nargs="*", metavar="SUBJECT", help=f"{' or '.join(SUBJECTS)}; default: all"
    )
    create.set_defaults(run=run_create)
    shown = backup.add_parser(
        "list", help="list every backup of this home, including those of project databases"
    )
    shown.add_argument("--json", action="store_true")
    shown.set_defaults(run=run_list)
    verify = backup.add_parser(
        "verify", help="verify a backup again; exit 1 when it differs from what was backed up"
    )
    verify.add_argument("backup", metavar="ID|FILE")
    verify.set_defaults(run=run_verify)
    restore = backup.add_parser(
        "restore", help="restore into a new home or a new database, never over live data"
    )
    restore.add_argument("backup", metavar="ID|FILE")
    restore.add_argument("--to-home", type=_absolute, metavar="DIR", help="a registry, as a new home")
    restore.add_argument(
        "--to-database",
        metavar="NAME",
        help="a control plane, as a new database on the configured PostgreSQL",
    )
    restore.set_defaults(run=run_restore)


async def run_create(chosen: Namespace, context: Context) -> int:
    if unknown := [name for name in chosen.subjects if name not in SUBJECTS]:
        context.tell(f"{unknown[0]}: name {' or '.join(SUBJECTS)}")
        return USAGE
    for made in await context.root.backup_create(context.settings, chosen.subjects):
        context.print(made.id)
        rows = sum(one.rows for one in made.tables)
        context.tell(
            f"{made.subject}: {made.bytes} bytes, {counted(rows, 'row')}, verified at "
            f"{made.verified_at:%Y-%m-%d %H:%M:%S} UTC: {context.settings.home / 'backups' / made.file}"
        )
    context.tell(
        "The key that opens it is not in it: keep secret.key or QUAYMASTER_SECRET_KEY elsewhere, too."
    )
    return OK


async def run_list(chosen: Namespace, context: Context) -> int:
    backups, strange = await context.root.backup_list(context.settings)
    if chosen.json:
        context.print_json([each.model_dump(mode="json", exclude={"tables"}) for each in backups])
    else:
        for line in table([_row(each) for each in backups], ("ID", "OF", "STATE", "BYTES", "MADE", "WHY")):
            context.print(line)
    for name in strange:
        context.tell(f"{name} is in no record (the store may have been restored); it is kept")
    return OK


async def run_verify(chosen: Namespace, context: Context) -> int:
    context.print(await context.root.backup_verify(context.settings, chosen.backup))
    return OK


async def run_restore(chosen: Namespace, context: Context) -> int:
    if (chosen.to_home is None) == (chosen.to_database is None):
        context.tell("say --to-home DIR for a registry, or --to-database NAME for a control plane")
        return USAGE
    restored = await context.root.backup_restore(
        context.settings, chosen.backup, home=chosen.to_home, database=chosen.to_database
    )
    context.tell(f"restored what was there at {restored.created_at:%Y-%m-%d %H:%M:%S} UTC, and compared")
    if chosen.to_home is not None:
        context.tell(
            f"Next: stop every server of the old home; put its secret.key into {chosen.to_home} (or set "
            "QUAYMASTER_SECRET_KEY), move its databases and backups there if they are left, and start with "
            f"QUAYMASTER_HOME={chosen.to_home}. Two homes with one registry's name must never run side by side; "
            "where PostgreSQL is used, say there with 'quaymaster registry claim --force' that this one took its place."
        )
        return OK
    context.tell(
        f"Next: stop every server, let QUAYMASTER_DATABASE_URL name the database '{chosen.to_database}', and start. "
        "A home whose registry is newer than this backup stays degraded on it and loses nothing: there "
        "'quaymaster registry import' into an empty database keeps more than this backup does."
    )
    return OK


def _absolute(text: str) -> Path:
    return Path(text).absolute()


def _row(backup: Backup) -> tuple[str, ...]:
    from mcp_server.domain.installation_backups import is_own

    of = backup.subject if is_own(backup) else f"{backup.project}/{backup.environment or 'all'}"
    state = "verified" if backup.stage == "kept" else backup.stage
    made = f"{backup.created_at:%Y-%m-%d %H:%M:%S}"
    return (backup.id, of, state, str(backup.bytes), made, backup.error or backup.reason)
