"""The state of the edge as a directory that the proxy reads at every request.

    ROOT/installation                        whose directory this is: an installation and its home
    ROOT/probe                               the word by which the proxy knows a probe
    ROOT/lock                                held by whoever changes something
    ROOT/switch/hosts/HOST                   -> ../routes/ROUTE or ../previews/ROUTE.SLOT
    ROOT/switch/routes/ROUTE/blue/TARGET     blue listens here
    ROOT/switch/routes/ROUTE/green/TARGET    green listens here, and is not active
    ROOT/switch/routes/ROUTE/on-green/TARGET green listens here, and is active
    ROOT/switch/previews/ROUTE.SLOT/only-SLOT/TARGET
    ROOT/switch/tls/HOST                     certificates may be asked for

A reader looks in `on-green`, then in `blue`. So one rename of `green` to `on-green`, or back, moves all host
names of a route, and a reader that meets it half-way finds `blue`, which was or will be right. Only a
directory that nobody reads is ever rewritten. Nothing has contents but names, every name is checked, and
every step is on the disk before the next.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mcp_server.adapters import faults
from mcp_server.adapters.edge.durable import (
    UNFINISHED,
    entries,
    link_of,
    locked,
    make,
    remove,
    sync,
    touch,
    unlink,
    write,
)
from mcp_server.domain.errors import Conflict, Invalid, Unavailable
from mcp_server.domain.routes import (
    Preview,
    Repair,
    Route,
    Target,
    checked_host,
    checked_route,
    claimed_twice,
    repairs,
)
from mcp_server.domain.slots import SlotName

SETTLED = 1.0
"""Seconds after a switch in which a reader may still look into the directory that was active before it."""

Check = Callable[[str], str]


class SwitchDirectory:
    """Synchronous: a method blocks on the disk or, for at most LOCK_TIMEOUT seconds, on another process."""

    def __init__(self, root: Path, installation: str, *, home: str | None = None) -> None:
        """`home`: whose of this installation it is; it stays that home's under whichever installation."""
        self._root = root
        self._installation = installation
        self._home = home
        self._switch = root / "switch"
        self._hosts = self._switch / "hosts"
        self._routes = self._switch / "routes"
        self._previews = self._switch / "previews"
        self._tls = self._switch / "tls"

    @property
    def root(self) -> Path:
        return self._root

    # -- whose it is -----------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Make what is missing, and clear what a crash left half-made. Conflict when it is another's."""
        with self._changing():
            for folder in (self._hosts, self._routes, self._previews, self._tls):
                for unfinished in folder.glob(f"{UNFINISHED}*"):
                    remove(unfinished)

    def token(self) -> str:
        """The word of this directory by which its proxy knows a probe: 32 hexadecimal digits, drawn once."""
        path = self._root / "probe"
        with self._changing():
            if not path.exists():
                write(path, secrets.token_hex(16), 0o600)
            return path.read_text().strip()

    # -- changes ---------------------------------------------------------------------------------------------

    def point(self, route: str, slot: SlotName, target: Target) -> None:
        place = self._routes / checked_route(route)
        with self._changing():
            if not place.exists():
                self._begin_route(place, slot, target)
            elif _active(place) == slot:
                _fill(place / _where(slot, active=True), target)
            else:
                _fill(place / _where(slot, active=False), target)
                faults.at("edge.point.written")
                _switch(place, slot)
                faults.at("edge.point.switched")
                sync(place)
            faults.at("edge.point.done")

    def attach(self, host: str, route: str) -> None:
        with self._changing():
            self._link(checked_host(host), f"../routes/{checked_route(route)}")

    def preview(self, route: str, preview: Preview) -> None:
        with self._changing():
            self._preview(checked_route(route), preview)

    def detach(self, host: str) -> None:
        with self._changing():
            self._detach(checked_host(host))

    def forget(self, route: str) -> None:
        with self._changing():
            self._forget(checked_route(route))

    def allow_tls(self, host: str) -> None:
        with self._changing():
            touch(self._tls / checked_host(host))

    def deny_tls(self, host: str) -> None:
        with self._changing():
            unlink(self._tls / checked_host(host))

    def rebuild(self, wanted: Sequence[Route]) -> tuple[Repair, ...]:
        if twice := claimed_twice(wanted):
            raise Invalid(f"Host names claimed by more than one route: {', '.join(twice)}.")
        self.claim()
        done = (*repairs(self.routes(), wanted), *self._leftovers(wanted))
        if done:
            self._bring_about(wanted)
        return done

    # -- what is ---------------------------------------------------------------------------------------------

    def active(self, route: str) -> SlotName | None:
        return _active(self._routes / checked_route(route))

    def allows_tls(self, host: str) -> bool:
        return (self._tls / checked_host(host)).exists()

    def routes(self) -> tuple[Route, ...]:
        """What the proxy acts on, by name. Entries that it does not act on are left out."""
        links = self._links()
        names = {*_named(self._routes, checked_route), *filter(None, map(_route_of, links.values()))}
        tls = set(_named(self._tls, checked_host))
        return tuple(self._route(name, links, tls) for name in sorted(names))

    def doubts(self) -> tuple[str, ...]:
        """What is wrong with it as a directory, a sentence each with what to do."""
        found = [
            f"{stray} in the edge's directory is none of Quaymaster's files: look at it, then remove it."
            for stray in self.strays()
        ]
        if self._root.exists() and self._root.stat().st_mode & 0o022:
            found.append(f"{self._root} can be written by others, who could take all traffic: chmod go-w.")
        return tuple(found)

    def strays(self) -> tuple[str, ...]:
        """Entries that this adapter did not make or has no use for, relative to the root, sorted."""
        links = self._links()
        known = {
            self._switch: {"hosts", "routes", "previews", "tls"},
            self._hosts: {host for host, link in links.items() if _route_of(link)},
            self._routes: set(_named(self._routes, checked_route)),
            self._tls: {host for host in _named(self._tls, checked_host) if host in links},
        }
        found = [
            folder / name
            for folder, names in known.items()
            for name in entries(folder)
            if name not in names and not name.startswith(UNFINISHED)
        ]
        return tuple(sorted(str(path.relative_to(self._root)) for path in found))

    # -- steps -----------------------------------------------------------------------------------------------

    def _begin_route(self, place: Path, slot: SlotName, target: Target) -> None:
        """The route appears whole: a reader that found half of it would answer 404 for a host that is
        attached.
        """
        aside = place.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
        make(aside)
        make(aside / "blue")
        _fill(aside / _where(slot, active=True), target)
        faults.at("edge.point.written")
        aside.rename(place)
        faults.at("edge.point.switched")
        sync(place.parent)

    def _link(self, host: str, to: str) -> None:
        path = self._hosts / host
        with contextlib.suppress(OSError):
            if os.readlink(path) == to:
                return
        aside = self._hosts / f"{UNFINISHED}{secrets.token_hex(8)}"
        aside.symlink_to(to)
        faults.at("edge.attach.written")
        aside.rename(path)
        faults.at("edge.attach.linked")
        sync(self._hosts)

    def _preview(self, route: str, preview: Preview) -> None:
        place = self._previews / f"{route}.{preview.slot}"
        make(place)
        _fill(place / f"only-{preview.slot}", preview.target)
        faults.at("edge.preview.written")
        self._link(preview.host, f"../previews/{place.name}")

    def _detach(self, host: str) -> None:
        """Certificates first: a host that nobody attaches again must not keep the right to one."""
        unlink(self._tls / host)
        faults.at("edge.detach.denied")
        path = self._hosts / host
        link = link_of(path)
        unlink(path)
        if link is not None and (preview := _preview_name(link)) and link not in self._links().values():
            remove(self._previews / preview)

    def _forget(self, route: str) -> None:
        ours = (f"../routes/{route}", f"../previews/{route}.blue", f"../previews/{route}.green")
        for host, link in self._links().items():
            if link in ours:
                self._detach(host)
                faults.at("edge.forget.detached")
        remove(self._routes / route)

    def _bring_about(self, wanted: Sequence[Route]) -> None:
        for route in self.routes():
            if route.name not in {one.name for one in wanted}:
                self.forget(route.name)
        for route in wanted:
            if route.active is not None and route.target is not None:
                self.point(route.name, route.active, route.target)
            else:
                with self._changing():
                    remove(self._routes / route.name)
            for host in route.hosts:
                self.attach(host, route.name)
            for preview in route.previews:
                self.preview(route.name, preview)
        kept = {host for route in wanted for host in (*route.hosts, *(one.host for one in route.previews))}
        for host in self._links():
            if host not in kept:
                self.detach(host)
        allowed = {host for route in wanted for host in route.tls}
        for host in _named(self._tls, checked_host):
            if host not in allowed:
                self.deny_tls(host)
        for host in sorted(allowed):
            self.allow_tls(host)

    def _leftovers(self, wanted: Sequence[Route]) -> Iterator[Repair]:
        """Host names and permissions that no route shows: links to nowhere, permissions without a host."""
        routes = (*self.routes(), *wanted)
        shown = {host for route in routes for host in (*route.hosts, *(one.host for one in route.previews))}
        allowed = {host for route in routes for host in route.tls}
        for host in self._links():
            if host not in shown:
                yield Repair(kind="host", name=host, found="unknown", made="removed")
        for host in _named(self._tls, checked_host):
            if host not in allowed:
                yield Repair(kind="tls", name=host, found="unknown", made="removed")

    def _route(self, name: str, links: dict[str, str], tls: set[str]) -> Route:
        active = _active(self._routes / name)
        target = _target(self._routes / name / _where(active, active=True)) if active else None
        hosts = tuple(host for host, link in links.items() if link == f"../routes/{name}")
        previews = tuple(self._previews_of(name, links))
        own = {*hosts, *(preview.host for preview in previews)}
        return Route(
            name=name,
            active=active if target else None,
            target=target,
            hosts=hosts,
            previews=previews,
            tls=tuple(own & tls),
        )

    def _previews_of(self, route: str, links: dict[str, str]) -> Iterator[Preview]:
        slots: tuple[SlotName, ...] = ("blue", "green")
        for slot in slots:
            target = _target(self._previews / f"{route}.{slot}" / f"only-{slot}")
            for host, link in links.items():
                if target is not None and link == f"../previews/{route}.{slot}":
                    yield Preview(host=host, slot=slot, target=target)

    def _links(self) -> dict[str, str]:
        found = {host: link_of(self._hosts / host) for host in _named(self._hosts, checked_host)}
        return {host: link for host, link in found.items() if link is not None}

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """The only one who changes this directory, which exists and is ours."""
        try:
            make(self._root)
            with locked(self._root / "lock"):
                self._own()
                yield
        except OSError as error:
            raise Unavailable(
                f"The edge's directory cannot be changed: {error.strerror or type(error).__name__}.",
                next=f"Make {self._root} writable for Quaymaster's user, on a disk that has room.",
            ) from error

    def _owned(self, installation: str, home: str | None = None) -> bool:
        """An older directory names no home, or an installation that was called like its only home."""
        if self._home is None or home is None:
            return installation in (self._installation, self._home)
        return home == self._home

    def _own(self) -> None:
        path = self._root / "installation"
        try:
            found = path.read_text().split()
        except FileNotFoundError:
            found = []
        if found and not self._owned(*found[:2]):
            raise Conflict(
                "The edge's directory belongs to another installation or home; nothing in it was changed.",
                next=f"Use another directory (QUAYMASTER_EDGE_DIR), or remove {path} if that one is gone.",
                owner=found[0],
            )
        mine = [self._installation, *([self._home] if self._home else [])]
        if found != mine and (self._home or not found):
            write(path, " ".join(mine), 0o644)
        for folder in (self._switch, self._hosts, self._routes, self._previews, self._tls):
            make(folder)


