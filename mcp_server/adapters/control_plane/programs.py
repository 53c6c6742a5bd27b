"""pg_dump and pg_restore of the server's own version: the host's, else those in a container for the moment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from pydantic import SecretBytes

from mcp_server.domain.errors import Conflict, NotFound, QuaymasterError, Unavailable
from mcp_server.domain.installation_backups import Address, image_of
from mcp_server.domain.redaction import redacted_text
from mcp_server.domain.workloads import LABEL, MB, File, Limits, Owner, Ref, Workload
from mcp_server.ports.backups import Sink
from mcp_server.ports.orchestrator import Orchestrator

PLACES = (
    "/usr/lib/postgresql/{major}/bin",
    "/usr/pgsql-{major}/bin",
    "/usr/local/opt/postgresql@{major}/bin",
    "/opt/homebrew/opt/postgresql@{major}/bin",
)
PASSWORD_FILE = "/etc/quaymaster/pgpass"  # noqa: S105  # a path
KIND = "client"
WORKER = f"{LABEL}.worker"
SECONDS = 3600.0
TIDY_SECONDS = 30.0
SAID = 8192
MISSING = (126, 127)


class Programs(Protocol):
    async def run(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        stdin: AsyncIterator[bytes] | None = None,
        stdout: Sink | None = None,
    ) -> None:
        """To its end. Raises Unavailable with its last words."""
        ...


class HostPrograms:
    """`folder` holds them. The password goes in the environment, which only this account can read."""

    def __init__(self, folder: Path, address: Address, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = {**environ, "LC_ALL": "C"}
        if address.password is not None:
            self._environ["PGPASSWORD"] = address.password

    async def run(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        stdin: AsyncIterator[bytes] | None = None,
        stdout: Sink | None = None,
    ) -> None:
        said = bytearray()
        try:
            with anyio.fail_after(SECONDS):
                code = await self._ended([str(self._folder / program), *arguments], stdin, stdout, said)
        except BaseExceptionGroup as group:
            raise _first(group) from group
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"{program} could not be run ({type(error).__name__})") from error
        _require(code, said.decode(errors="replace"), program)

    async def _ended(
        self, argv: list[str], stdin: AsyncIterator[bytes] | None, stdout: Sink | None, said: bytearray
    ) -> int:
        given = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        async with (
            await anyio.open_process(argv, stdin=given, env=self._environ) as process,
            anyio.create_task_group() as streams,
        ):
            streams.start_soon(_fed, process, stdin)
            streams.start_soon(_taken, process.stdout, stdout)
            streams.start_soon(_taken, process.stderr, partial(_last, said))
            await process.wait()
        return process.returncode or 0


class ContainerPrograms:
    """Inside a workload that shares the host's network; the password lies in a file there."""

    def __init__(self, engine: Orchestrator, workload: Ref) -> None:
        self._engine = engine
        self._workload = workload

    async def run(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        stdin: AsyncIterator[bytes] | None = None,
        stdout: Sink | None = None,
    ) -> None:
        done = await self._engine.exec(
            self._workload,
            [program, *arguments],
            environment={"PGPASSFILE": PASSWORD_FILE, "LC_ALL": "C"},
            stdin=stdin,
            stdout=stdout,
            timeout=SECONDS,
        )
        _require(done.exit_code, done.stderr, program)


