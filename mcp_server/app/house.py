"""The use cases of one installation over one store, and what runs beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio

from mcp_server.adapters.host.disk import HomeDisk
from mcp_server.adapters.host.workers import HomeWorkers
from mcp_server.adapters.project_sql.statements import ProjectFigures, ProjectScripts, ProjectStatements
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.adapters.webhooks.posting import HttpsWebhook
from mcp_server.app.caches import cache_of
from mcp_server.app.databases import databases_of
from mcp_server.app.hosting import domains_of, hosting_of
from mcp_server.app.identity import version
from mcp_server.app.installation_backups import installation_backups_of, kept_secrets_of
from mcp_server.app.stores import store_over
from mcp_server.app.workplace import Workplace, workplace
from mcp_server.config import Settings
from mcp_server.ports.cache import Cache
from mcp_server.ports.keyring import KeyRing
from mcp_server.ports.store import Store
from mcp_server.services.audit import AuditLog
from mcp_server.services.backups.installation import InstallationBackups
from mcp_server.services.backups.service import Backups
from mcp_server.services.bootstrap import Bootstrap
from mcp_server.services.branches import Branches
from mcp_server.services.calls import Calls
from mcp_server.services.conflicts import Conflicts
from mcp_server.services.databases.service import Databases
from mcp_server.services.databases.status import parts_of
from mcp_server.services.deployments.hosting import Hosting
from mcp_server.services.domains import Domains
from mcp_server.services.edge_part import EdgePart
from mcp_server.services.keys import Keys
from mcp_server.services.locks import Locks
from mcp_server.services.members import Members
from mcp_server.services.notifications import Notifications
from mcp_server.services.projects import Projects
from mcp_server.services.promotions.service import Promotions
from mcp_server.services.queries import Queries
from mcp_server.services.secrets_part import SecretsPart
from mcp_server.services.signin import SignIn
from mcp_server.services.staged import Staged
from mcp_server.services.status import Status
from mcp_server.services.sweeper import Sweeper
from mcp_server.services.tasks import Tasks
from mcp_server.services.teams import Teams
from mcp_server.services.templates import Templates
from mcp_server.services.trail import Trail


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
    installation_backups: InstallationBackups
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
    async with store_over(mirror, settings) as (store, keyring):
        trail = Trail(store)
        async with anyio.create_task_group() as beside:
            beside.start_soon(trail.run)
            async with (
                workplace(settings, mirror) as place,
                cache_of(settings, place.site.installation) as cache,
            ):
                house = _furnished(settings, store, keyring, cache, trail, mirror, place)
                house.hosting.rollouts.notifier = house.notifications
                house.hosting.switch_ends.notifier = house.notifications
                async with (
                    house.notifications.open(),
                    house.databases.working(),
                    house.hosting.working(),
                ):
                    yield house
            beside.cancel_scope.cancel()


def _furnished(
    settings: Settings,
    store: Store,
    keyring: KeyRing,
    cache: Cache,
    trail: Trail,
    mirror: RegistryMirror,
    place: Workplace,
) -> House:
    calls = Calls(store, cache, trail, rate_limit=settings.rate_limit)
    databases, backups, branches, promotions = databases_of(settings, store, calls, place)
    hosting = hosting_of(settings, store, calls, place, databases)
    locks = Locks(calls)
    domains = domains_of(settings, store, calls, place)
    disk = HomeDisk(settings.home, vital=settings.database_url is None)
    secrets = SecretsPart(partial(kept_secrets_of, settings, store, place.site.home))
    edge = EdgePart(store, place.edge, hosting.works, place.site.home)
    parts = (disk, *parts_of(databases), secrets, edge)
    return House(
        settings=settings,
        mirror=mirror,
        store=store,
        calls=calls,
        sign_in=SignIn(keyring, cache, trail),
        bootstrap=Bootstrap(calls, prefix=settings.key_prefix),
        status=Status(store, cache, trail, version=version(), parts=parts),
        projects=Projects(
            calls,
            roots=settings.project_roots,
            quota=settings.quota_projects,
            databases=databases,
            base_domain=settings.base_domain,
            let_go=domains.let_go,
            drop_copies=branches.drop_copies,
            tidy=hosting.tidy,
        ),
        tasks=Tasks(calls, quota=settings.quota_tasks),
        locks=locks,
        staged=Staged(locks),
        teams=Teams(calls, prefix=settings.key_prefix),
        members=Members(calls, quota=settings.quota_members),
        keys=Keys(
            calls, prefix=settings.key_prefix, quota=settings.quota_keys, rate_limit=settings.rate_limit
        ),
        audit=AuditLog(calls),
        conflicts=Conflicts(calls),
        sweeper=Sweeper(store, retention_days=settings.audit_retention_days),
        databases=databases,
        backups=backups,
        installation_backups=installation_backups_of(settings, store, databases.parts.sealer, place),
        branches=branches,
        promotions=promotions,
        templates=Templates(databases.parts, databases.holding, ProjectScripts()),
        queries=Queries(databases.parts, ProjectStatements(), ProjectFigures()),
        hosting=hosting,
        domains=domains,
        notifications=Notifications(store, HttpsWebhook(settings.webhook_networks)),
        workers=place.workers,
    )
