"""The composition root: settings in, use cases and servers out. The one place where adapters meet services.

What only some commands need (the protocol's SDK, the web server, drivers) is imported when it is needed: a
server on stdio is started for every conversation, and the command line is used in hooks.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import logging
import os
import platform
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import anyio
from pydantic import SecretStr

from mcp_server.adapters import faults
from mcp_server.adapters.backup_files.scratch import HomeScratch
from mcp_server.adapters.backup_files.sealed import SealedFiles
from mcp_server.adapters.cloudflare.api import Api
from mcp_server.adapters.cloudflare.zones import CloudflareZones, NoZones
from mcp_server.adapters.dns.resolver import DnsResolver
from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.adapters.dotenv.blocks import DotenvBlocks
from mcp_server.adapters.host.machine import ThisMachine
from mcp_server.adapters.host.workers import HomeWorkers
from mcp_server.adapters.memory.cache import MemoryCache
from mcp_server.adapters.postgres_projects.logins import AsyncpgLogins
from mcp_server.adapters.project_sql.promotion import SqliteToPostgres
from mcp_server.adapters.project_sql.statements import ProjectFigures, ProjectScripts, ProjectStatements
from mcp_server.adapters.project_sql.sums import FileCopies, ProjectSums
from mcp_server.adapters.readiness.sockets import SocketReadiness
from mcp_server.adapters.registry.keyring import RegistryKeyRing
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.adapters.sealing.aes import AesSealer
from mcp_server.adapters.sealing.keys import setting_and_file
from mcp_server.adapters.sources.archives import ProjectSources
from mcp_server.adapters.sqlite.files import DiskSqliteFiles
from mcp_server.adapters.webhooks.posting import HttpsWebhook
from mcp_server.config import Settings
from mcp_server.domain.backups import Retention
from mcp_server.domain.callers import Caller
from mcp_server.domain.databases import Database, Site, parse_ports
from mcp_server.domain.errors import Invalid, QuaymasterError, Unauthenticated, Unavailable
from mcp_server.domain.nouns import RECORDS
from mcp_server.domain.pages import Page
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Record
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.workloads import DATABASE_LIMITS, MB
from mcp_server.ports.dns import Zones
from mcp_server.ports.edge import Edge
from mcp_server.ports.keyring import KeyRing
from mcp_server.ports.mirror import Claim, Outage
from mcp_server.ports.store import Reading, Store
from mcp_server.services.audit import AuditLog
from mcp_server.services.backups.service import Backups
from mcp_server.services.bootstrap import Bootstrap
from mcp_server.services.branches import Branches
from mcp_server.services.calls import Calls
from mcp_server.services.conflicts import Conflicts
from mcp_server.services.databases.options import Options
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.service import Databases
from mcp_server.services.databases.status import parts_of
from mcp_server.services.domains import DomainOptions, Domains
from mcp_server.services.hosting import Hosting
from mcp_server.services.keys import Keys
from mcp_server.services.locks import Locks
from mcp_server.services.members import Members
from mcp_server.services.notifications import Notifications
from mcp_server.services.projects import Projects
from mcp_server.services.promotions import Promotions
from mcp_server.services.queries import Queries
from mcp_server.services.resealing import Resealing
from mcp_server.services.signin import SignIn, local_owner
from mcp_server.services.slots import SlotOptions
from mcp_server.services.staged import Staged
from mcp_server.services.status import Status
from mcp_server.services.sweeper import Sweeper
from mcp_server.services.tasks import Tasks
from mcp_server.services.teams import LOCAL, Teams
from mcp_server.services.templates import Templates
from mcp_server.services.trail import Trail

if TYPE_CHECKING:
    from starlette.types import Scope

    from mcp_server.adapters.failover.store import FailoverStore
    from mcp_server.adapters.postgres.migrations import Status as MigrationStatus
    from mcp_server.adapters.postgres.primary import PostgresPrimary
    from mcp_server.adapters.registry.maintenance import Report
    from mcp_server.services.generate import Generate
    from mcp_server.services.schemas.databases import Databases as CodeDatabases
    from mcp_server.services.schemas.projects import ProjectSchemas
    from mcp_server.tools.server import QuaymasterServer

log = logging.getLogger(__name__)
SWEEP_SECONDS = 60.0
LEAD_SECONDS = 2.0
CLOSE_SECONDS = 5.0
DRAIN_SECONDS = 30.0
"""How long running calls may go on after the web server was told to stop."""


@dataclass(frozen=True, slots=True)
class House:
    """The use cases over one store."""

    settings: Settings
    mirror: RegistryMirror
    store: Store
    calls: Calls
    sign_in: SignIn
    bootstrap: Bootstrap
    status: Status
    projects: Projects
    tasks: Tasks
    locks: Locks
    staged: Staged
    teams: Teams
    members: Members
    keys: Keys
    audit: AuditLog
    conflicts: Conflicts
    sweeper: Sweeper
    databases: Databases
    queries: Queries
    templates: Templates
    backups: Backups
    branches: Branches
    promotions: Promotions
    hosting: Hosting
    domains: Domains
    notifications: Notifications
    workers: HomeWorkers


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[House]:
    """The use cases, with what runs beside them.

    On leaving, queued audit rows are written and the store is closed.
    """
    mirror = await RegistryMirror.open(settings.home)
    async with _store_over(mirror, settings) as (store, keyring):
        cache = MemoryCache()
        trail = Trail(store)
        async with anyio.create_task_group() as beside:
            beside.start_soon(trail.run)
            async with _workplace(settings, mirror) as place:
                house = _furnished(settings, store, keyring, cache, trail, mirror, place)
                house.hosting.deployments.notifier = house.notifications
                house.hosting.switching.notifier = house.notifications
                async with (
                    house.notifications.open(),
                    house.databases.working(),
                    house.hosting.working(),
                ):
                    yield house
            beside.cancel_scope.cancel()


@asynccontextmanager
async def _store_over(
    mirror: RegistryMirror, settings: Settings
) -> AsyncIterator[tuple[Store, RegistryKeyRing]]:
    """The registry itself, or PostgreSQL with the registry under it."""
    try:
        if settings.database_url is None:
            yield RegistryStore(mirror), RegistryKeyRing(settings.home)
        else:
            async with _failover(mirror, settings) as store:
                yield store, RegistryKeyRing(settings.home, store.find_key)
    finally:
        mirror.close()


@asynccontextmanager
async def _failover(mirror: RegistryMirror, settings: Settings) -> AsyncIterator[FailoverStore]:
    from mcp_server.adapters.failover.store import FailoverStore

    store = FailoverStore(primary_of(settings), mirror)
    try:
        await store.open()
        async with anyio.create_task_group() as beside:
            beside.start_soon(store.run_background)
            yield store
            beside.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS):
            await store.close()


@dataclass(frozen=True, slots=True)
class Workplace:
    """What this process works with on this machine."""

    site: Site
    machine: ThisMachine
    workers: HomeWorkers
    engine: DockerOrchestrator
    edge: Edge


@asynccontextmanager
async def _workplace(settings: Settings, mirror: RegistryMirror) -> AsyncIterator[Workplace]:
    """The engine is connected to at the first question. Embedded, the home is an installation of its own."""
    facts = await mirror.refresh()
    machine = ThisMachine()
    site = Site(
        installation=facts.position.installation if facts.position else facts.home,
        home=facts.home,
        host=machine.id,
        host_name=machine.name,
    )
    engine = DockerOrchestrator(settings.docker_host)
    workers = HomeWorkers.open(settings.home)
    try:
        edge = await anyio.to_thread.run_sync(edge_of, settings, site, engine)
        yield Workplace(site, machine, workers, engine, edge)
    finally:
        workers.close()
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS):
            await engine.close()


def _databases(
    settings: Settings, store: Store, calls: Calls, place: Workplace
) -> tuple[Databases, Backups, Branches, Promotions]:
    """Databases and their backups, of which each asks for the other, and what needs both."""
    options = Options(
        files=str(settings.home / "databases"),
        image=settings.postgres_image,
        vector_image=settings.postgres_vector_image,
        container=settings.database_container,
        volume=settings.database_volume,
        ports=parse_ports(settings.database_ports),
        isolation=settings.database_isolation,
        pool=settings.warm_pool,
        quota=settings.quota_databases,
        limits=DATABASE_LIMITS.change(
            memory=settings.database_memory * MB,
            cpus=settings.database_cpus,
            pids=settings.database_pids,
        ),
    )
    parts = Parts(
        store=store,
        calls=calls,
        engine=place.engine,
        logins=AsyncpgLogins(),
        files=DiskSqliteFiles(),
        env_files=DotenvBlocks(),
        machine=place.machine,
        workers=place.workers,
        sealer=AesSealer(setting_and_file(settings.encryption_key(), settings.home)),
        site=place.site,
        options=options,
        step=faults.at,
    )

    async def final_backup(database: Database) -> str:
        return await backups.final(database)

    databases = Databases(parts, final_backup=final_backup)
    changes = databases.changes
    files = SealedFiles(settings.home / "backups", parts.sealer)
    copies, scratch = FileCopies(), HomeScratch(settings.home / "scratch")
    backups = Backups(
        parts,
        changes,
        files,
        ProjectSums(),
        copies,
        scratch,
        retention=Retention(most=settings.backup_keep, days=settings.backup_days),
        hours=settings.backup_hours,
    )
    branches = Branches(parts, changes, backups, copies, most_bytes=settings.branch_megabytes * MB)
    promotions = Promotions(parts, changes, backups, SqliteToPostgres(), files, copies, scratch)
    return databases, backups, branches, promotions


def edge_of(settings: Settings, site: Site, engine: DockerOrchestrator) -> Edge:
    """The proxy as the settings name it; nothing is started. Raises Conflict for another installation's
    directory."""
    from mcp_server.adapters.edge.off import NoEdge

    if settings.edge == "off":
        return NoEdge()
    from mcp_server.adapters.edge.probes import Door
    from mcp_server.adapters.edge.switch import SwitchDirectory

    directory = SwitchDirectory(settings.home / "edge", site.installation)
    token = directory.token()
    ports = (settings.edge_http_port, settings.edge_https_port)
    door = Door("127.0.0.1", *ports, settings.edge_tls, token)
    if settings.edge == "nginx":
        from mcp_server.adapters.edge.nginx.config import NginxSettings
        from mcp_server.adapters.edge.nginx.edge import NginxEdge
        from mcp_server.adapters.edge.nginx.host import HostNginx

        wanted = NginxSettings(
            installation=site.installation, token=token, http_port=ports[0], https_port=ports[1]
        )
        return NginxEdge(directory, wanted, door, HostNginx())
    from mcp_server.adapters.edge.caddy.config import CaddySettings
    from mcp_server.adapters.edge.caddy.container import ADMIN, INSIDE, STORAGE, ContainerCaddy
    from mcp_server.adapters.edge.caddy.edge import CaddyEdge
    from mcp_server.adapters.edge.caddy.host import HostCaddy

    if settings.edge_mode == "host":
        own = CaddySettings(
            installation=site.installation,
            token=token,
            switch=str(directory.root / "switch"),
            http_port=ports[0],
            https_port=ports[1],
            public_https_port=ports[1],
            tls=settings.edge_tls,
        )
        return CaddyEdge(directory, own, door, HostCaddy())
    managed = CaddySettings(
        installation=site.installation,
        token=token,
        switch=f"{INSIDE}/switch",
        storage=STORAGE,
        admin=ADMIN,
        public_https_port=ports[1],
        tls=settings.edge_tls,
    )
    public = settings.base_domain != "localhost"
    image = settings.edge_image or "caddy:2"
    caddy = ContainerCaddy(engine, site.owner(), image, directory.root, ports, public=public)
    return CaddyEdge(directory, managed, door, caddy)


def _hosting(
    settings: Settings, store: Store, calls: Calls, place: Workplace, databases: Databases
) -> Hosting:
    async def provided(project: Project, environment: EnvironmentName) -> dict[str, SecretStr]:
        access = await databases.parts.injection.for_workload(project.name, environment)
        return {} if access is None else {"DATABASE_URL": access.url}

    ports = {
        "production": settings.ports_production,
        "staging": settings.ports_staging,
        "preview": settings.ports_preview,
    }
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
        options=SlotOptions(
            base_domain=settings.base_domain,
            ports={name: parse_ports(ports[name]) for name in get_args(EnvironmentName)},
            drain_seconds=settings.drain_seconds,
        ),
        provided=provided,
        step=faults.at,
    )


def _domains(settings: Settings, store: Store, calls: Calls, place: Workplace) -> Domains:
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


def primary_of(settings: Settings) -> PostgresPrimary:
    """PostgreSQL as the settings name it; nothing is connected yet. Raises Invalid where they name none."""
    from mcp_server.adapters.postgres.connections import ConnectionSettings
    from mcp_server.adapters.postgres.primary import PostgresPrimary

    if settings.database_url is None:
        raise Invalid(
            "no PostgreSQL is configured", next="Set QUAYMASTER_DATABASE_URL or QUAYMASTER_DB_HOST."
        )
    return PostgresPrimary(
        ConnectionSettings(
            settings.database_url.get_secret_value(),
            pool_max=settings.db_pool_max,
            pool_idle=settings.db_pool_idle,
            connect_timeout=settings.db_connect_timeout,
        )
    )


def _furnished(
    settings: Settings,
    store: Store,
    keyring: KeyRing,
    cache: MemoryCache,
    trail: Trail,
    mirror: RegistryMirror,
    place: Workplace,
) -> House:
    calls = Calls(store, cache, trail, rate_limit=settings.rate_limit)
    databases, backups, branches, promotions = _databases(settings, store, calls, place)
    hosting = _hosting(settings, store, calls, place, databases)
    locks = Locks(calls)
    domains = _domains(settings, store, calls, place)
    return House(
        settings=settings,
        mirror=mirror,
        store=store,
        calls=calls,
        sign_in=SignIn(keyring, cache, trail),
        bootstrap=Bootstrap(calls, prefix=settings.key_prefix),
        status=Status(store, cache, trail, version=version(), parts=parts_of(databases)),
        projects=Projects(
            calls,
            roots=settings.project_roots,
            quota=settings.quota_projects,
            databases=databases,
            base_domain=settings.base_domain,
            let_go=domains.let_go,
            tidy=hosting.tidy_soon,
        ),
        tasks=Tasks(calls),
        locks=locks,
        staged=Staged(locks),
        teams=Teams(calls, prefix=settings.key_prefix),
        members=Members(calls),
        keys=Keys(calls, prefix=settings.key_prefix, quota=settings.quota_keys),
        audit=AuditLog(calls),
        conflicts=Conflicts(calls),
        sweeper=Sweeper(store, retention_days=settings.audit_retention_days),
        databases=databases,
        backups=backups,
        branches=branches,
        promotions=promotions,
        templates=Templates(databases.parts, databases.changes, ProjectScripts()),
        queries=Queries(databases.parts, ProjectStatements(), ProjectFigures()),
        hosting=hosting,
        domains=domains,
        notifications=Notifications(store, HttpsWebhook(settings.webhook_networks)),
        workers=place.workers,
    )


def version() -> str:
    try:
        return importlib.metadata.version("quaymaster")
    except importlib.metadata.PackageNotFoundError:
        return "0"


# Maintenance, for the command line.


async def migrations(settings: Settings, *, up: bool) -> list[tuple[str, str]]:
    """Every migration by name with its state, in order; with `up` the pending ones are applied first.

    States: applied, pending, and what is wrong: changed, missing, unknown.
    """
    primary = primary_of(settings)
    try:
        if up:
            await primary.migrations.up()
        return _migration_states(await primary.migrations.status())
    except Outage as outage:
        raise Unavailable(f"PostgreSQL cannot be reached: {outage.reason}") from outage
    finally:
        await primary.close()


def _migration_states(status: MigrationStatus) -> list[tuple[str, str]]:
    wrong = dict.fromkeys(status.changed, "changed") | dict.fromkeys(status.missing, "missing")
    rows = []
    for each in status.applied:
        name = each.name or f"{each.version:04d}"
        rows.append((name, "unknown" if each.version in status.newer else wrong.get(name, "applied")))
    return [*rows, *((each.name, "pending") for each in status.pending)]


async def edge_config(settings: Settings) -> str:
    """The configuration that the proxy is to run. Raises Invalid where Quaymaster writes none."""
    from mcp_server.adapters.edge.caddy.edge import CaddyEdge

    mirror = await RegistryMirror.open(settings.home)
    try:
        async with _workplace(settings, mirror) as place:
            if isinstance(place.edge, CaddyEdge):
                return place.edge.configuration()
    finally:
        mirror.close()
    if settings.edge == "nginx":
        return f"include {settings.home / 'edge' / 'nginx.conf'};\n"
    raise Invalid("there is no proxy to configure", next="Set QUAYMASTER_EDGE to caddy or nginx.")


async def edge_check(settings: Settings) -> Sequence[str]:
    """What is wrong with the proxy and its state, a sentence each."""
    mirror = await RegistryMirror.open(settings.home)
    try:
        async with _workplace(settings, mirror) as place:
            return await place.edge.check()
    finally:
        mirror.close()


def secrets_rotate(settings: Settings) -> str | None:
    """A new key in the home's file; or, where a setting holds the key, the new one to set, the present one kept."""
    from mcp_server.adapters.sealing import keys

    present = settings.encryption_key()
    if present is None:
        keys.rotate(settings.home)
        return None
    keys.keep(settings.home, present)
    return secrets.token_hex(32)


