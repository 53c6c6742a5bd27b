"""The edge on nginx: the same directory is the state, a file is generated from it, and nginx reloads."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import anyio.to_thread

from mcp_server.adapters import faults
from mcp_server.adapters.edge.durable import locked
from mcp_server.adapters.edge.nginx.config import Location, NginxSettings, Site, generation, text
from mcp_server.adapters.edge.probes import Answer, Door, probe
from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.errors import Conflict, Unavailable
from mcp_server.domain.routes import Preview, Probe, Repair, Route, Target
from mcp_server.domain.slots import SlotName

T = TypeVar("T")

NOWHERE = "nowhere.invalid"
RELOADED_WITHIN = 10.0
AGREED_FOR = 0.5
"""Seconds in which every probe must be answered by the new workers."""


class Nginx(Protocol):
    """A running nginx that includes the generated file. All of it blocks."""

    @property
    def network(self) -> str | None: ...

    def target(self, workload: str, container_port: int, published_port: int) -> Target: ...

    def up(self, answers: Callable[[], bool]) -> None:
        """It runs, where it is ours to start; `answers` tells when it does. Raises Unavailable."""
        ...

    def test(self) -> str | None:
        """None when `nginx -t` takes the configuration on the disk, or nothing is there to ask; else its words."""
        ...

    def reload(self) -> None:
        """Raises Unavailable."""
        ...

    def connections(self, target: Target) -> int: ...

    def unanswered(self, file: Path, *, needed: bool) -> str | None:
        """What to say when nobody answers on the public port; None when nobody has to. `needed`: there are routes."""
        ...


class NginxEdge:
    """`ports.edge.Edge`, with less: a change is a reload, which closes idle connections of every project.

    The folder `certificates` of the directory holds HOST.crt and HOST.key for the host names that are to have
    TLS; nobody fetches them. `inside` is the directory as nginx sees it.
    """

    routes_traffic = True

    def __init__(
        self,
        directory: SwitchDirectory,
        settings: NginxSettings,
        door: Door,
        nginx: Nginx,
        inside: str | None = None,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._door = door
        self._nginx = nginx
        self._certificates = directory.root / "certificates"
        self._inside = inside or str(directory.root)

    @property
    def network(self) -> str | None:
        return self._nginx.network

    @property
    def certifies(self) -> bool:
        return self._door.tls != "off"

    @property
    def file(self) -> Path:
        """To be included in the `http` block of nginx's configuration."""
        return self._directory.root / "nginx.conf"

    def target(self, workload: str, container_port: int, published_port: int) -> Target:
        return self._nginx.target(workload, container_port, published_port)

    def url(self, host: str) -> str | None:
        return self._door.url(host) if self._has_pair(host) else replace(self._door, tls="off").url(host)

    async def ensure(self) -> None:
        await _in_thread(self._directory.claim)
        await _in_thread(self._begin)
        await _in_thread(self._bring_about)

    async def point(self, route: str, slot: SlotName, target: Target) -> None:
        await self._changed(lambda: self._directory.point(route, slot, target))

    async def active(self, route: str) -> SlotName | None:
        return await _in_thread(lambda: self._directory.active(route))

    async def attach(self, host: str, route: str) -> None:
        await self._changed(lambda: self._directory.attach(host, route))

    async def preview(self, route: str, preview: Preview) -> None:
        await self._changed(lambda: self._directory.preview(route, preview))

    async def detach(self, host: str) -> None:
        await self._changed(lambda: self._directory.detach(host))

    async def forget(self, route: str) -> None:
        await self._changed(lambda: self._directory.forget(route))

    async def allow_tls(self, host: str) -> None:
        if self._door.tls != "off":
            await self._changed(lambda: self._directory.allow_tls(host))

    async def deny_tls(self, host: str) -> None:
        await self._changed(lambda: self._directory.deny_tls(host))

    async def routes(self) -> tuple[Route, ...]:
        return await _in_thread(self._directory.routes)

    async def rebuild(self, wanted: Sequence[Route]) -> tuple[Repair, ...]:
        if self._door.tls == "off":
            wanted = [route.change(tls=()) for route in wanted]
        return await self._changed(lambda: self._directory.rebuild(wanted))

    async def probe(self, host: str, path: str = "/", *, count: int = 1) -> tuple[Probe, ...]:
        allowed = await _in_thread(lambda: self._directory.allows_tls(host))
        secure = allowed and self._has_pair(host)
        answers = [await _in_thread(lambda: self._ask(host, path, secure=secure)) for _ in range(count)]
        return tuple(answer.probe for answer in answers)

    async def connections(self, target: Target) -> int:
        return await _in_thread(lambda: self._nginx.connections(target))

    async def check(self) -> tuple[str, ...]:
        problems = list(await _in_thread(self._directory.doubts))
        running = (await _in_thread(lambda: self._ask(NOWHERE, "/", secure=False))).edge
        sites = await _in_thread(self._sites)
        if running is None:
            needed = bool(await self.routes())
            problems += filter(None, [self._nginx.unanswered(self.file, needed=needed)])
        elif running != generation(self._settings, sites):
            problems.append("nginx does not run the present file: reload it.")
        if await _in_thread(lambda: _read(self.file)) not in (None, text(self._settings, sites)):
            problems.append(
                f"{self.file} is not as Quaymaster wrote it: a running Quaymaster writes it again within a minute."
            )
        return tuple(problems)

    async def close(self) -> None:
        """Nothing is held between calls."""

    async def _changed(self, change: Callable[[], T]) -> T:
        return await _in_thread(lambda: self._change(change))

    def _change(self, change: Callable[[], T]) -> T:
        """The directory first: it is what a restart of nginx or of this process goes on from. An nginx that does
        not run starts from the file.
        """
        before = self._directory.routes()
        done = change()
        try:
            self._bring_about(must_run=False)
        except Refused as error:
            self._directory.rebuild(before)
            raise Unavailable(
                f"nginx refused its file, and nothing was changed: {error}",
                next="The operator must correct nginx's configuration as it says; 'nginx -t' shows it again.",
            ) from error
        return done

    def _begin(self) -> None:
        """There is a file of ours before nginx looks for it: what others wrote may keep it from starting."""
        with locked(self._directory.root / "nginx.lock"):
            wanted = text(self._settings, self._sites())
            if _read(self.file) != wanted and self._running() is None:
                _replace(self.file, wanted)
        self._nginx.up(lambda: self._running() is not None)

    def _bring_about(self, *, must_run: bool = True) -> None:
        """nginx runs what the directory says when this returns; nothing happens when it does already."""
        with locked(self._directory.root / "nginx.lock"):
            sites = self._sites()
            wanted, running = generation(self._settings, sites), self._running()
            if running == wanted and _read(self.file) == text(self._settings, sites):
                return
            self._write(text(self._settings, sites))
            faults.at("edge.nginx.tested")
            if running is None and not must_run:
                return
            self._nginx.reload()
            faults.at("edge.nginx.reloaded")
            self._wait_for(wanted)

    def _write(self, wanted: str) -> None:
        """Nothing that nginx refuses stays on the disk."""
        before = _read(self.file)
        _replace(self.file, wanted)
        faults.at("edge.nginx.written")
        refusal = self._nginx.test()
        if refusal is not None:
            _replace(self.file, before or text(self._settings, ()))
            raise Refused(refusal)

    def _wait_for(self, wanted: str) -> None:
        """A reload is a signal. It has happened when the new workers alone answer: the old ones go on taking
        connections for a tenth of a second beside them.
        """
        deadline = time.monotonic() + RELOADED_WITHIN
        agreed_since: float | None = None
        while agreed_since is None or time.monotonic() < agreed_since + AGREED_FOR:
            now, running = time.monotonic(), self._running()
            agreed_since = (agreed_since or now) if running == wanted else None
            if now > deadline:
                raise Unavailable(
                    "nginx runs another file." if running else "nginx does not answer on its port.",
                    next=f"Let nginx include {self.file} in its http block, and look at its error log.",
                )
            time.sleep(0.005)

    def _running(self) -> str | None:
        running = self._ask(NOWHERE, "/", secure=False).edge
        if running is not None and running.partition(" ")[0] != self._settings.installation:
            raise Conflict("The nginx on the edge's port belongs to another installation of Quaymaster.")
        return running

    def _sites(self) -> tuple[Site, ...]:
        return tuple(site for route in self._directory.routes() for site in self._sites_of(route))

    def _sites_of(self, route: Route) -> list[Site]:
        aims = [(host, route.active, route.target) for host in route.hosts]
        aims += [(preview.host, preview.slot, preview.target) for preview in route.previews]
        return [
            self._site(host, slot, target, secure=host in route.tls)
            for host, slot, target in aims
            if slot is not None and target is not None
        ]

    def _site(self, host: str, slot: SlotName, target: Target, *, secure: bool) -> Site:
        location = Location(targets=(target,))
        if not secure or not self._has_pair(host):
            return Site(hosts=(host,), locations=(location,), slot=slot)
        return Site(
            hosts=(host,),
            locations=(location,),
            slot=slot,
            certificate=f"{self._inside}/certificates/{host}.crt",
            certificate_key=f"{self._inside}/certificates/{host}.key",
            certificate_from=(self._certificates / f"{host}.crt").stat().st_mtime_ns,
        )

    def _has_pair(self, host: str) -> bool:
        pair = (self._certificates / f"{host}.{end}" for end in ("crt", "key"))
        return self.certifies and all(path.exists() for path in pair)

    def _ask(self, host: str, path: str, *, secure: bool) -> Answer:
        return probe(self._door, host, path, secure=secure)


class Refused(Exception):
    """nginx's words."""


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _replace(path: Path, content: str) -> None:
    aside = path.with_name(f".new-{secrets.token_hex(8)}")
    with aside.open("x") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.chmod(0o644)
    aside.rename(path)


async def _in_thread(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work)
