"""`locks check --staged`: for git and editor hooks, whether somebody else has locked what is about to be
committed."""

from __future__ import annotations

import os
import subprocess
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.cli.context import OK, REFUSED, Cases, Context
from mcp_server.cli.parsing import Commands, group
from mcp_server.domain.errors import Forbidden, Invalid, NotFound, Unauthenticated, Unavailable

if TYPE_CHECKING:
    from mcp_server.domain.callers import Caller
    from mcp_server.services.lock_views import CheckResult


def add(commands: Commands) -> None:
    locks = group(commands, "locks", "check file locks")
    check = locks.add_parser("check", help="exit 4 when somebody else has locked one of the files")
    check.add_argument("paths", nargs="*", metavar="PATH", help="relative to the project")
    check.add_argument("--staged", action="store_true", help="the files that git has staged")
    check.add_argument("--project", help="default: the name of the repository's directory")
    check.add_argument("--task", help="your task (default: QUAYMASTER_TASK)")
    check.add_argument("--agent", help="your name (default: QUAYMASTER_AGENT)")
    check.add_argument("--json", action="store_true")
    check.set_defaults(run=run_check)


async def run_check(chosen: Namespace, context: Context) -> int:
    """4 says that a file is locked, and nothing else: a check that cannot be made has another code."""
    from mcp_server.services.staged import committer

    if chosen.staged == bool(chosen.paths):
        raise Invalid("name the paths, or pass --staged", next="See 'quaymaster locks check --help'.")
    root = repository(context.cwd) if chosen.staged or not chosen.project else context.cwd
    paths = staged(root) if chosen.staged else chosen.paths
    project = chosen.project or root.name
    task, agent = committer(context.environ, task_id=chosen.task, agent=chosen.agent)
    async with context.root.open_app(context.settings) as app:
        try:
            result = await _checked(app, context, project, paths, task, agent)
        except (NotFound, Forbidden, Unauthenticated) as error:
            named = chosen.project or not isinstance(error, NotFound)
            raise Unavailable(
                error.message, next=error.next if named else "Name the project: --project NAME."
            ) from error
    return _show(result, chosen.json, context)


async def _checked(
    app: Cases, context: Context, project: str, paths: Sequence[str], task: str | None, agent: str | None
) -> CheckResult:
    from mcp_server.services.calls import Call

    caller = await _caller(context, app.sign_in.authenticate)
    params = {"project": project, "paths": list(paths)[:50]}
    call = Call(caller=caller, action="check_files", params=params)
    return await app.calls.perform(call, lambda: app.staged.check(call, project, paths, task, agent))


def repository(cwd: Path) -> Path:
    """The directory of the repository around `cwd`. Raises Unavailable where git finds none."""
    return Path(os.fsdecode(_git(cwd, "rev-parse", "--show-toplevel").rstrip(b"\n")))


def staged(root: Path) -> list[str]:
    """The staged paths, relative to the repository; of a renamed file both names."""
    raw = _git(root, "diff", "--cached", "--name-only", "--no-renames", "-z")
    return [os.fsdecode(name) for name in raw.split(b"\0") if name]


def _git(cwd: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(
            f"git could not be asked ({type(error).__name__})", next="Is git installed?"
        ) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Unavailable(f"git: {said[-1] if said else 'failed'}", next="Run this inside a git repository.")
    return done.stdout


async def _caller(context: Context, authenticate: Callable[..., Awaitable[Caller]]) -> Caller:
    """The key of QUAYMASTER_API_KEY, else the person at the command line."""
    key = context.settings.api_key
    if key is None:
        return context.operator()
    return await authenticate(key.get_secret_value(), transport="cli")


def _show(result: CheckResult, as_json: bool, context: Context) -> int:
    if as_json:
        context.print_json(result.model_dump(mode="json"))
    for conflict in result.conflicts if not as_json else ():
        until = conflict.expires_at.astimezone().strftime("%H:%M")
        work = f" for '{conflict.task_title}'" if conflict.task_title else ""
        context.tell(f"{conflict.path} is locked by {conflict.holder}{work} ({conflict.mode}) until {until}")
    for notice in result.notices:
        context.tell(notice)
    return OK if result.free else REFUSED
