"""Deployments and domains, out of settings and adapters."""

from __future__ import annotations

from typing import get_args

from pydantic import SecretStr

from mcp_server.adapters import faults
from mcp_server.adapters.cloudflare.api import Api
from mcp_server.adapters.cloudflare.zones import CloudflareZones, NoZones
from mcp_server.adapters.dns.resolver import DnsResolver
from mcp_server.adapters.readiness.sockets import SocketReadiness
from mcp_server.adapters.sources.archives import ProjectSources
from mcp_server.app.workplace import Workplace
from mcp_server.config import Settings
from mcp_server.domain.databases import Site, parse_ports
from mcp_server.domain.projects import Project
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.dns import Zones
from mcp_server.ports.store import Store
from mcp_server.services.calls import Calls
from mcp_server.services.databases.service import Databases
from mcp_server.services.deployments.hosting import Hosting
from mcp_server.services.deployments.routing import Routing
from mcp_server.services.deployments.slots import SlotOptions, Slots
from mcp_server.services.domains import DomainOptions, Domains


def hosting_of(
    settings: Settings, store: Store, calls: Calls, place: Workplace, databases: Databases
) -> Hosting:
    async def provided(project: Project, environment: EnvironmentName) -> dict[str, SecretStr]:
        access = await databases.parts.injection.for_workload(project.name, environment)
        return {} if access is None else {"DATABASE_URL": access.url}

    return Hosting(
        calls=calls,
        store=store,
        engine=place.engine,
        edge=place.edge,
        readiness=SocketReadiness(),
        machine=place.machine,
        workers=place.workers,
        sealer=databases.parts.sealer,
        sources=ProjectSources(),
        site=place.site,
        options=_options(settings),
        provided=provided,
        step=faults.at,
    )


def routing_of(settings: Settings, store: Store, place: Workplace) -> Routing:
    """To look at the proxy without anything that works by itself."""
    slots = Slots(
        store,
        place.engine,
        place.edge,
        SocketReadiness(),
        place.machine,
        place.site,
        _options(settings),
        faults.at,
    )
    return Routing(store, slots)


def _options(settings: Settings) -> SlotOptions:
    ports = {
        "production": settings.ports_production,
        "staging": settings.ports_staging,
        "preview": settings.ports_preview,
    }
    return SlotOptions(
        base_domain=settings.base_domain,
        ports={name: parse_ports(ports[name]) for name in get_args(EnvironmentName)},
        drain_seconds=settings.drain_seconds,
    )


def domains_of(settings: Settings, store: Store, calls: Calls, place: Workplace) -> Domains:
    issuers = {"acme": "letsencrypt", "staging": "letsencrypt-staging", "internal": "internal", "off": None}
    return Domains(
        calls,
        store,
        DnsResolver(settings.dns_servers),
        zones_of(settings, place.site),
        place.edge,
        home=place.site.home,
        options=DomainOptions(
            base_domain=settings.base_domain,
            addresses=settings.edge_address,
            issuer=issuers[settings.edge_tls],
            quota=settings.quota_domains,
        ),
    )


def zones_of(settings: Settings, site: Site) -> Zones:
    """The operator's zones at Cloudflare, or none."""
    if settings.cloudflare_token is None or not settings.cloudflare_zones:
        return NoZones()
    api = Api(settings.cloudflare_token, address=settings.cloudflare_url)
    return CloudflareZones(api, settings.cloudflare_zones, site.installation)