async def secrets_reseal(settings: Settings) -> tuple[int, Sequence[str]]:
    """How many records were sealed with the newest key, and what was left, in sentences."""
    async with open_app(settings) as house:
        done = await _resealing(house).run()
        return done.sealed, done.left


async def secrets_reset(settings: Settings) -> Sequence[str]:
    """A new key in the home's file; the records that no key opens any more."""
    from mcp_server.adapters.sealing import keys

    if settings.encryption_key() is None:
        keys.begin_anew(settings.home)
    async with open_app(settings) as house:
        return await _resealing(house).unreadable()


def _resealing(house: House) -> Resealing:
    return Resealing(house.store, house.databases.parts.sealer, house.hosting.site.home)


def registry_report(settings: Settings) -> Report:
    from mcp_server.adapters.registry import maintenance

    return maintenance.verify(settings.home)


async def registry_set_aside(settings: Settings) -> Sequence[str]:
    from mcp_server.adapters.registry import maintenance

    return await maintenance.set_aside(settings.home)


async def registry_compact(settings: Settings) -> None:
    from mcp_server.adapters.registry import maintenance

    await maintenance.compact(settings.home)


def registry_export(settings: Settings) -> dict[str, Any]:
    from mcp_server.adapters.registry import maintenance

    return maintenance.export(settings.home)


