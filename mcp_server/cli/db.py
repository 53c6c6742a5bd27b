"""`db`: the databases of one code base, each a folder below `db/`.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 drift or pending, 4 refused. With `-a` every database is tried, and the
worst code is returned (1 is worse than 2, 4, 3).
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from mcp_server.cli.context import FAILED, OK, REFUSED, USAGE, Context
from mcp_server.cli.db_words import COMMANDS, language, say
from mcp_server.cli.parsing import Commands
from mcp_server.domain.errors import Corrupt, Invalid, OutcomeUnknown, QuaymasterError, Unavailable

if TYPE_CHECKING:
    from mcp_server.cli.db_terminal import Terminal
    from mcp_server.domain.schemas.folders import Folder
    from mcp_server.services.schemas.databases import Databases

PENDING = 3
WORST = (OK, PENDING, REFUSED, USAGE, FAILED)
MIGRATE_TYPES = ("dev", "deploy", "reset", "status", "diff", "resolve")
ENVIRONMENTS = {
    "development": "development",
    "dev": "development",
    "test": "test",
    "production": "production",
    "prod": "production",
}
Answer = tuple[int, Any]


def add(commands: Commands) -> None:
    lang = language()
    top = commands.add_parser("db", help=say("db", lang), description=say("db", lang), allow_abbrev=False)
    group = top.add_subparsers(title=say("commands", lang), metavar="COMMAND", required=True)
    parsers = {
        name: group.add_parser(name, help=say(name, lang), description=say(name, lang), allow_abbrev=False)
        for name in COMMANDS
    }
    for name, parser in parsers.items():
        parser.set_defaults(run=run_db, db=name)
        _add_arguments(name, parser, lang)
    parsers["help"].set_defaults(run=lambda chosen, context: run_help(chosen, context))
    parsers["completion"].set_defaults(run=lambda chosen, context: run_completion(chosen, context, parsers))


def _add_arguments(name: str, parser: argparse.ArgumentParser, lang: str) -> None:
    if name == "help":
        parser.add_argument("-l", "--lang", choices=("en", "ko"), default=lang)
        parser.add_argument("-c", "--command", choices=tuple(COMMANDS))
        return
    if name == "completion":
        parser.add_argument("shell", choices=("bash", "zsh", "fish"))
        return
    parser.add_argument("--json", action="store_true", help=say("--json", lang))
    parser.add_argument("--env", help=say("--env", lang))
    parser.add_argument("--root", help=say("--root", lang))
    if name == "new":
        parser.add_argument("name", help=say("new.name", lang))
        parser.add_argument("--engine", choices=("postgres", "sqlite"), default="postgres")
    if name in ("new", "list", "debug", "version"):
        return
    parser.add_argument("-d", "--database", action="append", default=[], help=say("-d", lang))
    parser.add_argument("-a", "--all", action="store_true", help=say("-a", lang))
    if name == "migrate":
        _add_migrate(parser, lang)
    if name == "rollback":
        parser.add_argument("-t", "--target", help=say("--target", lang))
        parser.add_argument("-l", "--list", action="store_true", help=say("--list", lang))
    if name == "push":
        parser.add_argument("--accept-data-loss", action="store_true", help=say("--accept-data-loss", lang))
    if name == "execute":
        parser.add_argument("-q", "--query", help=say("--query", lang))
        parser.add_argument("-f", "--file", help=say("--file", lang))
        parser.add_argument("--write", action="store_true", help=say("--write", lang))
        parser.add_argument("--limit", type=int, default=1000, help=say("--limit", lang))
    if name == "backups":
        parser.add_argument("--export", nargs=2, metavar=("ID", "FILE"), help=say("--export", lang))
    if name == "generate":
        parser.add_argument("--check", action="store_true", help=say("--check", lang))
    if name == "studio":
        parser.add_argument("--write", action="store_true", help=say("--write", lang))
        parser.add_argument("--port", type=int, default=0, help=say("--port", lang))
    if name in ("pull", "push", "rollback", "migrate"):
        parser.add_argument("--plan", action="store_true", help=say("--plan", lang))
        parser.add_argument("--token", help=say("--token", lang))
    if name in ("push", "rollback", "migrate"):
        parser.add_argument("--no-backup", action="store_true", help=say("--no-backup", lang))


def _add_migrate(parser: argparse.ArgumentParser, lang: str) -> None:
    parser.add_argument("-t", "--type", choices=MIGRATE_TYPES, default="status", help=say("--type", lang))
    parser.add_argument("-n", "--name", help=say("--name", lang))
    parser.add_argument("--empty", action="store_true", help=say("--empty", lang))
    parser.add_argument("--create-only", action="store_true", help=say("--create-only", lang))
    parser.add_argument("--rehearse", action="store_true", help=say("--rehearse", lang))
    parser.add_argument("--no-countdown", action="store_true", help=say("--no-countdown", lang))
    parser.add_argument("--allow-missing", action="store_true", help=say("--allow-missing", lang))
    parser.add_argument("--allow-out-of-order", action="store_true", help=say("--allow-out-of-order", lang))
    decided = parser.add_mutually_exclusive_group()
    decided.add_argument("--applied", metavar="VERSION", help=say("--applied", lang))
    decided.add_argument("--rolled-back", metavar="VERSION", help=say("--rolled-back", lang))
    decided.add_argument("--continue-at", nargs=2, metavar=("N", "VERSION"), help=say("--continue-at", lang))


async def run_db(chosen: argparse.Namespace, context: Context) -> int:
    from mcp_server.cli.db_terminal import Terminal

    terminal = Terminal(context, as_json=chosen.json)
    try:
        return await _run(chosen, context, terminal)
    except QuaymasterError as error:
        terminal.fail("db", error)
        if chosen.json:
            context.print_json({"error": error.payload()})
        return code_of(error)


async def _run(chosen: argparse.Namespace, context: Context, terminal: Terminal) -> int:
    root = context.cwd / chosen.root if chosen.root else context.cwd
    environment = environment_of(chosen.env or context.environ.get("QUAYMASTER_ENV") or "development")
    databases = context.root.code_databases(root, context.environ, environment, lambda: context.settings)
    if chosen.db not in ("new", "version"):
        await databases.places.look_up()
    if chosen.db in ("new", "list", "debug", "version"):
        from mcp_server.cli import db_code_base

        value = db_code_base.ALONE[chosen.db](databases, chosen, terminal, context)
        if chosen.json:
            context.print_json(value)
        return OK
    from mcp_server.cli import db_clients, db_commands

    command = db_commands.TABLE.get(chosen.db) or db_clients.commands(context)[chosen.db]
    answers = []
    for folder in databases.chosen(chosen.database, everything=chosen.all):
        code, value = await _tried(command, folder, chosen, databases, terminal)
        answers.append({"database": folder.name, "code": code, **value})
    if chosen.json:
        context.print_json({"databases": answers})
    codes: list[int] = [each["code"] for each in answers]
    return max(codes, key=WORST.index)


def environment_of(named: str) -> str:
    """Raises Invalid for another name: what production forbids must not depend on how its name is spelt."""
    found = ENVIRONMENTS.get(named.strip().lower())
    if found is None:
        raise Invalid(
            f"there is no environment '{named[:100]}'", next="There are: development, test, production."
        )
    return found


async def _tried(
    command: Callable[[Databases, Folder, argparse.Namespace, Terminal], Awaitable[Answer]],
    folder: Folder,
    chosen: argparse.Namespace,
    databases: Databases,
    terminal: Terminal,
) -> tuple[int, dict[str, Any]]:
    try:
        code, value = await command(databases, folder, chosen, terminal)
    except QuaymasterError as error:
        terminal.fail(folder.name, error)
        return code_of(error), {"error": error.payload()}
    return code, {"result": value}


def code_of(error: QuaymasterError) -> int:
    """What a command on a schema ends with."""
    from mcp_server.domain.schemas.failures import Drift, HalfApplied, ProgramFailed, StatementFailed

    if isinstance(error, (Drift, HalfApplied)):
        return PENDING
    if isinstance(error, Invalid):
        return USAGE
    failures = (StatementFailed, ProgramFailed, Unavailable, OutcomeUnknown, Corrupt)
    return FAILED if isinstance(error, failures) else REFUSED


def run_help(chosen: argparse.Namespace, context: Context) -> int:
    names = [chosen.command] if chosen.command else list(COMMANDS)
    width = max(len(name) for name in names)
    if not chosen.command:
        context.print(say("db", chosen.lang))
        context.print("")
    for name in names:
        context.print(f"  quaymaster db {name.ljust(width)}  {say(name, chosen.lang)}")
    if chosen.command:
        fresh = argparse.ArgumentParser(
            prog=f"quaymaster db {chosen.command}", add_help=False, allow_abbrev=False
        )
        _add_arguments(chosen.command, fresh, chosen.lang)
        context.print("")
        context.print(fresh.format_help().rstrip())
    else:
        context.print("")
        context.print(say("codes", chosen.lang))
    return OK


def run_completion(
    chosen: argparse.Namespace, context: Context, parsers: dict[str, argparse.ArgumentParser]
) -> int:
    from mcp_server.cli.db_completion import Words, script

    commands = {
        name: Words(_options(parser), _after(name, parser._actions)) for name, parser in parsers.items()
    }
    context.print(script(chosen.shell, commands))
    return OK


def _options(parser: argparse.ArgumentParser) -> list[str]:
    actions = parser._actions
    return [option for action in actions for option in action.option_strings if option.startswith("--")]


def _after(name: str, actions: Sequence[argparse.Action]) -> dict[str, list[str]]:
    """What may stand after an option that has choices; after the command itself where an argument has."""
    found = {
        before: [str(each) for each in action.choices]
        for action in actions
        if action.choices
        for before in (action.option_strings or [name])
    }
    if any("--env" in action.option_strings for action in actions):
        found["--env"] = sorted(set(ENVIRONMENTS.values()))
    return found
