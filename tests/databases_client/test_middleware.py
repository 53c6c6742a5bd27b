"""What a request meets when a database is there, away, or back."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcp_server.databases import Databases, DatabasesMiddleware, Limits, UnknownDatabase
from tests.services.ports import ReservedPort
from tests.services.postgres import PostgresServer
from tests.services.waiting import wait_until

ROOT = Path(__file__).parents[2]
LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "f"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    sqlite3.connect(path).close()
    path.touch()
    return path


class Application:
    """Counts what comes through."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"]:
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        self.seen.append(dict(scope["state"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"through"})


def _databases(*files: Path, environ: dict[str, str] | None = None) -> Databases:
    urls = {file.stem: file.as_uri() for file in files}
    return Databases(urls, limits=Limits(check_seconds=0.5), environ=environ or {})


async def _get(app: Any, path: str = "/", method: str = "GET") -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as client:
        return await client.request(method, path)


async def test_a_request_passes_with_the_connections_in_its_state(file: Path):
    inner = Application()
    async with _databases(file) as databases:
        assert (await _get(DatabasesMiddleware(inner, databases))).text == "through"
    assert inner.seen == [{"databases": databases, "databases_health": {"a": "healthy"}}]


async def test_on_a_server_a_dead_database_lets_requests_through(tmp_path: Path):
    inner = Application()
    async with _databases(tmp_path / "none.db") as databases:
        assert (await _get(DatabasesMiddleware(inner, databases))).status_code == 200
    assert inner.seen[0]["databases_health"] == {"none": "unhealthy"}


async def test_on_a_serverless_platform_it_is_answered_503_with_retry_after(file: Path, tmp_path: Path):
    inner = Application()
    async with _databases(file, tmp_path / "none.db", environ=LAMBDA) as databases:
        answer = await _get(DatabasesMiddleware(inner, databases))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert answer.json() == {"error": "database unavailable", "databases": ["none"], "retry_after": 30}
    assert inner.seen == []


async def test_the_setting_is_stronger_than_the_platform(tmp_path: Path):
    async with _databases(tmp_path / "none.db", environ=LAMBDA) as databases:
        app = DatabasesMiddleware(Application(), databases, continue_on_failure=True)
        assert (await _get(app)).status_code == 200


async def test_only_the_named_databases_count(file: Path, tmp_path: Path):
    async with _databases(file, tmp_path / "none.db") as databases:
        app = DatabasesMiddleware(Application(), databases, ["a"], continue_on_failure=False)
        assert (await _get(app)).status_code == 200
        with pytest.raises(UnknownDatabase):
            DatabasesMiddleware(Application(), databases, ["b"])


async def test_health_names_each_database_and_no_reason(file: Path, tmp_path: Path):
    async with _databases(file, tmp_path / "none.db") as databases:
        app = DatabasesMiddleware(Application(), databases)
        answer = await _get(app, "/health/db")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert answer.json() == {"status": "unhealthy", "databases": {"a": "healthy", "none": "unhealthy"}}
        assert (await _get(app, "/health/db", "HEAD")).content == b""
        assert (await _get(app, "/health/db", "POST")).status_code == 405
        one = await _get(DatabasesMiddleware(Application(), databases, ["a"]), "/health/db")
        assert (one.status_code, one.json()) == (200, {"status": "healthy", "databases": {"a": "healthy"}})


async def test_a_websocket_is_told_to_come_back_later(tmp_path: Path):
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async with _databases(tmp_path / "none.db", environ=LAMBDA) as databases:
        await DatabasesMiddleware(Application(), databases)({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1013}]


async def test_the_end_of_the_application_closes_the_connections(own_postgres: PostgresServer):
    messages: list[dict[str, str]] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    databases = Databases({"main": own_postgres.url}, environ={})
    app = DatabasesMiddleware(Application(), databases)
    assert (await _get(app)).status_code == 200
    assert _sessions(own_postgres) == 1

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        pass

    await app({"type": "lifespan"}, receive, send)
    await asyncio.to_thread(
        wait_until, lambda: _sessions(own_postgres) == 0, seconds=5, what="closed sessions"
    )


async def test_hooks_of_the_middleware_hear_of_loss_and_return(file: Path):
    heard: list[str] = []
    async with _databases(file) as databases:
        app = DatabasesMiddleware(
            Application(),
            databases,
            continue_on_failure=False,
            check_interval=0,
            on_error=lambda name, error: heard.append(f"{name} lost"),
            on_reconnect=lambda name: heard.append(f"{name} back"),
        )
        assert (await _get(app)).status_code == 200
        away = file.rename(file.with_name("away"))
        assert (await _get(app)).status_code == 503
        away.rename(file)
        until = asyncio.get_running_loop().time() + 10
        while (await _get(app)).status_code == 503:
            assert asyncio.get_running_loop().time() < until
            await asyncio.sleep(0.05)
    assert heard == ["a lost", "a back"]


def test_the_example_runs_and_lives_through_the_loss_of_its_database(
    example: tuple[str, PostgresServer],
):
    url, postgres = example
    assert httpx2.post(f"{url}/apple").status_code == 201
    assert httpx2.get(url).json() == {"orders": 1, "databases": {"shop": "healthy"}}
    postgres.kill()
    for refused in (
        httpx2.post(f"{url}/pear", timeout=20),
        httpx2.get(url),
    ):  # the first after a check that was good
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    assert httpx2.get(f"{url}/health/db").status_code == 503
    postgres.start()
    wait_until(lambda: httpx2.get(f"{url}/health/db").status_code == 200, seconds=30, what="the return")
    assert httpx2.get(url).json()["orders"] == 1


@pytest.fixture
def example(own_postgres: PostgresServer, tmp_path: Path) -> Iterator[tuple[str, PostgresServer]]:
    table = "CREATE TABLE orders (id serial PRIMARY KEY, item text NOT NULL)"
    for statement in (table, "GRANT ALL ON orders, orders_id_seq TO quaymaster"):
        own_postgres.run_as_admin(statement, database="quaymaster")
    log = tmp_path / "log.db"
    connection = sqlite3.connect(log)
    connection.execute("CREATE TABLE events (what TEXT)")
    connection.close()
    port = ReservedPort()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "examples.asgi_app:app", "--port", str(port.number)],
        cwd=ROOT,
        env={**os.environ, "RDS_SHOP_URL": own_postgres.url, "RDS_LOG_URL": log.as_uri()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port.number}"
    try:
        wait_until(lambda: _answers(url), seconds=20, what="the example")
        yield url, own_postgres
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, -signal.SIGTERM)
        port.release()


def _answers(url: str) -> bool:
    try:
        return bool(json.loads(httpx2.get(f"{url}/health/db").content))
    except httpx2.TransportError:
        return False


def _sessions(server: PostgresServer) -> int:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'quaymaster' AND backend_type = 'client backend'"
    return int(server.run_as_admin(sql))