async def registry_import(settings: Settings) -> dict[str, int]:
    """Bring the records of this home into the empty PostgreSQL; how many of each noun."""
    from mcp_server.adapters.failover.importing import bring_over

    primary = primary_of(settings)
    mirror = await RegistryMirror.open(settings.home)
    try:
        return await bring_over(primary, mirror, _records_of(registry_export(settings)))
    except Outage as outage:
        raise Unavailable(f"PostgreSQL cannot be reached: {outage.reason}") from outage
    finally:
        mirror.close()
        await primary.close()


async def registry_claim(settings: Settings, *, force: bool) -> Claim:
    """Which homes share PostgreSQL, and which one may grant alone; this home asks to be admitted.

    `force`: a person says that the home which may grant alone is gone.
    """
    from mcp_server.adapters.failover.membership import Membership

    primary = primary_of(settings)
    mirror = await RegistryMirror.open(settings.home)
    try:
        await primary.prepare()
        home = (await mirror.refresh()).home
        return await (Membership(primary, mirror, home).force() if force else primary.claim(home))
    except Outage as outage:
        raise Unavailable(f"PostgreSQL cannot be reached: {outage.reason}") from outage
    finally:
        mirror.close()
        await primary.close()


def _records_of(exported: dict[str, Any]) -> list[Record]:
    """The records of an export, parents before children."""
    return [kind.model_validate(each) for kind in RECORDS for each in exported["records"].get(kind.noun, ())]


