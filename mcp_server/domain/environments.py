"""The environment variables of a project in one environment, and every version that they had."""

from __future__ import annotations

from typing import ClassVar

from mcp_server.domain.records import Moment, Record
from mcp_server.domain.teams import EnvironmentName


class ProjectEnvironment(Record):
    """The present version. `env_data` holds values as they are stored: sealed ones when `encrypted`."""

    noun: ClassVar[str] = "environments"
    project: str
    environment: EnvironmentName
    env_data: dict[str, str]
    encrypted: bool = False
    version: int = 1
    created_by: str | None = None
    created_at: Moment
    updated_at: Moment

    @property
    def key(self) -> str:
        return f"{self.project}/{self.environment}"


class EnvironmentVersion(Record):
    """One version as it was saved. Written once; two versions made apart are both kept, under different numbers."""

    noun: ClassVar[str] = "environment_versions"
    project: str
    environment: EnvironmentName
    version: int
    env_data: dict[str, str]
    encrypted: bool = False
    created_by: str | None = None
    created_at: Moment

    @property
    def key(self) -> str:
        return f"{self.project}/{self.environment}/{self.version}"
