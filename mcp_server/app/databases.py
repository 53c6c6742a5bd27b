"""Databases of projects and their backups, out of settings and adapters."""

from __future__ import annotations

from mcp_server.adapters import faults
from mcp_server.adapters.backup_files.scratch import HomeScratch
from mcp_server.adapters.backup_files.sealed import SealedFiles
from mcp_server.adapters.dotenv.blocks import DotenvBlocks
from mcp_server.adapters.host.seats import HomeSeats
from mcp_server.adapters.postgres_projects.logins import AsyncpgLogins
from mcp_server.adapters.project_sql.promotion import SqliteToPostgres
from mcp_server.adapters.project_sql.sums import FileCopies, ProjectSums
from mcp_server.adapters.sealing.aes import AesSealer
from mcp_server.adapters.sealing.keys import setting_and_file
from mcp_server.adapters.sqlite.files import DiskSqliteFiles
from mcp_server.app.workplace import Workplace
from mcp_server.config import Settings
from mcp_server.domain.backups import Retention
from mcp_server.domain.databases import Database, parse_ports
from mcp_server.domain.our_workloads import DATABASE_LIMITS
from mcp_server.domain.workloads import MB
from mcp_server.ports.store import Store
from mcp_server.services.backups.service import Backups
from mcp_server.services.branches import Branches
from mcp_server.services.calls import Calls
from mcp_server.services.databases.options import Options
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.service import Databases
from mcp_server.services.promotions.service import Promotions


def databases_of(
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
        starts=settings.database_starts,
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
        seats=HomeSeats(settings.home),
        sealer=AesSealer(setting_and_file(settings.encryption_key(), settings.home)),
        site=place.site,
        options=options,
        step=faults.at,
    )

    async def final_backup(database: Database) -> str:
        return await backups.final(database)

    async def drop_branches(database: Database) -> None:
        await branches.drop_of(database)

    databases = Databases(parts, final_backup=final_backup, drop_branches=drop_branches)
    holding = databases.holding
    files = SealedFiles(settings.home / "backups", parts.sealer)
    copies, scratch = FileCopies(), HomeScratch(settings.home / "scratch")
    backups = Backups(
        parts,
        holding,
        files,
        ProjectSums(),
        copies,
        scratch,
        retention=Retention(most=settings.backup_keep, days=settings.backup_days),
        hours=settings.backup_hours,
    )
    branches = Branches(parts, holding, backups, copies, most_bytes=settings.branch_megabytes * MB)
    promotions = Promotions(parts, holding, backups, SqliteToPostgres(), files, copies, scratch)
    return databases, backups, branches, promotions
