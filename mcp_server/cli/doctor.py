"""`doctor`: what works, what does not, and how to get what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from argparse import Namespace
from collections.abc import AsyncIterator
from typing import Literal, NamedTuple

from mcp_server.cli.context import FAILED, OK, BadSettings, Context
from mcp_server.cli.parsing import Commands
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.wording import counted


class Finding(NamedTuple):
    """`hint` says what to do; a `note` is no fault."""

    what: str
    state: Literal["ok", "note", "FAIL"]
    text: str
    hint: str = ""


def add(commands: Commands) -> None:
    doctor = commands.add_parser("doctor", help="check settings, home, stores and programs")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=run_doctor)


async def run_doctor(chosen: Namespace, context: Context) -> int:
    findings = [finding async for finding in _examine(context)]
    if chosen.json:
        context.print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            hint = f"\n      {finding.hint}" if finding.hint else ""
            context.print(f"{finding.state:4}  {finding.what}: {finding.text}{hint}")
    return FAILED if any(finding.state == "FAIL" for finding in findings) else OK


async def _examine(context: Context) -> AsyncIterator[Finding]:
    from importlib.metadata import version

    sdk = version("mcp")
    text = f"quaymaster {context.root.version()}, Python {platform.python_version()}, MCP SDK {sdk}"
    yield Finding("versions", "ok", text)
    try:
        settings = context.settings
    except BadSettings as error:
        for problem in error.problems:
            yield Finding("settings", "FAIL", problem, "docs/settings.md lists every variable and its rule.")
        return
    yield Finding("settings", "ok", f"environment {settings.env}")
    yield _home(context)
    yield await _store(context)
    if settings.database_url is not None:
        yield await _schema(context)
    yield await _docker(context)
    yield _git()


def _home(context: Context) -> Finding:
    home = context.settings.home
    if not home.exists():
        return Finding("home", "note", f"{home} is made at the first start")
    if not os.access(home, os.W_OK | os.X_OK):
        return Finding(
            "home", "FAIL", f"{home} cannot be written", "Set QUAYMASTER_HOME, or mend its owner and mode."
        )
    try:
        report = context.root.registry_report(context.settings)
    except QuaymasterError as error:
        return Finding("home", "note", error.message, error.next)
    if not report.sound:
        return Finding("home", "FAIL", f"{home} is damaged", "Run 'quaymaster registry verify'.")
    return Finding("home", "ok", f"{home}, {sum(report.records.values())} records, {report.pending} pending")


async def _store(context: Context) -> Finding:
    """The engine is looked for first: a health report gives it a second, which its first search may exceed."""
    try:
        async with context.root.open_app(context.settings) as app:
            await app.databases.detect()
            found = await app.status.health(reasons=True)
    except QuaymasterError as error:
        return Finding("store", "FAIL", error.message, error.next)
    parts = ", ".join(f"{part.name} {part.condition}" for part in found.parts)
    if found.status == "healthy":
        return Finding("store", "ok", f"{found.mode}: {parts}")
    ill = (part for part in found.parts if part.condition in ("degraded", "unhealthy"))
    return Finding(
        "store", "FAIL", f"{found.mode}: {parts}", "; ".join(f"{part.name}: {part.reason}" for part in ill)
    )


async def _schema(context: Context) -> Finding:
    try:
        rows = await context.root.migrations(context.settings, up=False)
    except QuaymasterError as error:
        return Finding("PostgreSQL", "FAIL", error.message, error.next)
    wrong = [f"{name} {state}" for name, state in rows if state not in ("applied", "pending")]
    if wrong:
        return Finding("PostgreSQL", "FAIL", ", ".join(wrong), "Restore the migration files of this version.")
    return Finding(
        "PostgreSQL",
        "ok",
        f"{counted(len(rows), 'migration')}, {sum(s == 'pending' for _, s in rows)} pending",
    )


async def _docker(context: Context) -> Finding:
    """No engine is no fault: databases are then SQLite files."""
    try:
        async with context.root.open_app(context.settings) as app:
            found = await app.databases.detect(refresh=True)
    except QuaymasterError:
        return Finding("Docker", "note", "not asked, because the store cannot be opened")
    if not found.available:
        return Finding(
            "Docker",
            "note",
            found.reason or "there is no Docker engine",
            f"Project databases are SQLite files without it. {found.remedy or ''}".rstrip(),
        )
    return Finding("Docker", "ok", f"{found.version} (API {found.api_version}) at {found.address}")


def _git() -> Finding:
    if shutil.which("git") is None:
        return Finding("git", "note", "not found", "'quaymaster locks check --staged' needs it.")
    return Finding("git", "ok", "found")
