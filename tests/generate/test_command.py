"""`quaymaster db generate` and `db studio` as commands."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "db" / "shop").mkdir(parents=True)
    schema = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);"
    (tmp_path / "db" / "shop" / "schema.sql").write_text(schema)
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.execute(schema)
    connection.close()
    return tmp_path


def command(project: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mcp_server", "db", *arguments, "-d", "shop"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "RDS_SHOP_URL": "file:shop.db"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_check_ends_with_3_until_the_client_is_written(project: Path):
    codes = []
    for arguments in (["--check"], [], ["--check"]):
        process = command(project, "generate", *arguments)
        process.communicate(timeout=60)
        codes.append(process.returncode)
    assert codes == [3, 0, 0]
    assert (project / "db" / "shop" / "client" / "users.py").exists()


def test_the_studio_prints_an_address_that_works_and_ends_cleanly(project: Path):
    process = command(project, "studio")
    try:
        assert process.stderr is not None
        entrance = process.stderr.readline().split()[1]
        assert entrance.startswith("http://127.0.0.1:")
        assert httpx2.get(entrance, timeout=20).status_code == 303
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
