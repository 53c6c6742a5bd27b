"""1,000 migrations from empty, and the status of 1,000 applied, beside Alembic and a bare loop: whole processes, in turn."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Row, median
from tests.services.postgres import ADMIN, PostgresServer

COUNT = 1000
ROUNDS = 3
LOOKS = 5
ENV = """\
from alembic import context
from sqlalchemy import create_engine
import os

with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=os.environ.get("EACH") == "1")
    with context.begin_transaction():
        context.run_migrations()
"""
Environment = Mapping[str, str]


async def measure() -> list[Row]:
    with PostgresServer() as postgres, TemporaryDirectory(prefix="qm-bench-") as name:
        root = Path(name)
        _write(root)
        return [*_from_empty(postgres, root), *_status(root, postgres)]


def _from_empty(postgres: PostgresServer, root: Path) -> list[Row]:
    took: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        for runner, run in RUNNERS.items():
            url = _database(postgres, f"{runner}_{number}")
            took.setdefault(runner, []).append(_timed(run, "up", root, url))
    return _rows(f"{COUNT} migrations from empty", took)


def _status(root: Path, postgres: PostgresServer) -> list[Row]:
    took: dict[str, list[float]] = {}
    for _ in range(LOOKS):
        for runner, run in RUNNERS.items():
            url = postgres.url_of(f"{runner}_0", role=ADMIN)
            took.setdefault(runner, []).append(_timed(run, "status", root, url))
    del took["alembic_each"]
    return _rows(f"status of {COUNT} applied", took)


def _rows(what: str, took: Mapping[str, list[float]]) -> list[Row]:
    """Ours beside each of the others. Only Alembic's usual run puts all of them into one transaction."""
    middle = {runner: median(times) for runner, times in took.items()}
    names = {
        "alembic": "Alembic",
        "alembic_each": "Alembic, a transaction each",
        "raw": "bare loop of asyncpg",
    }
    return [
        Row(
            what,
            f"{middle['ours']:.2f} s",
            f"{names[other]} {middle[other]:.2f} s",
            round(middle["ours"] / middle[other], 2),
            data={"ours": took["ours"], "theirs": took[other]},
        )
        for other in middle
        if other != "ours"
    ]


def _ours(action: str, root: Path, url: str) -> tuple[list[str], Environment]:
    kind = ["deploy", "--no-countdown"] if action == "up" else ["status"]
    return ["mcp_server", "db", "migrate", "-d", "app", "-t", *kind], {"RDS_APP_URL": url}


def _raw(action: str, root: Path, url: str) -> tuple[list[str], Environment]:
    return ["benchmarks.raw_migrations", action, str(root / "db" / "app" / "migrations"), url], {}


def _alembic(action: str, root: Path, url: str) -> tuple[list[str], Environment]:
    arguments = ["upgrade", "head"] if action == "up" else ["current"]
    return ["alembic", *arguments], {"DATABASE_URL": url.replace("postgresql:", "postgresql+psycopg:")}


def _alembic_each(action: str, root: Path, url: str) -> tuple[list[str], Environment]:
    arguments, environment = _alembic(action, root, url)
    return arguments, {**environment, "EACH": "1"}


RUNNERS: dict[str, Callable[[str, Path, str], tuple[list[str], Environment]]] = {
    "raw": _raw,
    "alembic": _alembic,
    "ours": _ours,
    "alembic_each": _alembic_each,
}


def _timed(
    run: Callable[[str, Path, str], tuple[list[str], Environment]], action: str, root: Path, url: str
) -> float:
    arguments, environment = run(action, root, url)
    checkout = str(Path(__file__).resolve().parents[1])
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": checkout, **environment},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - began


def _database(postgres: PostgresServer, name: str) -> str:
    postgres.create_database(name)
    return postgres.url_of(name, role=ADMIN)


def _write(root: Path) -> None:
    """The same statements for each: every tenth makes a table, the others add a column to it."""
    versions = root / "versions" / "versions"
    versions.mkdir(parents=True)
    (root / "versions" / "env.py").write_text(ENV)
    (root / "alembic.ini").write_text("[alembic]\nscript_location = versions\n")
    for number in range(COUNT):
        sql = f"ALTER TABLE t{number // 10} ADD COLUMN c{number} integer"
        if number % 10 == 0:
            sql = f"CREATE TABLE t{number // 10} (id integer PRIMARY KEY)"
        folder = root / "db" / "app" / "migrations" / f"{number + 1:014d}_step"
        folder.mkdir(parents=True)
        (folder / "up.sql").write_text(f"{sql};\n")
        (folder / "down.sql").write_text("SELECT 1;\n")
        before = "None" if number == 0 else f'"r{number - 1:04d}"'
        (versions / f"r{number:04d}.py").write_text(
            f'revision = "r{number:04d}"\ndown_revision = {before}\n\nfrom alembic import op\n\n\n'
            f"def upgrade():\n    op.execute({sql!r})\n"
        )
