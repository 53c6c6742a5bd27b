"""Running the web server: one socket, a ready line, and a stop that lets running calls finish."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
import uvicorn
from starlette.types import ASGIApp

from mcp_server.domain.errors import Invalid
from mcp_server.http.gathering import GatheringProtocol

IDLE_SECONDS = 130
"""How long an idle connection is kept: longer than proxies keep theirs (nginx 60 s, Caddy 2 min) and than an agent thinks
between two calls. Who reuses a connection in the moment in which it is closed gets an error instead of an answer."""
CUT_SECONDS = 5
"""After the drain, how long connections that are still open may go on."""


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises Invalid, naming what to change, when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except OSError as error:
        raise Invalid(
            f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}",
            next="Choose another --host or --port.",
        ) from error
    # Inherited by every accepted connection: small answers would otherwise wait 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def address_of(listening: socket.socket) -> str:
    """`http://host:port`."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class WebServer(uvicorn.Server):
    """`ready` is called when connections are taken; `drain` at the first SIGTERM or SIGINT, before
    anything is cut."""

    def __init__(
        self, app: ASGIApp, *, ready: Callable[[], None], drain: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=GatheringProtocol,
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=CUT_SECONDS,
                ws="none",
            )
        )
        self._on_ready = ready
        self._drain = drain

    async def run_on(self, listening: socket.socket) -> None:
        """Serve until a signal comes. A second signal ends the drain."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop_at_signal)
            await self.serve(sockets=[listening])
            tasks.cancel_scope.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are received in `run_on`, so that a clean stop ends with exit code 0."""
        yield

    async def _stop_at_signal(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            number = await anext(aiter(signals))
            async with anyio.create_task_group() as draining:
                draining.start_soon(self._drained, draining.cancel_scope)
                await anext(aiter(signals))
                draining.cancel_scope.cancel()
            self.handle_exit(number, None)
            await anext(aiter(signals))
            self.force_exit = True

    async def _drained(self, scope: anyio.CancelScope) -> None:
        for server in self.servers:
            server.close()
        await self._drain()
        scope.cancel()