def client_writer() -> Generate:
    """What `db generate` writes clients with."""
    from mcp_server.adapters.catalog.shapes import LiveShapes
    from mcp_server.services.generate import Generate

    return Generate(LiveShapes())


async def serve_studio(
    name: str,
    url: str,
    *,
    schemas: tuple[str, ...],
    port: int,
    writable: bool,
    ready: Callable[[str], None],
) -> None:
    """Serve the studio on loopback until a signal; `ready` is told the address that works once."""
    from mcp_server.adapters.catalog.browsers import browser_of
    from mcp_server.http.serving import WebServer, address_of, listening_socket
    from mcp_server.http.studio.app import studio_app
    from mcp_server.services.studio import Studio

    gate = studio_app(Studio(name, browser_of(url, schemas), writable=writable))
    listening = listening_socket("127.0.0.1", port)
    entrance = f"{address_of(listening)}/?token={gate.token}"

    async def nothing_to_drain() -> None:
        return

    server = WebServer(gate, ready=lambda: ready(entrance), drain=nothing_to_drain)
    await server.run_on(listening)


def code_databases(
    root: Path, environ: Mapping[str, str] | None, environment: str, *, owner: str | None = None
) -> CodeDatabases:
    """The databases below `root`/db. Without `environ` their addresses come from the dotenv files there only."""
    from mcp_server.adapters.schemas.engines import LiveEngines
    from mcp_server.adapters.schemas.folders import DiskFolders
    from mcp_server.services.schemas.databases import Databases

    who = owner or f"{local_user()} on {platform.node()}"
    return Databases(DiskFolders(root, environ), LiveEngines(root), environment, who)


