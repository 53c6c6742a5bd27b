"""DATABASE_URL where a project looks for it: its dotenv file, and the containers on its network."""

from __future__ import annotations

import logging

from pydantic import SecretStr

from mcp_server.domain.databases import Database, Site, chosen
from mcp_server.domain.errors import NotFound, QuaymasterError
from mcp_server.domain.records import Value
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.databases import EnvFiles
from mcp_server.ports.store import Reading, Store
from mcp_server.services.databases.passwords import Passwords
from mcp_server.services.databases.servers import Servers
from mcp_server.services.project_networks import ProjectNetworks

log = logging.getLogger(__name__)
VARIABLE = "DATABASE_URL"


class NetworkAccess(Value):
    """The address for a workload on `network`, good until the password is rotated. `database` is its key."""

    database: str
    url: SecretStr
    network: str


class Injection:
    def __init__(
        self,
        store: Store,
        servers: Servers,
        networks: ProjectNetworks,
        env_files: EnvFiles,
        passwords: Passwords,
        site: Site,
    ) -> None:
        self._store = store
        self._servers = servers
        self._networks = networks
        self._env_files = env_files
        self._passwords = passwords
        self._site = site

    async def into_file(self, database: Database) -> str | None:
        """Write the loopback address into the project's dotenv file; a notice when it cannot be."""
        root = await self._root(database)
        if root is None:
            return None
        return await self._put(root, database, {VARIABLE: self._passwords.url(database)})

    async def out_of_file(self, database: Database, root: str | None) -> str | None:
        """Take it out again."""
        return None if root is None else await self._put(root, database, {})

    async def root_of(self, database: Database) -> str | None:
        return await self._root(database)

    async def for_workload(self, project: str, environment: EnvironmentName) -> NetworkAccess | None:
        """The DATABASE_URL of a workload of this project and environment; its network exists and reaches the server.

        None when the project has no database, or one that no container can reach (SQLite). Raises what the
        engine raises.
        """

        async def reading(tx: Reading) -> Database | None:
            try:
                return chosen(await tx.databases.of_project(project), environment, project)
            except NotFound:
                return None

        database = await self._store.read(reading)
        if database is None or database.place is None or database.stage != "ready":
            return None
        if database.home != self._site.home:
            return None
        network = await self._networks.ensure(project, database.project_uid)
        await self._servers.join(database.place, network)
        return NetworkAccess(
            database=database.key, url=self._passwords.network_url(database), network=network.name
        )

    async def _root(self, database: Database) -> str | None:
        project = await self._store.read(lambda tx: tx.projects.get(database.project))
        same = project is not None and project.uid == database.project_uid
        return project.path if same and project is not None else None

    async def _put(self, root: str, database: Database, variables: dict[str, SecretStr]) -> str | None:
        name = ".env" if database.environment is None else f".env.{database.environment}"
        try:
            await self._env_files.put(root, name, variables)
        except QuaymasterError as error:
            log.info("%s of %s was not written: %s", name, database.project, error.message)
            return f"{VARIABLE} was not written: {error.message}"
        return None
