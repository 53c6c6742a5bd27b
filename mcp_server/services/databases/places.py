"""Where a new database's server goes: by the operator's names, or by names of its own where those are taken."""

from __future__ import annotations

from typing import NamedTuple

from mcp_server.domain.databases import Database, Place, Site, named
from mcp_server.domain.our_workloads import own_name
from mcp_server.domain.workloads import Owner
from mcp_server.ports.orchestrator import Orchestrator
from mcp_server.services.databases.options import Options
from mcp_server.services.project_networks import ProjectNetworks


class Spot(NamedTuple):
    """`has_data`: its volume is there, of an earlier database of the same project."""

    place: Place
    has_data: bool


class Places:
    """Labels decide whose a container or a volume is. What is somebody else's keeps its name."""

    def __init__(self, engine: Orchestrator, networks: ProjectNetworks, site: Site, options: Options) -> None:
        self._engine = engine
        self._networks = networks
        self._site = site
        self._options = options

    async def find(self, database: Database, *, port: int) -> Spot:
        """Nothing is made. Raises what the engine raises."""
        owner = self._site.owner(database.project_uid)
        container = named(self._options.container, database.project, database.environment)
        volume = named(self._options.volume, database.project, database.environment)
        volumes = {one.name: one.owner for one in await self._engine.volumes({})}
        taken = volumes.get(volume, owner) != owner or await self._taken(container, owner)
        if taken or volumes.get(own_name(volume, owner)) == owner:
            container, volume = own_name(container, owner), own_name(volume, owner)
        network = await self._networks.look(database.project, database.project_uid)
        place = Place(
            container=container,
            volume=volume,
            network=network.name,
            owner=owner,
            image=self._options.image_for(database.extensions),
            port=port,
        )
        return Spot(place, has_data=volumes.get(volume) == owner)

    async def _taken(self, container: str, owner: Owner) -> bool:
        found = await self._engine.inspect(container)
        return found is not None and not owner.owns(found.labels)
