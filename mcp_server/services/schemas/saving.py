"""The backup before a dangerous step: written, restored elsewhere, compared. Only then is it one."""

from __future__ import annotations

import secrets
from datetime import datetime

from mcp_server.domain.errors import Unavailable
from mcp_server.domain.schemas.folders import Folder
from mcp_server.ports.schemas import Backup, Engines, Folders

ATTEMPTS = 3


async def save(
    folders: Folders, engines: Engines, folder: Folder, url: str, shadow_url: str | None, now: datetime
) -> Backup:
    """Raises Unavailable when no backup could be proved; the database is as it was.

    Where others write meanwhile, the copy is compared with the database before or after it was made.
    """
    name = (
        f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}.{'db' if engines.engine_of(url) == 'sqlite' else 'dump'}"
    )
    path = folders.state("backups", folder.name, name)
    before = await engines.fingerprints(url)
    await engines.backup(url, path)
    after = await engines.fingerprints(url)
    try:
        async with engines.scratch(url, shadow_url) as scratch:
            await engines.restore(path, scratch)
            restored = await engines.fingerprints(scratch)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    wrong = [
        table
        for table in sorted(before.keys() & after.keys())
        if before[table] == after[table] and restored.get(table) != before[table]
    ]
    if wrong or not before.keys() & after.keys() <= restored.keys():
        path.unlink(missing_ok=True)
        raise Unavailable(
            f"the backup does not hold what the database does ({', '.join(wrong) or 'tables are missing'})",
            next="Nothing has been changed. Look why, or pass --no-backup.",
        )
    return Backup(path, path.stat().st_size, {table: rows for table, (rows, _) in restored.items()})
