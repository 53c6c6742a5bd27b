"""A program, run by the interpreter of an Alembic project: reads one request, runs env.py, answers in lines of JSON.

It imports nothing of ours, because the interpreter may be another one, and an older one (3.9 or newer). The request comes on standard
input, which then stays open: when it ends, its writer is dead, and this process ends at once. What env.py prints goes to
standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

Request = dict[str, Any]
DRIVERS = {"postgresql": ("psycopg2", "psycopg", "asyncpg", "pg8000"), "sqlite": ("pysqlite",)}


class Elsewhere(Exception):
    """env.py is connected to another database than the one that was asked for, or the lock is lost."""


class BrokenReferences(Exception):
    """Rows of a SQLite file refer to rows that are not there, and did not before."""


def main() -> None:
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        faulthandler.enable()  # so that it says where it hangs when it is told to abort, and leaves no core
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        here = os.path.dirname(os.path.abspath(__file__))
        sys.path[:] = [each for each in sys.path if os.path.abspath(each) != here]
        request: Request = json.loads(sys.stdin.readline())
        threading.Thread(target=_end_with_the_writer, daemon=True).start()

        def say(**answer: Any) -> None:
            answers.write(json.dumps(answer, default=str) + "\n")
            answers.flush()

        try:
            project = Project(request)
            if request["action"] == "look":
                say(**project.look())
            else:
                project.run(say)
            say(ended=True)
        except BaseException as error:
            say(error=_said(error, request))


def _end_with_the_writer() -> None:
    os.read(0, 1)
    os._exit(9)


class Project:
    def __init__(self, request: Request) -> None:
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        self._request = request
        config = Config(request["ini"], stdout=sys.stderr)
        config.cmd_opts = argparse.Namespace(x=None)
        self._scripts = ScriptDirectory.from_config(config)
        url = self._url(config.get_main_option("sqlalchemy.url"))
        config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        for name in request["variables"]:
            os.environ[name] = url
        self._config = config

    def look(self) -> dict[str, Any]:
        """Every revision, the first first; the ones that the database says it has; of those the unknown ones."""
        scripts = list(self._scripts.walk_revisions("base", "heads"))[::-1]
        known = {each.revision for each in scripts}
        current: tuple[str, ...] = ()

        def only_look(heads: tuple[str, ...], context: Any) -> list[Any]:
            nonlocal current
            self._require_here(context.connection)
            current = tuple(heads)
            return []

        if self._request["witness"]:
            self._in_env(only_look, dont_mutate=True)
        there = tuple(each for each in current if each in known)
        applied = (
            {each.revision for each in self._scripts.iterate_revisions(there, "base")} if there else set()
        )
        return {
            "revisions": [
                {"version": each.revision, "name": each.doc or "", "file": os.path.basename(each.path)}
                for each in scripts
            ],
            "applied": sorted(applied),
            "unknown": sorted(set(current) - known),
            "heads": list(self._scripts.get_heads()),
        }

    def run(self, say: Callable[..., None]) -> None:
        """The asked revisions one by one, each in an environment, a connection and a transaction of its own."""
        for revision in self._request["steps"]:
            began = time.monotonic()
            footprint = self._step(revision)
            say(step=revision, seconds=time.monotonic() - began, **footprint)

    def _step(self, revision: str) -> dict[str, Any]:
        from alembic.runtime.migration import MigrationStep

        script = self._scripts.get_revision(revision)
        make = getattr(MigrationStep, f"{self._request['direction']}grade_from_script")
        footprint: dict[str, Any] = {}
        ran = False

        def one_step(heads: tuple[str, ...], context: Any) -> Iterator[Any]:
            nonlocal ran
            ran = True
            footprint["account"] = context.version_table
            step = make(self._scripts.revision_map, script)
            work = step.migration_fn

            def watched(**arguments: Any) -> None:
                connection = context.connection
                self._require_here(connection)
                self._limit(connection)
                with self._whole(connection), self._noted(connection, footprint):
                    work(**arguments)
                self._require_here(connection)

            step.migration_fn = watched
            yield step

        self._in_env(one_step, destination_rev=revision)
        if not ran:
            raise Elsewhere("env.py ran no migrations")
        return footprint

    def _in_env(self, fn: Callable[..., Any], **how: Any) -> None:
        from alembic.runtime.environment import EnvironmentContext

        with EnvironmentContext(self._config, self._scripts, fn=fn, as_sql=False, **how):
            self._scripts.run_env()

    def _require_here(self, connection: Any) -> None:
        from sqlalchemy import text

        witness = self._request["witness"]
        try:
            found = str(connection.execute(text(witness["sql"])).scalar())
        except Exception as error:
            raise Elsewhere("env.py connects to another database") from error
        if witness["is_file"]:
            found, wanted = os.path.realpath(found), os.path.realpath(witness["answer"])
        else:
            wanted = witness["answer"]
        if found != wanted:
            raise Elsewhere("env.py connects to another database, or the lock of this run was lost")

    def _limit(self, connection: Any) -> None:
        from sqlalchemy import text

        for sql in self._request["limits"]:
            connection.execute(text(sql))

    @contextlib.contextmanager
    def _whole(self, connection: Any) -> Iterator[None]:
        """SQLite's driver begins no transaction for DDL by itself. References are looked at when the work is done,
        because a table that is made anew would else take its dependents with it."""
        driver = getattr(connection.connection, "driver_connection", None)
        if not self._request["witness"]["is_file"] or getattr(driver, "in_transaction", True):
            yield
            return
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        broken = set(map(tuple, connection.exec_driver_sql("PRAGMA foreign_key_check")))
        yield
        if not set(map(tuple, connection.exec_driver_sql("PRAGMA foreign_key_check"))) <= broken:
            raise BrokenReferences("rows would refer to rows that are not there")

    @contextlib.contextmanager
    def _noted(self, connection: Any, footprint: dict[str, Any]) -> Iterator[None]:
        """What the work did, where that was asked for: statements, and answers to the questions before and after."""
        questions = self._request["questions"]
        if not questions:
            yield
            return
        from sqlalchemy import event, text

        statements: list[str] = []

        def executed(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
            statements.append(statement)

        def answers() -> dict[str, Any]:
            return {
                name: [list(row) for row in connection.execute(text(sql))] for name, sql in questions.items()
            }

        footprint["before"] = answers()
        event.listen(connection, "before_cursor_execute", executed)
        try:
            yield
        finally:
            event.remove(connection, "before_cursor_execute", executed)
        footprint.update(statements=statements, after=answers())

    def _url(self, written: str | None) -> str:
        """The address with the driver that the project means: of its alembic.ini, else an async one where env.py
        speaks of async engines, else one that is installed."""
        from sqlalchemy.engine import make_url

        url = make_url(self._request["url"])
        backend = url.get_backend_name()
        own: str | None = None
        with contextlib.suppress(Exception):
            parsed = make_url(written or "")
            if parsed.get_backend_name() == backend and "+" in parsed.drivername:
                own = parsed.drivername.partition("+")[2]
        if own is None and self._is_async():
            own = {"postgresql": "asyncpg", "sqlite": "aiosqlite"}.get(backend)
        if own is None:
            own = next((each for each in DRIVERS.get(backend, ()) if _is_installed(each)), None)
        if own is not None:
            url = url.set(drivername=f"{backend}+{own}")
        if own == "asyncpg" and "sslmode" in url.query:
            url = url.update_query_dict({"ssl": url.query["sslmode"]}).difference_update_query(["sslmode"])
        return url.render_as_string(hide_password=False)

    def _is_async(self) -> bool:
        path = os.path.join(self._scripts.dir, "env.py")
        with open(path, encoding="utf-8") as file:
            return "async_engine" in (text := file.read()) or "AsyncEngine" in text


def _is_installed(driver: str) -> bool:
    import importlib.util

    return driver == "pysqlite" or importlib.util.find_spec(driver) is not None


def _said(error: BaseException, request: Request) -> dict[str, Any]:
    kind, message = "program", f"{type(error).__name__}: {error}"
    found: dict[str, Any] = {}
    if isinstance(error, Elsewhere):
        kind, message = "elsewhere", str(error)
    else:
        with contextlib.suppress(ImportError):
            from alembic.util import CommandError
            from sqlalchemy.exc import DBAPIError

            if isinstance(error, CommandError):
                kind, message = "alembic", str(error)
            elif isinstance(error, DBAPIError):
                kind, message = ("lost" if error.connection_invalidated else "statement"), str(error.orig)
                found["statement"] = " ".join((error.statement or "").split())[:200]
                found["sqlstate"] = getattr(error.orig, "sqlstate", None) or getattr(
                    error.orig, "pgcode", None
                )
    lines = [line for line in message.splitlines() if line.strip()] or ["it said nothing"]
    return {"kind": kind, "message": lines[0][:500], "where": _where(error, request), **found}


def _where(error: BaseException, request: Request) -> str:
    """The last line of the project's own files that the error went through."""
    base = os.path.dirname(os.path.abspath(request["ini"]))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = os.path.abspath(frame.filename)
        if os.path.isfile(path) and path.startswith(base + os.sep) and "site-packages" not in path:
            return f"{os.path.relpath(path, base)}, line {frame.lineno}"
    return ""


if __name__ == "__main__":
    main()