def _project_schemas(calls: Calls) -> ProjectSchemas:
    from mcp_server.services.schemas.projects import ProjectSchemas

    return ProjectSchemas(
        calls, lambda root, environment, owner: code_databases(root, None, environment, owner=owner)
    )


# Servers.


def make_server(house: House) -> QuaymasterServer:
    """The MCP server of a house: every tool, prompt and resource. Who sees what is decided for each
    request."""
    from mcp_server.tools.audit import add_audit_tools
    from mcp_server.tools.backups import add_backup_tools
    from mcp_server.tools.branches import add_branch_tools
    from mcp_server.tools.catalogue import Catalogue
    from mcp_server.tools.databases import add_database_tools
    from mcp_server.tools.deployments import add_deployment_tools
    from mcp_server.tools.domains import add_domain_tools
    from mcp_server.tools.environments import add_environment_tools
    from mcp_server.tools.keys import add_key_tools
    from mcp_server.tools.locks import add_lock_tools
    from mcp_server.tools.members import add_member_tools
    from mcp_server.tools.migrations import add_migration_tools
    from mcp_server.tools.projects import add_project_tools
    from mcp_server.tools.prompts import INSTRUCTIONS, add_prompts
    from mcp_server.tools.queries import add_query_tools
    from mcp_server.tools.resources import add_resources
    from mcp_server.tools.server import QuaymasterServer
    from mcp_server.tools.system import add_system_tools
    from mcp_server.tools.tasks import add_task_tools
    from mcp_server.tools.teams import add_team_tools

    catalogue = Catalogue()
    server = QuaymasterServer(catalogue, house.calls, version=version(), instructions=INSTRUCTIONS)
    add_system_tools(catalogue, house.status, house.conflicts, server.door)
    add_project_tools(catalogue, house.projects)
    add_database_tools(catalogue, house.databases)
    add_deployment_tools(catalogue, house.hosting)
    add_environment_tools(catalogue, house.hosting.environments)
    add_query_tools(catalogue, house.queries, house.templates)
    add_migration_tools(catalogue, _project_schemas(house.calls))
    add_backup_tools(catalogue, house.backups)
    add_branch_tools(catalogue, house.branches, house.promotions)
    add_domain_tools(catalogue, house.domains)
    add_task_tools(catalogue, house.tasks)
    add_lock_tools(catalogue, house.locks)
    add_team_tools(catalogue, house.teams)
    add_member_tools(catalogue, house.members)
    add_key_tools(catalogue, house.keys)
    add_audit_tools(catalogue, house.audit)
    add_prompts(server)
    add_resources(server, house.calls, house.projects, house.locks)
    return server


