"""Alembic projects, driven by a process of the project's own interpreter.

env.py and the revisions are programs of the code base: they run as the user who runs this one, in the directory of
alembic.ini. The address reaches them as `sqlalchemy.url` of the configuration and in the environment, never in an
argument. Each step proves first that it is connected to the database that is meant.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import unquote, urlsplit

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from mcp_server.adapters.schemas.footprints import QUESTIONS, footprint_of
from mcp_server.domain.errors import QuaymasterError, Unavailable
from mcp_server.domain.schemas.failures import ProgramFailed, Refused, StatementFailed
from mcp_server.domain.schemas.folders import Folder
from mcp_server.domain.schemas.revisions import History, Revision
from mcp_server.ports.schemas import Footprint, Limits, Step, Witness

PROGRAM = Path(__file__).with_name("alembic_child.py")
LOOK_SECONDS, PATIENT_SECONDS = 20, 120
LAST_WORDS_SECONDS = 2
STEP_SECONDS = 3600
LINE_BYTES = 16 * 1024 * 1024
ENVIRONMENT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE")
"""What of the starter's environment a project gets that was given none."""
FRAME = re.compile(r'^  File "(.+)", line (\d+) in ', re.MULTILINE)


class AlembicProjects:
    """`environ` None gives env.py a bare environment, beside the address."""

    def __init__(self, root: Path, environ: Mapping[str, str] | None) -> None:
        self._root = root
        bare = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        self._environ = bare if environ is None else {**bare, **environ}

    async def look(self, folder: Folder, witness: Witness | None, *, patient: bool = False) -> History:
        request = self._request(folder, witness, action="look")
        async with self._child(folder, request) as answers:
            found = await answers.within(PATIENT_SECONDS if patient else LOOK_SECONDS)
        revisions = [Revision(each["version"], each["name"], each["file"]) for each in found["revisions"]]
        applied = set(found["applied"])
        return History(
            applied=tuple(each for each in revisions if each.version in applied),
            pending=tuple(each for each in revisions if each.version not in applied),
            unknown=tuple(found["unknown"]),
            heads=tuple(found["heads"]),
        )

    @asynccontextmanager
    async def run(
        self,
        folder: Folder,
        witness: Witness,
        versions: Sequence[str],
        direction: Literal["up", "down"],
        limits: Limits,
        *,
        watch: bool = False,
    ) -> AsyncIterator[AsyncIterator[Step]]:
        is_postgres = not witness.is_file
        request = self._request(
            folder,
            witness,
            action="run",
            steps=list(versions),
            direction=direction,
            limits=_limits(limits) if is_postgres else [],
            questions=(QUESTIONS if is_postgres else {"changes": "SELECT total_changes()"}) if watch else {},
        )
        async with self._child(folder, request) as answers:
            yield _steps(folder, answers, len(versions))

    def _request(self, folder: Folder, witness: Witness | None, **more: Any) -> dict[str, Any]:
        address = witness.address if witness is not None else "sqlite://"
        return {
            "ini": str(_home(folder) / "alembic.ini"),
            "url": f"postgresql{address[address.index(':') :]}"
            if address.startswith("postgres")
            else address,
            "variables": sorted({folder.variable, "DATABASE_URL"}),
            "witness": None if witness is None else witness._asdict(),
            **more,
        }

    @asynccontextmanager
    async def _child(self, folder: Folder, request: dict[str, Any]) -> AsyncIterator[_Answers]:
        python = self._python(folder)
        with tempfile.TemporaryFile() as told:
            try:
                process = await anyio.open_process(
                    [python, str(PROGRAM)],
                    cwd=_home(folder),
                    env=self._environ,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=told,
                    start_new_session=True,
                )
            except OSError as error:
                raise Unavailable(f"{folder.name}: {python} cannot be run: {error.strerror}") from error
            try:
                assert process.stdin is not None  # noqa: S101 - asked for above
                with suppress(anyio.BrokenResourceError):
                    await process.stdin.send(json.dumps(request).encode() + b"\n")
                yield _Answers(folder, process, request["url"], told)
            finally:
                with anyio.CancelScope(shield=True):
                    if process.returncode is None:
                        process.kill()
                    await process.aclose()

    def _python(self, folder: Folder) -> str:
        """That of database.toml, else of a .venv that has Alembic: beside alembic.ini, above; else this one."""
        if folder.settings.python is not None:
            return str(self._root / folder.settings.python)
        for base in dict.fromkeys((_home(folder), folder.path, self._root)):
            if any((base / ".venv").glob("lib/python*/site-packages/alembic")):
                return str(base / ".venv" / "bin" / "python")
        if importlib.util.find_spec("alembic") is None:
            raise Unavailable(
                f"{folder.name}: no interpreter with Alembic was found",
                next='Install alembic into a .venv of the project, or let database.toml say python = "PATH".',
            )
        return sys.executable


