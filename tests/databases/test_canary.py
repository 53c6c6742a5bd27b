"""Secrets of databases through a whole life: in the answers to those who ask for them, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.adapters.sealing.aes import AesSealer
from mcp_server.adapters.sealing.keys import setting_and_file
from mcp_server.domain.databases import Database
from mcp_server.services.databases.passwords import Passwords
from tests.acceptance.wire import META, call, receive, send
from tests.databases.test_faults import Berth, berth
from tests.databases.yards import run_on
from tests.services.processes import ServerProcess

__all__ = ["berth"]

GIVEN = ("canary-value-4711", "canary-sql-4712", "canary-text-4713")
"""What a caller gives with a query: a value, a part of the statement, one that a driver's error quotes."""


class Eavesdropper:
    """Speaks to a server, and keeps what it says: `heard` has neither secrets nor what a caller gave, `read` may
    have the latter. Answers that were asked to reveal are left out."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._number = 0
        self.heard: list[str] = []
        self.read: list[str] = []

    def ask(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        self._number += 1
        asked = call(self._number, tool, **arguments)
        asked["params"]["_meta"] = {**META, "progressToken": self._number}
        send(self._server, asked)
        while "result" not in (message := receive(self._server)):
            self.heard.append(json.dumps(message))
        found: dict[str, Any] = message["result"]["structuredContent"]
        if tool in ("query_database", "database_logs"):
            self.read.append(json.dumps(message))
        elif not arguments.get("reveal"):
            self.heard.append(json.dumps(message))
        return found

    def planned(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        token = self.ask(tool, **arguments)["plan_token"]
        return self.ask(tool, **arguments, plan_token=token)


@contextmanager
def watched_processes() -> Iterator[set[str]]:
    """Arguments and environments of all processes of this machine, as often as they can be looked at."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            for process in os.listdir("/proc"):
                for name in ("cmdline", "environ") if process.isdigit() else ():
                    with contextlib.suppress(OSError), open(f"/proc/{process}/{name}", "rb") as file:
                        seen.add(file.read().decode(errors="replace"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def password_of(url: str) -> str:
    password = urlsplit(url).password
    assert password
    return password


def live(ask: Eavesdropper, berth: Berth) -> Iterator[str]:
    """Everything that a database goes through; yields each secret that was revealed."""
    shop = berth.shop
    ask.ask("create_database", project=shop, engine="postgres")
    first = ask.ask("get_database", project=shop, reveal=True)["url"]
    yield password_of(first)
    asyncio.run(run_on(first, "CREATE TABLE kept AS SELECT 7 AS n"))
    ask.ask("query_database", project=shop, sql="SELECT $1::text", parameters=[GIVEN[0]])
    ask.ask("query_database", project=shop, sql=f"SELECT '{GIVEN[1]}'")
    ask.ask("query_database", project=shop, sql=f"SELECT '{GIVEN[2]}'::int")
    ask.ask("query_database", project=shop, sql="SELECT $1::int", parameters=[GIVEN[2]])
    ask.ask("rotate_database_password", project=shop)
    yield password_of(ask.ask("get_database", project=shop, reveal=True)["url"])
    ask.ask("backup_database", project=shop)
    yield password_of(ask.ask("branch_database", project=shop, name="try", reveal=True)["url"])
    ask.ask("stop_database", project=shop)
    ask.ask("start_database", project=shop)
    ask.ask("database_stats", project=shop)
    ask.planned("restore_database", backup_id=ask.ask("list_backups")["items"][0]["id"])
    ask.ask("database_logs", project=shop, lines=1000)
    # A login that fails with an error of the driver, which knows the address.
    ask.ask("stop_database", project=shop)
    ask.ask("query_database", project=shop, sql="SELECT 1")
    ask.ask("start_database", project=shop)


@pytest.mark.parametrize("isolation", ["container", pytest.param("shared", marks=pytest.mark.soak)])
def test_secrets_of_databases_stay_where_they_were_asked_for(
    berth: Berth, isolation: str, tmp_path: Path
) -> None:
    berth.settings["QUAYMASTER_LOG_LEVEL"] = "debug"
    berth.settings["QUAYMASTER_DATABASE_ISOLATION"] = isolation
    berth.settings["QUAYMASTER_WARM_POOL"] = "1"
    project = tmp_path / "project"
    project.mkdir()
    with watched_processes() as processes, berth.server() as server:
        ask = Eavesdropper(server)
        ask.ask("create_project", name=berth.shop, path=str(project))
        first, rotated, branch = live(ask, berth)
        assert rotated in (project / ".env").read_text()
        secrets = {first, rotated, branch, *sealed_secrets(berth)}
        assert len(secrets) == 4
        shown = engine_view(berth)
        ask.ask("query_audit", with_params=True, limit=200)
        ask.planned("delete_database", project=berth.shop)
    assert any("dockerd" in text for text in processes)
    assert any("progress" in text for text in ask.heard)
    for secret in secrets:
        for form in {secret, quote(secret, safe="")}:
            assert not [text for text in processes if form in text]
            assert not [text for text in [*ask.heard, *ask.read] if form in text]
            assert form not in shown
            assert form not in server.stderr
            assert not files_with(berth.home, form)
    for given in GIVEN:
        assert given not in server.stderr
        assert not [text for text in ask.heard if given in text]
        assert [text for text in ask.read if given in text]
        assert not files_with(berth.home, given)


def sealed_secrets(berth: Berth) -> list[str]:
    """Those that nobody is shown, the reader's, opened with the home's own key."""

    async def records() -> list[Database]:
        store = await RegistryStore.open(berth.home)
        try:
            home = json.loads((berth.home / "home.json").read_text())["home"]
            return list(await store.read(lambda tx: tx.databases.of_home(home)))
        finally:
            store.close()

    passwords = Passwords(AesSealer(setting_and_file(None, berth.home)))
    found = asyncio.run(records())
    assert found
    return [
        passwords.login_of(record, reader=reader).password.get_secret_value()
        for record in found
        for reader in (False, True)
    ]


def engine_view(berth: Berth) -> str:
    """What the engine tells of every container: its settings, and what it wrote."""
    views = []
    for one in berth.engine.containers(berth.installation):
        views.append(json.dumps(berth.engine.ask("GET", f"/containers/{one['Id']}/json")))
        views.append(str(berth.engine.ask("GET", f"/containers/{one['Id']}/logs?stdout=1&stderr=1")))
        views.append(json.dumps(berth.engine.ask("GET", f"/containers/{one['Id']}/top?ps_args=-ef")))
    assert views
    return "\n".join(views)


def files_with(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]