async def serve_stdio(settings: Settings, toolsets: Sequence[str] = ()) -> None:
    """Serve the client on stdin and stdout. Raises Invalid or Unauthenticated when nobody can be its
    caller."""
    from mcp_server.tools.stdio import serve_stdio as serve
    from mcp_server.tools.toolsets import chosen
    from mcp_server.tools.visits import Visit

    wanted = chosen(toolsets or settings.toolsets)
    process = secrets.token_hex(6)
    async with open_app(settings) as house:
        key = None if settings.api_key is None else settings.api_key.get_secret_value()
        if key is None:
            caller = await _local_caller(house, process)
            visit = Visit(caller, wanted)
        else:

            async def identify() -> Caller:
                return await house.sign_in.authenticate(key, transport="stdio", process=process)

            visit = Visit(await identify(), wanted, identify)
        async with anyio.create_task_group() as beside:
            beside.start_soon(_lead, house)
            await serve(make_server(house), visit)
            beside.cancel_scope.cancel()


async def _local_caller(house: House, process: str) -> Caller:
    """The operating-system user, as owner of the team `local`; with PostgreSQL there is no such caller."""
    if house.settings.database_url is not None:
        raise Unauthenticated(
            "with PostgreSQL as the store every caller needs a key",
            next="Set QUAYMASTER_API_KEY; 'quaymaster keys create --team T --role R' makes one.",
        )
    user = local_user()
    await house.bootstrap.run(user, with_key=False)
    return local_owner(user, transport="stdio", process=process)


