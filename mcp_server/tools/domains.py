"""Domains."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.results import PlanResult
from mcp_server.services.calls import Call
from mcp_server.services.domains import DomainList, Domains, DomainView
from mcp_server.tools.arguments import Cursor, Environment, Limit, ProjectName
from mcp_server.tools.catalogue import Catalogue

Domain = Annotated[str, Field(min_length=3, max_length=254)]


def add_domain_tools(catalogue: Catalogue, domains: Domains) -> None:
    @catalogue.changing("domains", idempotent=True)
    async def add_domain(
        call: Call, project: ProjectName, domain: Domain, environment: Environment = "production"
    ) -> DomainView:
        """Route a host name to a project. Says which DNS records to create; then call verify_domain."""
        return await domains.add(call, project=project, domain=domain, environment=environment)

    @catalogue.changing("domains", idempotent=True)
    async def verify_domain(call: Call, domain: Domain) -> DomainView:
        """Check that a domain's DNS leads here. If so, the proxy serves it and may get a certificate."""
        return await domains.verify(call, domain=domain)

    @catalogue.reading("domains")
    async def list_domains(
        call: Call, project: ProjectName, limit: Limit = DEFAULT_LIMIT, cursor: Cursor | None = None
    ) -> DomainList:
        """List the domains of a project."""
        return await domains.list(call, project=project, limit=limit, cursor=cursor)

    @catalogue.planned("domains")
    async def remove_domain(call: Call, domain: Domain) -> PlanResult:
        """Remove a domain. First returns a plan."""
        return await domains.remove(call, domain=domain)
