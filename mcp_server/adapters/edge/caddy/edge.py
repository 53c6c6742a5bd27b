"""The edge on Caddy: the directory is the switch, one configuration serves every project."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import anyio.to_thread

from mcp_server.adapters.edge.caddy.config import CaddySettings, Permission, blind, identity, text
from mcp_server.adapters.edge.caddy.versions import permission_of
from mcp_server.adapters.edge.probes import Answer, Door, probe
from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.routes import Preview, Probe, Repair, Route, Target
from mcp_server.domain.slots import SlotName

T = TypeVar("T")

Observed = Callable[[], Awaitable[str | None]]
"""Asks the public port who answers there: an `identity`, or None."""

NOWHERE = "nowhere.invalid"
"""A host name that never leads anywhere: what answers it is the proxy itself."""


class Caddy(Protocol):
    """Where Caddy runs: on the host, started by the person, or in a container of ours."""

    @property
    def network(self) -> str | None: ...

    def target(self, workload: str, container_port: int, published_port: int) -> Target: ...

    async def ensure(self, settings: CaddySettings, observed: Observed) -> None: ...

    async def permission(self) -> Permission:
        """How this Caddy's version spells who allows certificates."""
        ...

    async def connections(self, target: Target) -> int: ...

    def unanswered(self, *, needed: bool) -> str | None:
        """What to say when nobody answers on the public port; None when nobody has to. `needed`: there are routes."""
        ...


class CaddyEdge:
    """`ports.edge.Edge`. The token of settings and door is the directory's own (`SwitchDirectory.token`)."""

    routes_traffic = True

    def __init__(self, directory: SwitchDirectory, settings: CaddySettings, door: Door, caddy: Caddy) -> None:
        self._directory = directory
        self._settings = settings
        self._door = door
        self._caddy = caddy

    async def configuration(self, version: str | None = None) -> str:
        """What Caddy is to run, in the spelling of this version, or of the one that is there. It holds the probes'
        word.
        """
        if self._settings.tls == "off":
            return text(self._settings)
        permission = permission_of(version) if version else await self._caddy.permission()
        return text(self._settings.change(permission=permission))

    @property
    def network(self) -> str | None:
        return self._caddy.network

    @property
    def certifies(self) -> bool:
        return self._door.tls != "off"

    def target(self, workload: str, container_port: int, published_port: int) -> Target:
        return self._caddy.target(workload, container_port, published_port)

    def url(self, host: str) -> str | None:
        return self._door.url(host)

    async def ensure(self) -> None:
        await _in_thread(self._directory.claim)
        await self._caddy.ensure(self._settings, self._observed)

    async def point(self, route: str, slot: SlotName, target: Target) -> None:
        await _in_thread(lambda: self._directory.point(route, slot, target))

    async def active(self, route: str) -> SlotName | None:
        return await _in_thread(lambda: self._directory.active(route))

    async def attach(self, host: str, route: str) -> None:
        await _in_thread(lambda: self._directory.attach(host, route))

    async def preview(self, route: str, preview: Preview) -> None:
        await _in_thread(lambda: self._directory.preview(route, preview))

    async def detach(self, host: str) -> None:
        await _in_thread(lambda: self._directory.detach(host))

    async def forget(self, route: str) -> None:
        await _in_thread(lambda: self._directory.forget(route))

    async def allow_tls(self, host: str) -> None:
        if self._door.tls != "off":
            await _in_thread(lambda: self._directory.allow_tls(host))

    async def deny_tls(self, host: str) -> None:
        await _in_thread(lambda: self._directory.deny_tls(host))

    async def routes(self) -> tuple[Route, ...]:
        return await _in_thread(self._directory.routes)

    async def rebuild(self, wanted: Sequence[Route]) -> tuple[Repair, ...]:
        if self._door.tls == "off":
            wanted = [route.change(tls=()) for route in wanted]
        return await _in_thread(lambda: self._directory.rebuild(wanted))

    async def probe(self, host: str, path: str = "/", *, count: int = 1) -> tuple[Probe, ...]:
        secure = self._door.tls != "off" and await _in_thread(lambda: self._directory.allows_tls(host))
        answers = []
        for _ in range(count):
            answer = await self._ask(host, path, secure=secure)
            if answer.refused:
                secure = False
                answer = await self._ask(host, path, secure=secure)
            answers.append(answer.probe)
        return tuple(answers)

    async def connections(self, target: Target) -> int:
        return await self._caddy.connections(target)

    async def check(self) -> tuple[str, ...]:
        problems = list(await _in_thread(self._directory.doubts))
        running = await self._observed()
        if running is None:
            needed = bool(await self.routes())
            problems += filter(None, [self._caddy.unanswered(needed=needed)])
        elif running == blind(self._settings):
            problems.append(
                f"Caddy's user cannot read {self._settings.switch}: set QUAYMASTER_EDGE_DIR to a directory that it may "
                "enter."
            )
        elif running != identity(self._settings):
            problems.append(
                "The Caddy on the edge's port runs another configuration than this installation's: "
                "give it the present one and restart it."
            )
        return tuple(problems)

    async def close(self) -> None:
        """Nothing is held between calls."""

    async def _observed(self) -> str | None:
        return (await self._ask(NOWHERE, "/", secure=False)).edge

    async def _ask(self, host: str, path: str, *, secure: bool) -> Answer:
        return await _in_thread(lambda: probe(self._door, host, path, secure=secure))


async def _in_thread(work: Callable[[], T]) -> T:
    """Not given up half-way when the caller is cancelled: a change is bounded and ends."""
    return await anyio.to_thread.run_sync(work)