# -- one route's directory -----------------------------------------------------------------------------------


def _where(slot: SlotName, *, active: bool) -> str:
    return "on-green" if slot == "green" and active else slot


def _active(place: Path) -> SlotName | None:
    if _target(place / "on-green") is not None:
        return "green"
    return "blue" if _target(place / "blue") is not None else None


def _switch(place: Path, slot: SlotName) -> None:
    if slot == "green":
        (place / "green").rename(place / "on-green")
    elif (place / "on-green").exists():
        (place / "on-green").rename(place / "green")


def _fill(folder: Path, target: Target) -> None:
    """The folder holds this target and no other: made new first, then the old one removed."""
    make(folder)
    others = [folder / name for name in entries(folder) if name != str(target)]
    touch(folder / str(target))
    if others:
        faults.at("edge.point.added")
        _let_readers_pass(folder.parent)
        for other in others:
            other.unlink()
        sync(folder)


def _let_readers_pass(place: Path) -> None:
    """A rename changes the directory's time; a reader of just before it may still be looking."""
    time.sleep(min(SETTLED, max(0.0, place.stat().st_mtime + SETTLED - time.time())))


def _target(folder: Path) -> Target | None:
    """What the proxy would take: the first name, in its order, that is a target."""
    for name in sorted(entries(folder)):
        with contextlib.suppress(ValueError):
            return Target.parse(name)
    return None


def _route_of(link: str) -> str | None:
    """The route that a host's link leads to; None for a link that this adapter did not make."""
    if (preview := _preview_name(link)) is not None:
        return preview.rpartition(".")[0]
    name = link.removeprefix("../routes/")
    return name if name != link and _passes(name, checked_route) else None


def _preview_name(link: str) -> str | None:
    name = link.removeprefix("../previews/")
    route, _, slot = name.rpartition(".")
    return name if name != link and slot in ("blue", "green") and _passes(route, checked_route) else None


def _named(folder: Path, check: Check) -> list[str]:
    return sorted(name for name in entries(folder) if _passes(name, check))


def _passes(name: str, check: Check) -> bool:
    try:
        check(name)
    except ValueError:
        return False
    return True
