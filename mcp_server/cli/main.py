"""The command line: which commands there are, and how their failures end.

Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 4 refused (locked, forbidden, not found, in
conflict).
"""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Callable, Sequence

from mcp_server.cli import (
    backup,
    configs,
    db,
    doctor,
    edge,
    install,
    keys,
    locks,
    migrations,
    registry,
    secrets,
    servers,
)
from mcp_server.cli.context import FAILED, REFUSED, USAGE, BadSettings, Context, Root
from mcp_server.domain.errors import Corrupt, Invalid, OutcomeUnknown, QuaymasterError, Unavailable

COMMANDS = (servers, keys, locks, configs, migrations, registry, backup, secrets, edge, db, doctor, install)


def run(arguments: Sequence[str], find_root: Callable[[], Root], context: Context | None = None) -> int:
    """Carry out one command line; returns its exit code."""
    context = context or Context(find_root)
    try:
        chosen = parser(lambda: context.root.version()).parse_args(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    try:
        return _carry_out(chosen, context)
    except BadSettings as error:
        for problem in error.problems:
            context.tell(problem)
        return USAGE
    except QuaymasterError as error:
        context.tell(f"{error.message.rstrip('.')}. {error.next}")
        return _code(error)
    except BrokenPipeError:
        context.out = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        return FAILED
    except OSError as error:
        context.tell(f"{error.filename or type(error).__name__}: {error.strerror or error}")
        return FAILED
    except KeyboardInterrupt:
        return 130


def parser(version: Callable[[], str]) -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="quaymaster",
        description="Infrastructure for AI agents over MCP: shared work, databases, deployments, teams.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action=_Version, const=version, help="print the version and exit")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for each in COMMANDS:
        each.add(commands)
    return top


class _Version(argparse.Action):
    """Asks for the version only when it is wanted: that imports the server."""

    def __init__(self, option_strings: Sequence[str], dest: str, const: Callable[[], str], help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, const=const, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"{parser.prog} {self.const()}")
        parser.exit()


def _carry_out(chosen: argparse.Namespace, context: Context) -> int:
    command: Callable[[argparse.Namespace, Context], int] = chosen.run
    if not inspect.iscoroutinefunction(command):
        return command(chosen, context)

    import anyio

    async def asynchronous() -> int:
        code: int = await command(chosen, context)
        return code

    return anyio.run(_unwrapped, asynchronous)


async def _unwrapped(command: Callable[[], object]) -> int:
    """A task group wraps what is raised inside it: one error alone is raised as itself."""
    try:
        return await command()  # type: ignore[misc, no-any-return]
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from error.__cause__


def _code(error: QuaymasterError) -> int:
    if isinstance(error, Invalid):
        return USAGE
    return FAILED if isinstance(error, (Unavailable, OutcomeUnknown, Corrupt)) else REFUSED
