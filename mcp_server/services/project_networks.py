"""The network of a project on its engine: by the plain name, or by one of its own where that is somebody else's."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from mcp_server.domain.databases import Site
from mcp_server.domain.errors import Conflict, NotFound
from mcp_server.domain.our_workloads import own_name, project_network_name
from mcp_server.domain.workloads import Network, Ref
from mcp_server.ports.orchestrator import Orchestrator


class ProjectNetworks:
    """Labels decide whose a network is. Of two installations on one engine the first that comes has the plain name."""

    def __init__(self, engine: Orchestrator, site: Site) -> None:
        self._engine = engine
        self._site = site

    async def ensure(self, project: str, uid: str) -> Network:
        """The project's network, made unless it exists. Raises what the engine raises."""
        network = await self.look(project, uid)
        try:
            await self._engine.ensure_network(network)
        except Conflict as error:
            if error.details.get("owner") != "foreign":
                raise
            # Somebody came first since we looked.
            network = self._names(project, uid)[1]
            await self._engine.ensure_network(network)
        return network

    async def look(self, project: str, uid: str) -> Network:
        """As it is, or would be made now."""
        plain, own = self._names(project, uid)
        for found in await self._engine.networks({}):
            if found.name == own.name or (found.name == plain.name and found.owner != plain.owner):
                return own
        return plain

    async def remove(self, project: str, uid: str) -> None:
        """Unless somebody is in it. None is no error."""
        for network in self.refs(project, uid):
            with suppress(Conflict, NotFound):
                await self._engine.remove_network(network)

    def refs(self, project: str, uid: str) -> Sequence[Ref]:
        """By the names that it may have; one that is not ours is left alone by the engine."""
        return [Ref(name=network.name, owner=network.owner) for network in self._names(project, uid)]

    def _names(self, project: str, uid: str) -> tuple[Network, Network]:
        owner, plain = self._site.owner(uid), project_network_name(project)
        return Network(name=plain, owner=owner), Network(name=own_name(plain, owner), owner=owner)
