"""Backups of Quaymaster itself, out of settings and adapters."""

from __future__ import annotations

from mcp_server.adapters import faults
from mcp_server.adapters.backup_files.scratch import HomeScratch
from mcp_server.adapters.backup_files.sealed import SealedFiles
from mcp_server.adapters.registry.copies import RegistryArchives
from mcp_server.adapters.sealing.aes import AesSealer
from mcp_server.adapters.sealing.keys import setting_and_file
from mcp_server.app.workplace import Workplace
from mcp_server.config import Settings
from mcp_server.domain.installation_backups import address_of
from mcp_server.ports.installation_backups import ControlPlane
from mcp_server.ports.sealing import Sealer
from mcp_server.ports.store import Store
from mcp_server.services.backups.installation import InstallationBackups
from mcp_server.services.backups.installation_restores import InstallationRestores
from mcp_server.services.resealing import Resealing


def installation_backups_of(
    settings: Settings, store: Store, sealer: Sealer, place: Workplace
) -> InstallationBackups:
    scratch = HomeScratch(settings.home / "scratch")
    archives, control_plane = RegistryArchives(settings.home), _control_plane(settings, place)
    return InstallationBackups(
        store,
        place.workers,
        place.site,
        SealedFiles(settings.home / "backups", sealer),
        scratch,
        InstallationRestores(scratch, archives, control_plane, faults.at),
        archives,
        control_plane,
        hours=settings.backup_hours,
        step=faults.at,
    )


def installation_restores_of(settings: Settings, place: Workplace) -> InstallationRestores:
    """What needs no store."""
    scratch = HomeScratch(settings.home / "scratch")
    return InstallationRestores(scratch, RegistryArchives(settings.home), _control_plane(settings, place))


def _control_plane(settings: Settings, place: Workplace) -> ControlPlane | None:
    """None where the registry is the store."""
    if settings.database_url is None:
        return None
    from mcp_server.adapters.control_plane.database import ControlPlaneDatabase
    from mcp_server.adapters.control_plane.programs import ProgramsOfVersion
    from mcp_server.adapters.project_sql.sums import postgres_tables

    url = settings.database_url.get_secret_value()
    address, owner = address_of(url), place.site.owner()
    programs = ProgramsOfVersion(address, place.engine, owner, settings.postgres_image, place.workers.me)
    return ControlPlaneDatabase(url, address, programs, postgres_tables, place.workers.alive)


def kept_secrets_of(settings: Settings, store: Store, home: str) -> Resealing:
    """With the keys as they are now: a sealer remembers what it has read, also when the file is lost."""
    sealer = AesSealer(setting_and_file(settings.encryption_key(), settings.home))
    return Resealing(store, sealer, SealedFiles(settings.home / "backups", sealer), home)
