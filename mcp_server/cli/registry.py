"""`registry verify|compact|export|import|claim|conflicts`: the files of this home."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.cli.context import FAILED, OK, Context, RegistryReport
from mcp_server.cli.parsing import Commands, group
from mcp_server.domain.pages import MAX_LIMIT
from mcp_server.domain.wording import counted

if TYPE_CHECKING:
    from mcp_server.services.conflicts import ConflictItem


def add(commands: Commands) -> None:
    registry = group(commands, "registry", "inspect and maintain the files of this home")
    verify = registry.add_parser("verify", help="read every byte; exit 1 when anything is damaged")
    verify.add_argument(
        "--set-aside",
        action="store_true",
        help="with no server running: move damaged parts away and keep the rest",
    )
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(run=run_verify)
    compact = registry.add_parser("compact", help="write a snapshot and start a new journal")
    compact.set_defaults(run=run_compact)
    export = registry.add_parser("export", help="print all records as JSON; this includes hashes of keys")
    export.add_argument("--to", type=Path, metavar="FILE", help="a new file, mode 0600, instead of stdout")
    export.set_defaults(run=run_export)
    bring = registry.add_parser("import", help="copy this home's records into an empty PostgreSQL")
    bring.set_defaults(run=run_import)
    claim = registry.add_parser("claim", help="show which homes share PostgreSQL, and which may grant alone")
    claim.add_argument(
        "--force",
        action="store_true",
        help="the home that may grant alone, or of which this is a copy, is gone for good",
    )
    claim.set_defaults(run=run_claim)
    conflicts = registry.add_parser("conflicts", help="list changes that wait for a person's decision")
    conflicts.add_argument("--json", action="store_true")
    conflicts.set_defaults(run=run_conflicts)


async def run_verify(chosen: Namespace, context: Context) -> int:
    if chosen.set_aside:
        for line in await context.root.registry_set_aside(context.settings):
            context.tell(line)
    report = context.root.registry_report(context.settings)
    if chosen.json:
        context.print_json(_as_json(report))
    else:
        _show(report, context)
    return OK if report.sound else FAILED


async def run_compact(chosen: Namespace, context: Context) -> int:
    await context.root.registry_compact(context.settings)
    context.tell("a snapshot was written")
    return OK


def run_export(chosen: Namespace, context: Context) -> int:
    exported = context.root.registry_export(context.settings)
    if chosen.to is None:
        context.print_json(exported)
        return OK
    descriptor = os.open(chosen.to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        context.out, out = file, context.out
        context.print_json(exported)
        context.out = out
    return OK


async def run_import(chosen: Namespace, context: Context) -> int:
    counts = await context.root.registry_import(context.settings)
    for noun, count in counts.items():
        context.print(f"{count:6} {noun}")
    context.tell("imported; audit rows of the time before stay in this home's files")
    return OK


async def run_claim(chosen: Namespace, context: Context) -> int:
    claim = await context.root.registry_claim(context.settings, force=chosen.force)
    for home in claim.homes:
        context.print(f"{home}  {'may grant alone' if home == claim.holder else ''}".rstrip())
    if claim.copied:
        context.tell(
            "this directory was copied or moved: the home of its id is known at another place. If that one is gone "
            "for good, say so with --force; else set QUAYMASTER_HOME to a new directory"
        )
    elif claim.holder is None:
        context.tell("without PostgreSQL no home grants what is exclusive")
    return OK


async def run_conflicts(chosen: Namespace, context: Context) -> int:
    items: list[ConflictItem] = []
    cursor: str | None = None
    async with context.root.open_app(context.settings) as app:
        while True:
            call, after = context.call("list_conflicts"), cursor
            page = await app.calls.perform(
                call,
                lambda: app.conflicts.list_conflicts(call, limit=MAX_LIMIT, cursor=after),  # noqa: B023
            )
            items += page.items
            cursor = page.cursor
            if cursor is None:
                break
    if chosen.json:
        context.print_json([item.model_dump(mode="json") for item in items])
    else:
        for item in items:
            context.print(
                f"{item.id}  {item.about}: {item.reason}\n  ours:   {item.ours}\n  theirs: {item.theirs}"
            )
    context.tell(
        f"undecided: {counted(len(items), 'conflict')}; resolve_conflict decides them"
        if items
        else "no conflicts"
    )
    return OK


def _show(report: RegistryReport, context: Context) -> None:
    context.print(f"{report.root}: home {report.home}, line {report.seq}, {report.pending} pending")
    context.print(", ".join(f"{count} {noun}" for noun, count in report.records.items() if count) or "empty")
    for remark in report.remarks:
        context.tell(f"remark: {remark}")
    for damage in report.damages:
        context.tell(f"damaged: {damage.file}, line {damage.line}: {damage.what}")
    if report.damages:
        context.tell("Stop every server of this home, then: quaymaster registry verify --set-aside")


def _as_json(report: RegistryReport) -> dict[str, object]:
    damages = [{"file": each.file, "line": each.line, "what": each.what} for each in report.damages]
    return {
        "root": report.root,
        "home": report.home,
        "seq": report.seq,
        "records": dict(report.records),
        "pending": report.pending,
        "audit_rows": report.audit_rows,
        "damages": damages,
        "remarks": list(report.remarks),
    }
