"""The least that a migration runner does, as dbmate does it: read files, one transaction each, one row each.

python -m benchmarks.raw_migrations up|status FOLDER DATABASE_URL
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncpg


async def main(action: str, paths: list[Path], url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS schema_migrations (version text PRIMARY KEY)")
        applied = {row["version"] for row in await connection.fetch("SELECT version FROM schema_migrations")}
        for path in paths:
            version = path.name.partition("_")[0]
            if version in applied or action == "status":
                continue
            async with connection.transaction():
                await connection.execute((path / "up.sql").read_text(encoding="utf-8"))
                await connection.execute("INSERT INTO schema_migrations (version) VALUES ($1)", version)
        print(len(applied))
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sorted(Path(sys.argv[2]).iterdir()), sys.argv[3]))
