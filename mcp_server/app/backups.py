"""Backups of Quaymaster itself, as the command line makes, lists, proves and restores them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

from mcp_server.adapters.backup_files.sealed import SealedFiles
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.adapters.sealing.aes import AesSealer
from mcp_server.adapters.sealing.keys import setting_and_file
from mcp_server.app.house import open_app
from mcp_server.app.installation_backups import installation_restores_of
from mcp_server.app.workplace import workplace
from mcp_server.config import Settings
from mcp_server.domain.backups import SUFFIX, Backup
from mcp_server.domain.errors import Invalid, NotFound
from mcp_server.domain.installation_backups import Contents, Own, file_name
from mcp_server.ports.backups import BackupFiles
from mcp_server.services.backups.installation_restores import InstallationRestores


async def backup_create(settings: Settings, subjects: Sequence[Own]) -> Sequence[Backup]:
    """One proved backup of each; of none: of all that there are."""
    async with open_app(settings) as house:
        backups = house.installation_backups
        return [await backups.create(subject) for subject in subjects or backups.subjects]


async def backup_list(settings: Settings) -> tuple[Sequence[Backup], Sequence[str]]:
    """All backups of this home, and the names of files of which no record speaks."""
    async with open_app(settings) as house:
        backups = house.installation_backups
        return await backups.list(), await backups.unknown()


async def backup_verify(settings: Settings, backup: str) -> str:
    """What was proved, in a sentence; `backup` is an id or a file. Raises Corrupt."""
    if not backup.endswith(SUFFIX):
        async with open_app(settings) as house:
            kept = await house.installation_backups.verify(backup)
            how = "restored and compared" if kept.subject != "database" else "opened to its end"
            return f"{kept.id} is what was written: {how}"
    async with _restores(settings) as restores:
        contents = await restores.prove(*_file(settings, backup))
        return f"{contents.id} is what was written: restored and compared"


async def backup_restore(
    settings: Settings, backup: str, *, home: Path | None, database: str | None
) -> Contents:
    """As a new home (an absolute path) or a new database. No store is opened: that may be what is lost."""
    name, files = _file(settings, backup)
    async with _restores(settings) as restores:
        if home is not None:
            return await restores.registry(name, files, str(home))
        if database is not None:
            return await restores.control_plane(name, files, database)
    raise Invalid("say where it goes", next="Name a new home or a new database.")


@asynccontextmanager
async def _restores(settings: Settings) -> AsyncIterator[InstallationRestores]:
    mirror = await RegistryMirror.open(settings.home)
    try:
        async with workplace(settings, mirror) as place:
            yield installation_restores_of(settings, place)
    finally:
        mirror.close()


def _file(settings: Settings, backup: str) -> tuple[str, BackupFiles]:
    """A file by its path, or one of this home by its id."""
    sealer = AesSealer(setting_and_file(settings.encryption_key(), settings.home))
    path = Path(backup)
    if not backup.endswith(SUFFIX):
        here = (settings.home / "backups" / file_name(subject, backup) for subject in get_args(Own))
        found = next((path for path in here if path.exists()), None)
        if found is None:
            raise NotFound(
                "this home keeps no such backup of Quaymaster itself",
                next="quaymaster backup list shows them; restore_database restores those of projects.",
            )
        path = found
    return path.name, SealedFiles(path.parent, sealer)
