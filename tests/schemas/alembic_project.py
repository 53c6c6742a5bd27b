"""An Alembic project as its authors write one: alembic.ini, env.py (of the usual kind, or an async one), revisions."""

from pathlib import Path

INI = """\
[alembic]
script_location = %(here)s/migrations
prepend_sys_path = .
sqlalchemy.url = driver://user:pass@localhost/dbname
"""
ENV = """\
from alembic import context
from sqlalchemy import engine_from_config, pool

config = context.config


def run() -> None:
    engine = engine_from_config(config.get_section(config.config_ini_section), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=None)
        with context.begin_transaction():
            context.run_migrations()


print("env.py was run")
run()
"""
ASYNC_ENV = """\
import asyncio

from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import async_engine_from_config

config = context.config


def run(connection) -> None:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    engine = async_engine_from_config(config.get_section(config.config_ini_section), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(main())
"""
REVISION = '''\
"""{message}"""

import os
import signal

import sqlalchemy as sa
from alembic import op

revision = "{version}"
down_revision = {down}
branch_labels = None
depends_on = None


def upgrade() -> None:
{up}


def downgrade() -> None:
{back}
'''


class AlembicProject:
    def __init__(self, home: Path, env: str = ENV) -> None:
        self._home = home
        (home / "migrations" / "versions").mkdir(parents=True)
        (home / "alembic.ini").write_text(INI, encoding="utf-8")
        self.env(env)

    def env(self, text: str) -> None:
        (self._home / "migrations" / "env.py").write_text(text, encoding="utf-8")

    def revision(
        self, version: str, message: str, down: str | tuple[str, ...] | None, up: str, back: str = "pass"
    ) -> Path:
        """`up` and `back` are lines of Python."""
        path = self._home / "migrations" / "versions" / f"{version}_{message.replace(' ', '_')}.py"
        body = [text.replace("\n", "\n    ") for text in (up, back)]
        path.write_text(
            REVISION.format(
                version=version, message=message, down=repr(down), up=f"    {body[0]}", back=f"    {body[1]}"
            ),
            encoding="utf-8",
        )
        return path

    def three_revisions(self) -> None:
        self.revision(
            "a1",
            "make users",
            None,
            'op.create_table("users", sa.Column("id", sa.Integer, primary_key=True))',
            'op.drop_table("users")',
        )
        self.revision(
            "b2",
            "give users names",
            "a1",
            'op.add_column("users", sa.Column("name", sa.Text))\nop.execute("INSERT INTO users VALUES (1, \'ann\')")',
            'op.drop_column("users", "name")',
        )
        self.revision(
            "c3",
            "make posts",
            "b2",
            'op.create_table("posts", sa.Column("id", sa.Integer, primary_key=True))',
            'op.drop_table("posts")',
        )