class ProgramsOfVersion:
    """`worker` marks the containers of this process, so that they are removed when it has died."""

    def __init__(
        self,
        address: Address,
        engine: Orchestrator,
        owner: Owner,
        image: str,
        worker: str,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._address = address
        self._engine = engine
        self._owner = owner
        self._image = image
        self._worker = worker
        self._environ = environ

    @asynccontextmanager
    async def of(self, major: int) -> AsyncIterator[Programs]:
        """Programs of this version for the length of the block. Raises Unavailable."""
        folder = await anyio.to_thread.run_sync(_on_host, major, self._environ.get("PATH", os.defpath))
        if folder is not None:
            yield HostPrograms(folder, self._address, self._environ)
            return
        async with self._container(major) as workload:
            yield ContainerPrograms(self._engine, workload)

    def labels(self) -> dict[str, str]:
        return {**self._owner.labels(), f"{LABEL}.kind": KIND}

    @asynccontextmanager
    async def _container(self, major: int) -> AsyncIterator[Ref]:
        image = image_of(self._image, major)
        if self._address.socket:
            raise _none(major, "a container does not reach the server's socket")
        try:
            await self._engine.ensure_image(image)
        except (Unavailable, NotFound) as error:
            raise _none(major, f"{image}: {error.message}") from error
        workload = client_workload(self._owner, image, major, self._address, self._worker)
        try:
            await self._engine.create(workload)
            await self._engine.start(workload.ref)
            yield workload.ref
        except Conflict as error:
            raise Unavailable(f"no container for pg_dump could be made: {error.message}") from error
        finally:
            with anyio.move_on_after(TIDY_SECONDS, shield=True):
                await self._engine.remove(workload.ref)

    async def clear(self, alive: Callable[[str | None], bool]) -> None:
        """Remove the containers of processes that are not alive."""
        try:
            for one in await self._engine.list(self.labels()):
                if not alive(one.labels.get(WORKER)):
                    await self._engine.remove(Ref(name=one.name, owner=self._owner))
        except QuaymasterError:
            return


def client_workload(owner: Owner, image: str, major: int, address: Address, worker: str) -> Workload:
    password = (address.password or "").replace("\\", "\\\\").replace(":", "\\:")
    return Workload(
        name=f"{LABEL}-client-{worker}-{major}",
        owner=owner,
        kind=KIND,
        image=image,
        command=("sleep", str(round(2 * SECONDS))),
        files=(File(path=PASSWORD_FILE, content=SecretBytes(f"*:*:*:*:{password}\n".encode())),),
        host_network=True,
        limits=Limits(memory=256 * MB, cpus=1, pids=50),
        restart="no",
        stop_grace=1,
        init=True,
        extra_labels={WORKER: worker},
    )


def _on_host(major: int, path: str) -> Path | None:
    """Where both programs of exactly this version are: what a newer one writes, an older server may refuse."""
    places = [place.format(major=major) for place in PLACES]
    for folder in (*places, *path.split(os.pathsep)):
        found = [shutil.which(name, path=folder) for name in ("pg_dump", "pg_restore")]
        if folder and found[0] is not None and found[1] is not None and _version(found[0]) == major:
            return Path(folder)
    return None


def _version(program: str) -> int | None:
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\)\s+(\d+)", said)
    return int(match[1]) if match else None


def _none(major: int, why: str) -> Unavailable:
    return Unavailable(
        f"there is no pg_dump of PostgreSQL {major} here ({why})",
        next=f"Install PostgreSQL {major}'s client programs, or start the Docker engine with an image of it.",
    )


async def _fed(process: Process, stdin: AsyncIterator[bytes] | None) -> None:
    """A program that ended before it read everything says why itself."""
    stream: ByteSendStream | None = process.stdin
    if stream is None or stdin is None:
        return
    try:
        async for piece in stdin:
            await stream.send(piece)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return
    finally:
        with anyio.CancelScope(shield=True):
            await stream.aclose()


async def _taken(stream: ByteReceiveStream | None, sink: Sink | None) -> None:
    if stream is None:
        return
    async for piece in stream:
        if sink is not None:
            await sink(piece)


async def _last(said: bytearray, piece: bytes) -> None:
    said += piece
    del said[:-SAID]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _require(exit_code: int, said: str, program: str) -> None:
    if exit_code in MISSING:
        raise Unavailable(f"there is no {program} in the image")
    if exit_code != 0:
        words = redacted_text(" ".join(said.split())[-300:])
        raise Unavailable(f"{program} failed: {words or 'it gave no reason'}")
