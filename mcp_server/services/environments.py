"""Environment variables of a project: sealed, every version kept, shown only to those who may see them."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from mcp_server.domain.errors import NotFound
from mcp_server.domain.projects import Project
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.sealing import Sealer
from mcp_server.ports.store import Reading

PLACED = "~"


class Vault:
    """Seals values for the place where they are kept: team, project, environment, name and version.

    A stored value names the version for which it was sealed: when two stores made versions of one number, one
    of them is kept under another.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def sealed(
        self, project: Project, environment: EnvironmentName, version: int, values: Mapping[str, str]
    ) -> dict[str, str]:
        return {
            name: f"{version}{PLACED}"
            + self._sealer.seal(value.encode(), _context(project, environment, name, str(version)))
            for name, value in values.items()
        }

    def opened(
        self, project: Project, environment: EnvironmentName, data: Mapping[str, str], *, encrypted: bool
    ) -> dict[str, SecretStr]:
        """Raises Unavailable without the key, Corrupt for what was changed or belongs elsewhere."""
        if not encrypted:
            return {name: SecretStr(value) for name, value in data.items()}
        return {name: SecretStr(self._open(project, environment, name, text)) for name, text in data.items()}

    def _open(self, project: Project, environment: EnvironmentName, name: str, text: str) -> str:
        version, _, sealed = text.partition(PLACED)
        return self._sealer.open(sealed, _context(project, environment, name, version)).decode()

    async def of_version(
        self, tx: Reading, project: Project, environment: EnvironmentName, version: int
    ) -> dict[str, SecretStr]:
        """The variables of a version; none of version 0. Raises NotFound."""
        if version == 0:
            return {}
        kept = await tx.environment_versions.get(f"{project.name}/{environment}/{version}")
        if kept is None:
            raise NotFound(f"there is no version {version} of the variables of {environment}")
        return self.opened(project, environment, kept.env_data, encrypted=kept.encrypted)


def _context(project: Project, environment: EnvironmentName, name: str, version: str) -> tuple[str, ...]:
    return ("environment", project.team_id, project.uid, environment, name, version)
