"""The variables with which an application is started."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from pydantic import SecretStr

from mcp_server.domain.deployments import Deployment, Release
from mcp_server.domain.errors import Failure, QuaymasterError
from mcp_server.domain.projects import Project
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Reading, Store
from mcp_server.services.deployments.slots import Variables
from mcp_server.services.vault import Vault

Provided = Callable[[Project, EnvironmentName], Awaitable[Variables]]
"""What the server itself gives to an application: DATABASE_URL and the like."""


class Outfit:
    def __init__(self, store: Store, vault: Vault, provided: Provided) -> None:
        self._store = store
        self._vault = vault
        self._provided = provided

    async def of(
        self, project: Project, environment: EnvironmentName, release: Release
    ) -> dict[str, SecretStr]:
        """Those of the release's version, and what the server itself gives now."""
        chosen = await self._store.read(
            lambda tx: self._vault.of_version(tx, project, environment, release.environment_version)
        )
        return {**chosen, **await self._provided(project, environment)}

    async def shut(self, tx: Reading, project: Project, deployment: Deployment | None) -> Failure | None:
        """Why a version cannot be started with its variables: their key is lost, for example."""
        if deployment is None or deployment.release is None:
            return None
        version = deployment.release.environment_version
        return await self.shut_version(tx, project, deployment.environment, version)

    async def shut_version(
        self, tx: Reading, project: Project, environment: EnvironmentName, version: int
    ) -> Failure | None:
        try:
            await self.of_version(tx, project, environment, version)
        except QuaymasterError as error:
            return Failure.of(error)
        return None

    async def of_version(
        self, tx: Reading, project: Project, environment: EnvironmentName, version: int
    ) -> dict[str, SecretStr]:
        """Those that people set, in this version."""
        return await self._vault.of_version(tx, project, environment, version)

    async def provided(self, project: Project, environment: EnvironmentName) -> Variables:
        """For hiding only: where it cannot be had, it is not in the logs' reach to be asked for twice."""
        with suppress(QuaymasterError):
            return await self._provided(project, environment)
        return {}
