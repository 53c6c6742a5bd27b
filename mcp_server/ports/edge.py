"""The edge: the reverse proxy in front of the projects, and which slot each host name goes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mcp_server.domain.routes import Preview, Probe, Repair, Route, Target
from mcp_server.domain.slots import SlotName


class Edge(Protocol):
    """One installation's proxy. Traffic goes on as last told while Quaymaster is down.

    What `point`, `attach`, `preview`, `allow_tls` and `forget` did is on the disk when they return, and each
    of them may be cut short at any moment (kill -9, loss of power): afterwards the state is the one before or
    the one after, and calling again is right. They are idempotent and may be called from any process of the
    home; two callers of one route wait for each other. Names that are no host or route names raise ValueError
    before anything is touched: validate callers' words with `domain.hosts` first. Everything raises
    Unavailable when the proxy's state cannot be reached or written, and Conflict when it belongs to another
    installation.
    """

    @property
    def routes_traffic(self) -> bool:
        """False where the person routes (QUAYMASTER_EDGE=off): then every change does nothing, `active` is
        None, `probe` and `routes` are empty, and success of a promote is the container's health alone.
        """
        ...

    @property
    def certifies(self) -> bool:
        """Whether host names are served over TLS; without it `allow_tls` does nothing."""
        ...

    def target(self, workload: str, container_port: int, published_port: int) -> Target:
        """How this proxy reaches a slot: by name on `network`, or by its published port on loopback.

        Where there is a `network`, the workload must join it under the alias `target(...).host`, which is its
        name wherever DNS takes that.
        """
        ...

    def url(self, host: str) -> str | None:
        """The address that a person opens, without a slash at the end; None where the person routes."""
        ...

    @property
    def network(self) -> str | None:
        """The engine's network that every target must be connected to; None where loopback is used."""
        ...

    async def ensure(self) -> None:
        """The proxy runs and serves this installation's configuration.

        Starts it where it is ours; a proxy that already serves that configuration is never restarted or
        reloaded. Raises Unavailable saying what to run where the person starts it.
        """
        ...

    async def point(self, route: str, slot: SlotName, target: Target) -> None:
        """Every host name of the route goes to `slot`, which listens at `target`, when this returns.

        The target must be ready: the proxy does not ask. Requests that run stay where they are; between call
        and return each new one goes to the old or to the new slot, never to none. A slot's target is
        rewritten only while that slot is not active; where the active slot's own target changes (its
        container came back elsewhere), a request may meet neither.
        """
        ...

    async def active(self, route: str) -> SlotName | None:
        """The slot that new requests go to, as observed; None when the route has none."""
        ...

    async def attach(self, host: str, route: str) -> None:
        """The host name follows the route from now on; it left any other route or preview in the same moment.

        Uniqueness is the caller's: this does not ask whose the name was.
        """
        ...

    async def preview(self, route: str, preview: Preview) -> None:
        """The host name stays with that slot's target, active or not."""
        ...

    async def detach(self, host: str) -> None:
        """The host name answers 404 and no certificate is asked for it. An unknown one: no error."""
        ...

    async def forget(self, route: str) -> None:
        """Detach all host names and previews of the route and drop it; other routes are not touched."""
        ...

    async def allow_tls(self, host: str) -> None:
        """Certificates may be asked for this host name; from then on plain HTTP is redirected to HTTPS.

        Nothing else allows one: an unknown name's handshake fails. Call it when DNS leads here. Does nothing
        without TLS.
        """
        ...

    async def deny_tls(self, host: str) -> None: ...

    async def routes(self) -> tuple[Route, ...]:
        """All routes as observed, by name."""
        ...

    async def rebuild(self, wanted: Sequence[Route]) -> tuple[Repair, ...]:
        """Make the observed state the wanted one, and say what differed; nothing when nothing did.

        What is not wanted is removed. A route whose active slot is right is not switched. Raises Invalid when
        a host name is claimed twice.
        """
        ...

    async def probe(self, host: str, path: str = "/", *, count: int = 1) -> tuple[Probe, ...]:
        """`count` requests through the proxy's public port, one after the other, each on a connection of its
        own.

        GET, at most 5 s each. Failures are results, never exceptions. Over TLS where the host name may have a
        certificate; from the first on that cannot be had, over plain HTTP, where probes are never redirected.
        """
        ...

    async def connections(self, target: Target) -> int:
        """The proxy's open connections to a target: running requests and websockets, and idle ones for up to
        2 s.

        For draining: 0 means that the target may be stopped and nobody notices.
        """
        ...

    async def check(self) -> tuple[str, ...]:
        """What is wrong with proxy and state, a sentence each with what to do; empty when all is well.
        Changes nothing.
        """
        ...

    async def close(self) -> None:
        """Give back what this process holds. The proxy goes on."""
        ...
