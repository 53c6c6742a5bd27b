"""Values of environment variables, sealed for the place where they are kept."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from mcp_server.domain.errors import NotFound
from mcp_server.domain.projects import Project
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.sealing import Sealer
from mcp_server.ports.store import Reading

PLACED = "~"
Values = dict[str, str]


class Vault:
    """Seals values for the place where they are kept: team, project, environment, name and version.

    A stored value names the version for which it was sealed: when two stores made versions of one number, one
    of them is kept under another.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def sealed(
        self, project: Project, environment: EnvironmentName, version: int, values: Mapping[str, str]
    ) -> Values:
        return {
            name: f"{version}{PLACED}"
            + self._sealer.seal(value.encode(), _place(project, environment, name, str(version)))
            for name, value in values.items()
        }

    def opened(
        self, project: Project, environment: EnvironmentName, data: Mapping[str, str], *, encrypted: bool
    ) -> Values:
        """Raises Unavailable without the key, Corrupt for what was changed or belongs elsewhere."""
        if not encrypted:
            return dict(data)
        return {name: self._open(project, environment, name, text) for name, text in data.items()}

    def fingerprint(self, project: Project, environment: EnvironmentName, name: str, value: str) -> str:
        return self._sealer.fingerprint(value.encode(), _place(project, environment, name))

    def _open(self, project: Project, environment: EnvironmentName, name: str, text: str) -> str:
        version, _, sealed = text.partition(PLACED)
        return self._sealer.open(sealed, _place(project, environment, name, version)).decode()

    async def of_version(
        self, tx: Reading, project: Project, environment: EnvironmentName, version: int
    ) -> dict[str, SecretStr]:
        """The variables of a version; none of version 0. Raises NotFound."""
        values = await self.values(tx, project, environment, version)
        return {name: SecretStr(value) for name, value in values.items()}

    async def values(
        self, tx: Reading, project: Project, environment: EnvironmentName, version: int
    ) -> Values:
        if version == 0:
            return {}
        kept = await tx.environment_versions.get(f"{project.name}/{environment}/{version}")
        if kept is None:
            raise NotFound(
                f"there is no version {version} of the variables of {environment}",
                next="environment_history shows the versions.",
            )
        return self.opened(project, environment, kept.env_data, encrypted=kept.encrypted)


def _place(project: Project, environment: EnvironmentName, name: str, *version: str) -> tuple[str, ...]:
    return ("environment", project.team_id, project.uid, environment, name, *version)