async def serve_http(
    settings: Settings, *, host: str, port: int, toolsets: Sequence[str] = (), allow_remote: bool = False
) -> None:
    """Serve streamable HTTP at /mcp until a signal comes. Raises Invalid when it cannot or must not
    listen there."""
    from mcp_server.http.addresses import answered_hosts, is_loopback, networks
    from mcp_server.http.databases import database_routes
    from mcp_server.http.gate import Gate
    from mcp_server.http.health import health_route
    from mcp_server.http.metrics import metrics_route
    from mcp_server.http.serving import WebServer, address_of, listening_socket
    from mcp_server.tools.toolsets import chosen
    from mcp_server.tools.visits import Visit

    if not is_loopback(host) and not allow_remote:
        raise Invalid(
            f"listening on {host} would let other machines reach this server",
            next="Pass --allow-remote to do it all the same, behind a proxy that speaks TLS.",
        )
    default = chosen(toolsets or settings.toolsets)
    listening = listening_socket(host, port)
    async with open_app(settings) as house:
        server = make_server(house)
        for path in ("/health", "/api/health"):
            server.custom_route(path, methods=["GET"])(health_route(house.status))
        metrics = metrics_route(server.outcomes, server.seconds, house.store.status)
        server.custom_route("/metrics", methods=["GET"])(metrics)
        for place, method, handler in database_routes(
            house.databases, house.calls, lambda: server.door.visit().caller
        ):
            server.custom_route(place, methods=[method])(handler)

        def admit(scope: Scope, caller: Caller, names: Sequence[str]) -> AbstractContextManager[None]:
            return server.admit(scope, Visit(caller, chosen(names) if names else default))

        gate = Gate(
            server.http_app(),
            hosts=answered_hosts([*settings.allowed_hosts, *_own_names(host)], settings.public_url),
            proxies=networks(settings.trusted_proxies),
            sign_in=house.sign_in.authenticate,
            admit=admit,
        )

        async def drain() -> None:
            gate.stopping = True
            server.end_listening()
            await server.drained(DRAIN_SECONDS)

        def ready() -> None:
            log.info("ready", extra={"address": f"{address_of(listening)}/mcp"})

        await _greet(house, remote=not is_loopback(host))
        async with anyio.create_task_group() as beside:
            beside.start_soon(_sweep, house)
            beside.start_soon(_lead, house)
            await WebServer(gate, ready=ready, drain=drain).run_on(listening)
            beside.cancel_scope.cancel()


