"""Host names that lead to a project."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mcp_server.domain.records import Moment, Record
from mcp_server.domain.teams import EnvironmentName


class DomainName(Record):
    noun: ClassVar[str] = "domains"
    domain: str = Field(min_length=1, max_length=253)
    project: str
    environment: EnvironmentName = "production"
    type: Literal["subdomain", "custom"] = "subdomain"
    ssl_enabled: bool = True
    ssl_issuer: str | None = Field(default="letsencrypt", max_length=100)
    dns_configured: bool = False
    dns_verified_at: Moment | None = None
    caddy_configured: bool = False
    status: Literal["pending", "active", "error"] = "pending"
    created_by: str | None = Field(default=None, max_length=255)
    created_at: Moment
    updated_at: Moment

    @property
    def key(self) -> str:
        return self.domain
