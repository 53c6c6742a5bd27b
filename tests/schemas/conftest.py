"""A code base with one database, on each engine, driven through the same composition as the command line."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mcp_server import app
from mcp_server.config import Settings, load
from mcp_server.domain.schemas.folders import Folder
from mcp_server.domain.schemas.migrations import Applied
from mcp_server.services.schemas.databases import Databases
from tests.services.postgres import ADMIN, PostgresServer


class Bench(NamedTuple):
    """`root` holds db/app; `environ` names its address."""

    root: Path
    environ: dict[str, str]
    engine: str
    url: str

    @property
    def folder(self) -> Path:
        return self.root / "db" / "app"

    def databases(self, environment: str = "development") -> Databases:
        return app.code_databases(self.root, self.environ, environment, self.settings, owner="the test")

    def settings(self) -> Settings:
        return load({"QUAYMASTER_HOME": str(self.home), "DOCKER_HOST": f"unix://{self.home}.sock"}, self.root)

    @property
    def home(self) -> Path:
        return self.root.with_name(f"{self.root.name}-home")

    def one(self) -> Folder:
        [folder] = self.databases().chosen(["app"])
        return folder

    def migration(self, label: str, up: str | bytes, down: str | None = None) -> None:
        path = self.folder / "migrations" / label
        path.mkdir(parents=True, exist_ok=True)
        (path / "up.sql").write_bytes(up if isinstance(up, bytes) else up.encode())
        if down is not None:
            (path / "down.sql").write_text(down, encoding="utf-8")

    def schema(self, text: str) -> None:
        (self.folder / "schema.sql").write_text(text, encoding="utf-8")

    async def deploy(self, **how: Any) -> tuple[str, ...]:
        return await self.databases().deploy(self.one(), tell=lambda label: None, **how)

    async def rows(self, sql: str) -> tuple[tuple[Any, ...], ...]:
        return (await self.databases().execute(self.one(), sql, write=False)).rows

    async def write(self, sql: str) -> None:
        await self.databases().execute(self.one(), sql, write=True)

    async def ledger(self) -> tuple[Applied, ...]:
        databases = self.databases()
        async with databases.ground.session(self.one()) as session:
            return await session.ledger()


def bench_at(root: Path, engine: str, url: str) -> Bench:
    (root / "db" / "app").mkdir(parents=True)
    (root / "db" / "app" / "database.toml").write_text(f'engine = "{engine}"\nlock_wait = 2\n')
    return Bench(root, {"RDS_APP_URL": url}, engine, url)


@pytest.fixture
def sqlite_bench(tmp_path: Path) -> Bench:
    return bench_at(tmp_path, "sqlite", f"sqlite:///{tmp_path}/app.db")


@pytest.fixture
def postgres_bench(tmp_path: Path, postgres: PostgresServer) -> Iterator[Bench]:
    """As the superuser, who may make shadow databases."""
    name = f"s_{uuid.uuid4().hex}"
    postgres.create_database(name)
    try:
        yield bench_at(tmp_path, "postgres", postgres.url_of(name, role=ADMIN))
    finally:
        postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgres"])
def bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(f"{request.param}_bench")
    return found