def _own_names(host: str) -> Iterable[str]:
    """The address that was asked for, where it is one; not for 'every address of this machine'."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - a comparison
        return ()
    name = f"[{host}]" if ":" in host else host
    return (name, f"{name}:*")


async def _greet(house: House, *, remote: bool) -> None:
    """What the operator should hear at the start: the first key, missing keys, missing TLS."""
    terminal = sys.stderr.isatty()
    key = None
    if house.settings.database_url is None or terminal:
        key = await house.bootstrap.run(local_user(), with_key=terminal)
    if key is not None:
        sys.stderr.write(f"The first owner key of the team 'local', shown this once:\n\n    {key}\n\n")
    elif not (await house.store.read(_local_keys)).items:
        log.warning("there is no key yet; make one: quaymaster keys create --team local --role owner")
    if remote:
        log.warning("other machines can reach this server without TLS: put a proxy with TLS before it")


async def _local_keys(tx: Reading) -> Page[object]:
    page = await tx.keys.of_team(LOCAL, limit=1)
    return Page(list(page.items))


async def _sweep(house: House) -> None:
    """Remove what has had its time; without PostgreSQL the leader of the home does."""
    if house.settings.database_url is not None:
        await _sweep_for_ever(house)


async def _lead(house: House) -> None:
    """What one process of the home does for all: of several servers the one that leads."""
    while not house.workers.lead():  # noqa: ASYNC110  # another process leads; its end sets no event here
        await anyio.sleep(LEAD_SECONDS)
    async with anyio.create_task_group() as beside:
        beside.start_soon(house.databases.lead)
        beside.start_soon(house.backups.lead)
        beside.start_soon(house.branches.lead)
        beside.start_soon(house.promotions.lead)
        beside.start_soon(house.hosting.lead)
        beside.start_soon(house.domains.lead)
        if house.settings.database_url is None:
            beside.start_soon(_sweep_for_ever, house)


async def _sweep_for_ever(house: House) -> None:
    while True:
        try:
            await house.sweeper.run_once(datetime.now(UTC))
        except QuaymasterError as error:
            log.info("sweep put off: %s", error.message)
        await anyio.sleep(SWEEP_SECONDS)


def local_user() -> str:
    """The name of the operating-system user, or its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
