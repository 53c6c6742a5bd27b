"""Serving a house over stdio and HTTP."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

import anyio

from mcp_server.adapters.host.collector import resting
from mcp_server.app.chores import lead, sweep
from mcp_server.app.house import House, open_app
from mcp_server.app.identity import local_user, own_command
from mcp_server.app.tooling import make_server
from mcp_server.config import Settings
from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Invalid, QuaymasterError, Unauthenticated
from mcp_server.domain.pages import Page
from mcp_server.ports.store import Reading
from mcp_server.services.leaving import Leaving
from mcp_server.services.signin import local_owner
from mcp_server.services.teams import LOCAL

if TYPE_CHECKING:
    from starlette.types import Scope

log = logging.getLogger(__name__)
FIRST_QUESTIONS_SECONDS = 1.0
LEAVE_SECONDS = 3.0
"""How long the end of a stdio server may take to release what nobody else could."""
DRAIN_SECONDS = 30.0
"""How long running calls may go on after the web server was told to stop."""


async def serve_stdio(settings: Settings, toolsets: Sequence[str] = ()) -> None:
    """Serve the client on stdin and stdout. Raises Invalid or Unauthenticated when nobody can be its
    caller."""
    with resting():
        from mcp_server.tools.stdio import serve_stdio as serve
        from mcp_server.tools.toolsets import chosen
        from mcp_server.tools.visits import Visit

    wanted = chosen(toolsets or settings.toolsets)
    process = secrets.token_hex(6)
    async with open_app(settings) as house:
        key = None if settings.api_key is None else settings.api_key.get_secret_value()
        if key is None:
            caller = await _local_caller(house, process)
            visit = Visit(caller, wanted)
        else:

            async def identify() -> Caller:
                return await house.sign_in.authenticate(key, transport="stdio", process=process)

            visit = Visit(await identify(), wanted, identify)
        async with anyio.create_task_group() as beside:
            with resting():
                server = make_server(house)
            beside.start_soon(_lead_soon, house)
            await serve(server, visit)
            if any(server.outcomes[tool, "ok"] for tool in ("lock_files", "take_over_locks")):
                await _leave(house, visit.caller)
            beside.cancel_scope.cancel()


async def _lead_soon(house: House) -> None:
    """Looking after engine and proxy loads their drivers: the client's first questions come before that."""
    await anyio.sleep(FIRST_QUESTIONS_SECONDS)
    await lead(house)


async def _leave(house: House, caller: Caller) -> None:
    """Bounded: a lease ends by itself, too."""
    with anyio.move_on_after(LEAVE_SECONDS), suppress(QuaymasterError):
        released = await Leaving(house.calls, house.locks).release(caller)
        if released:
            log.info("released the locks of this process", extra={"paths": len(released)})


async def _local_caller(house: House, process: str) -> Caller:
    """The operating-system user, as owner of the team `local`; with PostgreSQL there is no such caller."""
    if house.settings.database_url is not None:
        raise Unauthenticated(
            "with PostgreSQL as the store every caller needs a key",
            next="Set QUAYMASTER_API_KEY; 'quaymaster keys create --team T --role R' makes one.",
        )
    user = local_user()
    await house.bootstrap.run(user, with_key=False)
    return local_owner(user, transport="stdio", process=process)


async def serve_http(
    settings: Settings, *, host: str, port: int, toolsets: Sequence[str] = (), allow_remote: bool = False
) -> None:
    """Serve streamable HTTP at /mcp until a signal comes. Raises Invalid when it cannot or must not
    listen there."""
    from mcp_server.http.addresses import answered_hosts, is_loopback, networks
    from mcp_server.http.databases import database_routes
    from mcp_server.http.gate import Gate
    from mcp_server.http.health import health_route
    from mcp_server.http.metrics import metrics_route
    from mcp_server.http.serving import WebServer, address_of, listening_socket
    from mcp_server.tools.toolsets import chosen
    from mcp_server.tools.visits import Visit

    if not is_loopback(host) and not allow_remote:
        raise Invalid(
            f"listening on {host} would let other machines reach this server",
            next="Pass --allow-remote if you want this; put a proxy with TLS in front.",
        )
    default = chosen(toolsets or settings.toolsets)
    listening = listening_socket(host, port)
    async with open_app(settings) as house:
        with resting():
            server = make_server(house)
        for path in ("/health", "/api/health"):
            server.custom_route(path, methods=["GET"])(health_route(house.status))
        metrics = metrics_route(server.outcomes, server.seconds, house.store.status)
        server.custom_route("/metrics", methods=["GET"])(metrics)
        for place, method, handler in database_routes(
            house.databases, house.calls, lambda: server.door.visit().caller
        ):
            server.custom_route(place, methods=[method])(handler)

        def admit(scope: Scope, caller: Caller, names: Sequence[str]) -> AbstractContextManager[None]:
            return server.admit(scope, Visit(caller, chosen(names) if names else default))

        gate = Gate(
            server.http_app(),
            hosts=answered_hosts([*settings.allowed_hosts, *_own_names(host)], settings.public_url),
            proxies=networks(settings.trusted_proxies),
            sign_in=house.sign_in.authenticate,
            admit=admit,
        )

        async def drain() -> None:
            gate.stopping = True
            server.end_listening()
            await server.drained(DRAIN_SECONDS)

        def ready() -> None:
            log.info("ready", extra={"address": f"{address_of(listening)}/mcp"})

        await _greet(house, remote=not is_loopback(host))
        async with anyio.create_task_group() as beside:
            beside.start_soon(sweep, house)
            beside.start_soon(lead, house)
            await WebServer(gate, ready=ready, drain=drain).run_on(listening)
            beside.cancel_scope.cancel()


def _own_names(host: str) -> Iterable[str]:
    """The address that was asked for, where it is one; not for 'every address of this machine'."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - a comparison
        return ()
    name = f"[{host}]" if ":" in host else host
    return (name, f"{name}:*")


async def _greet(house: House, *, remote: bool) -> None:
    """What the operator should hear at the start: the first key, missing keys, missing TLS."""
    terminal = sys.stderr.isatty()
    key = None
    if house.settings.database_url is None or terminal:
        key = await house.bootstrap.run(local_user(), with_key=terminal)
    if key is not None:
        sys.stderr.write(f"The first owner key of the team 'local', shown this once:\n\n    {key}\n\n")
    elif not (await house.store.read(_local_keys)).items:
        log.warning("there is no key yet; make one: %s keys create --team local --role owner", own_command())
    if remote:
        log.warning("other machines can reach this server without TLS: put a proxy with TLS before it")


async def _local_keys(tx: Reading) -> Page[object]:
    page = await tx.keys.of_team(LOCAL, limit=1)
    return Page(list(page.items))
