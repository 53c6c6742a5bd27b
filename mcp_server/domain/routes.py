"""Routes: which slot of a project and environment the edge sends its host names to.

A route is named `{project}.{environment}` (neither holds a dot, so no two routes share a name). All its host
names follow its one active slot; a preview is a host name that stays with one slot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from pydantic import field_validator, model_validator

from mcp_server.domain import hosts
from mcp_server.domain.hosts import LABEL
from mcp_server.domain.records import Value
from mcp_server.domain.slots import SlotName
from mcp_server.domain.teams import EnvironmentName

ROUTE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?\.(?:production|staging|preview)")
TARGET = re.compile(rf"(?=[^:]{{1,253}}:)({LABEL.pattern}(?:\.{LABEL.pattern})*):([1-9][0-9]{{0,4}})")


class Target(Value):
    """Where a slot listens: a container's name on the edge network, or an address of loopback."""

    host: str
    port: int

    @model_validator(mode="after")
    def _reachable(self) -> Target:
        if not TARGET.fullmatch(str(self)) or self.port > 65535:
            raise ValueError("a target is a lower-case name or an IPv4 address with a port from 1 to 65535")
        return self

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """The inverse of `str`. Raises ValueError."""
        match = TARGET.fullmatch(text)
        if match is None:
            raise ValueError("not NAME:PORT")
        return cls(host=match[1], port=int(match[2]))


class Preview(Value):
    """A host name that stays with one slot."""

    host: str
    slot: SlotName
    target: Target

    @field_validator("host")
    @classmethod
    def _a_host(cls, host: str) -> str:
        return checked_host(host)


class Route(Value):
    """A route as it should be, or as it was observed.

    `active` and `target` are both set, or both None: nothing was promoted yet and its hosts answer 404.
    `hosts` and `tls` are sorted; `tls` are those hosts and previews that certificates may be asked for.
    """

    name: str
    active: SlotName | None = None
    target: Target | None = None
    hosts: tuple[str, ...] = ()
    previews: tuple[Preview, ...] = ()
    tls: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _aimed(self) -> Route:
        if (self.active is None) != (self.target is None):
            raise ValueError("an active slot and its target come together")
        return self

    @field_validator("name")
    @classmethod
    def _a_name(cls, name: str) -> str:
        return checked_route(name)

    @field_validator("hosts", "tls")
    @classmethod
    def _all_hosts(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted({checked_host(name) for name in names}))

    @field_validator("previews")
    @classmethod
    def _in_order(cls, previews: tuple[Preview, ...]) -> tuple[Preview, ...]:
        return tuple(sorted(previews, key=lambda preview: preview.host))


NOBODY_LISTENS = "nothing listens on the proxy's port"


class Probe(Value):
    """One request through the proxy's public port.

    `slot` is the edge's own word, which no application can forge.
    `error` is set when there was no complete answer; `status` and `slot` are None then. `milliseconds` from
    connecting to the last byte. `secure`: it went over TLS.
    """

    status: int | None = None
    slot: SlotName | None = None
    milliseconds: float
    error: str | None = None
    secure: bool = False

    def answered_by(self, slot: SlotName) -> bool:
        """An answer of the application itself (no 5xx) by way of this slot."""
        return self.status is not None and self.status < 500 and self.slot == slot


class Repair(Value):
    """One difference between what should be and what was found, as it was mended."""

    kind: Literal["route", "host", "preview", "tls"]
    name: str
    found: str
    made: str


def route_name(project: str, environment: EnvironmentName) -> str:
    return f"{project}.{environment}"


def checked_route(name: str) -> str:
    """The name itself. Raises ValueError for what is not `{project}.{environment}`."""
    if not ROUTE_NAME.fullmatch(name):
        raise ValueError("not a route name")
    return name


def checked_host(name: str) -> str:
    """The name itself. Raises ValueError for what is not a host name in its one spelling."""
    if not hosts.is_host(name):
        raise ValueError("not a host name")
    return name


def claimed_twice(routes: Iterable[Route]) -> tuple[str, ...]:
    """Host names that more than one route (or a route and a preview) claims, sorted."""
    seen: set[str] = set()
    twice: set[str] = set()
    for route in routes:
        for host in (*route.hosts, *(preview.host for preview in route.previews)):
            (twice if host in seen else seen).add(host)
    return tuple(sorted(twice))


def repairs(found: Iterable[Route], wanted: Iterable[Route]) -> tuple[Repair, ...]:
    """What differs, by route; `wanted` says how it is to be."""
    before, after = {route.name: route for route in found}, {route.name: route for route in wanted}
    return tuple(
        repair
        for name in sorted(before.keys() | after.keys())
        for repair in _repairs_of(name, before.get(name), after.get(name))
    )


def _repairs_of(name: str, found: Route | None, wanted: Route | None) -> Iterable[Repair]:
    old, new = found or Route(name=name), wanted or Route(name=name)
    if (old.active, old.target) != (new.active, new.target):
        yield Repair(kind="route", name=name, found=_aim(old), made=_aim(new))
    for host in sorted(set(old.hosts) ^ set(new.hosts)):
        yield _appearing("host", host, host in new.hosts)
    previews_before = {preview.host: preview for preview in old.previews}
    previews_after = {preview.host: preview for preview in new.previews}
    for host in sorted(previews_before.keys() | previews_after.keys()):
        if previews_before.get(host) != previews_after.get(host):
            yield _appearing("preview", host, host in previews_after)
    for host in sorted(set(old.tls) ^ set(new.tls)):
        yield _appearing("tls", host, host in new.tls)


def _aim(route: Route) -> str:
    return f"{route.active} at {route.target}" if route.active else "nothing"


def _appearing(kind: Literal["host", "preview", "tls"], name: str, wanted: bool) -> Repair:
    return Repair(
        kind=kind,
        name=name,
        found="missing or wrong" if wanted else "unknown",
        made="made" if wanted else "removed",
    )
