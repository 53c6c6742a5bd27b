"""One engine's API: where it is, how long it may take, and what its errors mean."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_server.domain.errors import Conflict, Invalid, NotFound, QuaymasterError, Unavailable
from mcp_server.domain.redaction import redacted_text

if TYPE_CHECKING:
    import aiodocker
    import aiohttp

UNIX = "unix://"
USUAL_SOCKET = "/var/run/docker.sock"
UNREACHABLE = 900
"""aiodocker's status for an engine that it could not connect to."""

QUICK = 10.0
"""Seconds that a call may take which only looks or notes."""
SLOW = 60.0
"""Seconds for what starts, stops or removes."""
CONNECT = 5.0

_TAKEN_PORT = re.compile(
    r":(\d{1,5})(?: failed)?: (?:port is already allocated|bind: address already in use)"
)
_NOT_THE_CALLERS_FAULT = ("no space left", "cannot allocate memory", "i/o timeout")


class Engine:
    """A lazily opened connection, for one event loop. Opening costs nothing until the first call."""

    def __init__(self, address: str | None = None, *, connections: int = 0) -> None:
        """`address` as in DOCKER_HOST; None: the usual socket. `connections`: most at a time, 0 without a
        bound.
        """
        self.address = address or usual_address()
        self.lost_at = float("-inf")
        """When (monotonic clock) a call last found the engine away."""
        self._connections = connections
        self._docker: aiodocker.Docker | None = None
        self._connector: aiohttp.BaseConnector | None = None

    async def close(self) -> None:
        docker, self._docker = self._docker, None
        connector, self._connector = self._connector, None
        if docker is not None:
            await docker.close()
        if connector is not None:
            await connector.close()

    def load(self) -> None:
        """The driver, whose time is not the engine's."""
        self._client()

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        archive: Any = None,
        seconds: float = QUICK,
    ) -> Any:
        """The JSON of the answer, None for an empty one. Raises the port's errors."""
        async with self.answer(
            method, path, params=params, body=body, archive=archive, seconds=seconds
        ) as response:
            text = await response.read()
        return json.loads(text) if text.strip() else None

    @asynccontextmanager
    async def answer(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        archive: Any = None,
        seconds: float | None = QUICK,
        silence: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer as it comes, in at most `seconds`; its connection is closed however the block is left.

        `silence`: seconds without a byte after which it counts as lost. `archive` is a tar: bytes or pieces
        of one.
        """
        import aiohttp

        data = archive if body is None else json.dumps(body).encode()
        kind = "application/json" if archive is None else "application/x-tar"
        async with self.call(seconds) as docker:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=silence)
            query = docker._query(
                path,
                method,
                params=_texts(params),
                data=data,
                headers={"Content-Type": kind},
                timeout=timeout,
            )
            try:
                async with query as response:
                    try:
                        yield response
                    finally:
                        response.close()
            except aiohttp.SocketTimeoutError as error:
                raise Unavailable(f"Nothing more was heard for {silence or 0:g} s.", next=CHECK) from error

    @asynccontextmanager
    async def call(self, seconds: float | None = QUICK) -> AsyncIterator[aiodocker.Docker]:
        """The client, for at most `seconds`. What goes wrong inside leaves as an error of the port."""
        import aiodocker
        import aiohttp

        try:
            async with asyncio.timeout(seconds):
                yield self._client()
        except aiodocker.DockerError as error:
            if error.status == UNREACHABLE:
                self.lost_at = time.monotonic()
                raise self.unreachable(error) from error
            raise meaning(error.status, error.message) from error
        except TimeoutError as error:
            raise Unavailable("The Docker engine did not answer in time.", next=CHECK) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            self.lost_at = time.monotonic()
            raise Unavailable("The connection to the Docker engine broke.", next=CHECK) from error

    def unreachable(self, error: BaseException) -> Unavailable:
        """Why, and what to do about it, from what the system said."""
        place = self.address.removeprefix(UNIX)
        match _system_error(error):
            case FileNotFoundError() if shutil.which("dockerd", path=PROGRAMS) is None:
                return Unavailable(
                    f"There is no Docker socket at {place}: Docker is not installed.", next=INSTALL
                )
            case FileNotFoundError():
                return Unavailable(
                    f"There is no Docker socket at {place}: Docker is installed, but not started.", next=START
                )
            case PermissionError():
                return Unavailable(
                    f"This user may not use the Docker socket {place}: it is not in the group docker.",
                    next=JOIN,
                )
            case ConnectionRefusedError():
                return Unavailable(
                    f"Nothing answers at {place}: the Docker engine is not running.", next=START
                )
            case _:
                return Unavailable(f"The Docker engine at {place} cannot be reached.", next=CHECK)

    def _client(self) -> aiodocker.Docker:
        """Never by Docker's contexts, which would win over DOCKER_HOST."""
        if self._docker is None:
            import aiodocker
            import aiohttp

            if self.address.startswith(UNIX):
                self._connector = aiohttp.UnixConnector(
                    self.address.removeprefix(UNIX), limit=self._connections
                )
                self._docker = aiodocker.Docker(url="http://docker", connector=self._connector)
            else:
                self._docker = _remote(self.address)
        return self._docker


CHECK = "Start the Docker engine, or set DOCKER_HOST; 'quaymaster doctor' says what is missing."
INSTALL = "Install Docker (https://docs.docker.com/engine/install) and start it, or set DOCKER_HOST."
START = "Start it ('systemctl start docker'), or set DOCKER_HOST."
JOIN = (
    "Add the user to the group ('usermod -aG docker NAME', which is as good as root on this machine) and start the server "
    "anew, or set DOCKER_HOST to another engine."
)
PROGRAMS = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
"""Where the engine's own program may be: a service's path often lacks the system's folders."""


def usual_address() -> str:
    """The first socket that exists: the system's, a rootless engine's, Docker Desktop's; else the first."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    places = [
        USUAL_SOCKET,
        f"{runtime}/docker.sock" if runtime else "",
        f"{Path.home()}/.docker/run/docker.sock",
    ]
    return UNIX + next((place for place in places if place and Path(place).is_socket()), USUAL_SOCKET)


def _remote(address: str) -> aiodocker.Docker:
    import aiodocker

    try:
        return aiodocker.Docker(url=address)
    except (ValueError, ImportError) as error:
        raise Unavailable("DOCKER_HOST names no engine that can be spoken to.", next=CHECK) from error


def meaning(status: int, message: str) -> QuaymasterError:
    """The port's error for an answer of the engine. Status 0: a failure inside an answer that began well."""
    text = _sentence(message)
    if taken := _TAKEN_PORT.search(message):
        return Conflict(f"Port {taken[1]} of the host is taken.", port=int(taken[1]))
    if any(sign in message.lower() for sign in _NOT_THE_CALLERS_FAULT):
        return Unavailable(text)
    match status:
        case 404:
            return NotFound(text)
        case 409:
            return Conflict(text)
        case 403 if "endpoints" in message or "overlaps" in message:
            return Conflict(text)
        case 400 | 403:
            return Invalid(text)
        case _:
            return Unavailable(text)


def _sentence(message: str) -> str:
    text = redacted_text(" ".join(message.split()))[:300].rstrip(".")
    return f"The Docker engine says: {text}."


def _system_error(error: BaseException | None) -> OSError | None:
    while error is not None:
        inner = getattr(error, "os_error", None)
        if isinstance(inner, OSError):
            return inner
        error = error.__cause__ or error.__context__
    return None


def _texts(params: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Parameters as the API takes them: flags as 1 and 0, structures as JSON."""
    if params is None:
        return None
    return {name: _text(value) for name, value in params.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(int(value) if isinstance(value, bool) else value)