class _Answers:
    """The lines of the process. What they say of the database's password is left out."""

    def __init__(self, folder: Folder, process: Process, url: str, told: IO[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - asked for where it was started
        self._folder = folder
        self._process = process
        self._lines = BufferedByteReceiveStream(process.stdout)
        self._told = told
        self._secret = urlsplit(url).password or ""

    async def next(self) -> dict[str, Any]:
        """Raises what the process says has happened, and ProgramFailed where it ended without a word."""
        try:
            line = await self._lines.receive_until(b"\n", LINE_BYTES)
        except (anyio.IncompleteRead, anyio.DelimiterNotFound):
            code = await self._process.wait()
            self._told.seek(0)
            lines = self._told.read().decode("utf-8", "replace").strip().splitlines()
            said = self._plain(lines[-1][:500]) if lines else "it said nothing"
            raise ProgramFailed(f"{self._folder.name}: Alembic's process ended with {code}: {said}") from None
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise self._failure(found["error"])
        return found

    async def within(self, seconds: float) -> dict[str, Any]:
        """The next, unless it takes too long: then ProgramFailed, with the line at which the process was ended."""
        try:
            with anyio.fail_after(seconds):
                return await self.next()
        except TimeoutError as late:
            where = await self._last_place()
            raise ProgramFailed(
                f"{self._folder.name}: Alembic did not answer in {seconds:g} s and was ended{where}"
            ) from late

    async def _last_place(self) -> str:
        """Where in the project the process is, which it writes when it is told to abort."""
        self._process.send_signal(signal.SIGABRT)
        with anyio.move_on_after(LAST_WORDS_SECONDS):
            await self._process.wait()
        self._told.seek(0)
        said = self._told.read().decode("utf-8", "replace")
        home = _home(self._folder).resolve()
        for path, line in FRAME.findall(said.rpartition("Current thread")[2]):
            if Path(path).is_relative_to(home) and "site-packages" not in path:
                return f" at {Path(path).relative_to(home)}, line {line}"
        return ""

    def _failure(self, said: Mapping[str, Any]) -> QuaymasterError:
        text = self._plain(str(said["message"]))
        where = f"{said['where']}: " if said["where"] else ""
        message = f"{self._folder.name}: {where}{text}"
        if said["kind"] == "statement":
            more = {name: said[name] for name in ("statement", "sqlstate") if said[name]}
            return StatementFailed(message, **more)
        if said["kind"] == "lost":
            return Unavailable(message)
        if said["kind"] == "elsewhere":
            return Refused(
                message,
                next="Let env.py take its address from 'sqlalchemy.url' of the configuration, or from "
                f"{self._folder.variable} in the environment. Nothing has been changed.",
            )
        if "No module named 'alembic'" in text:
            return Unavailable(message, next="Install alembic where the project's interpreter finds it.")
        return ProgramFailed(message)

    def _plain(self, text: str) -> str:
        for secret in (self._secret, unquote(self._secret)):
            text = text.replace(secret, "***") if secret else text
        return text


async def _steps(folder: Folder, answers: _Answers, count: int) -> AsyncIterator[Step]:
    for _ in range(count):
        found = await answers.within(STEP_SECONDS)
        footprint, before, after = Footprint(), found.get("before", {}), found.get("after", {})
        if before and "changes" in before:
            changes = after["changes"][0][0] - before["changes"][0][0]
            footprint = Footprint(touched={"all tables": changes} if changes else {})
        elif before:
            footprint = footprint_of(before, after)
            touched = {name: rows for name, rows in footprint.touched.items() if name != found["account"]}
            footprint = footprint._replace(touched=touched)
        yield Step(found["step"], found["seconds"], footprint, tuple(found.get("statements", ())))
    await answers.next()


def _limits(limits: Limits) -> list[str]:
    lock, statement = (int(each * 1000) for each in limits[:2])
    return [
        f"SELECT set_config('lock_timeout', '{lock}ms', false)",
        f"SELECT set_config('statement_timeout', '{statement}ms', false)",
    ]


def _home(folder: Folder) -> Path:
    return folder.alembic or folder.path
