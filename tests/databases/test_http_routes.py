"""The plain HTTP routes of databases, by a real server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.wire import make_key
from tests.databases.conftest import free_range
from tests.services.engine import DockerEngine
from tests.services.processes import ServerProcess, run_quaymaster


@pytest.fixture
def settings(engine: DockerEngine, image: Callable[[str], str]) -> dict[str, str]:
    ports = free_range(4)
    return {
        "DOCKER_HOST": engine.address,
        "QUAYMASTER_POSTGRES_IMAGE": image("postgres"),
        "QUAYMASTER_DATABASE_PORTS": f"{ports.start}-{ports.stop - 1}",
        "QUAYMASTER_WARM_POOL": "0",
    }


@pytest.fixture
def server(home: Path, engine: DockerEngine, settings: dict[str, str]) -> Iterator[ServerProcess]:
    with ServerProcess.serve("--toolsets", "all", home=home, settings=settings) as opened:
        yield opened
    engine.clear((home / "home.json").read_text().split('"home":"')[1].split('"')[0])


def client(server: ServerProcess, key: str) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def test_the_routes_speak_of_providers_and_states_and_delete_by_a_plan(
    server: ServerProcess, home: Path, settings: dict[str, str]
) -> None:
    key = make_key(home, **settings)
    project = f"shop-{secrets.token_hex(4)}"
    place = f"/api/projects/{project}/database"
    with httpx2.Client(base_url=server.url) as stranger:
        for method, path in (
            ("GET", "/api/database/status"),
            ("GET", place),
            ("POST", place),
            ("DELETE", place),
        ):
            assert stranger.request(method, path).status_code == 401
    with client(server, key) as http:
        found = http.get("/api/database/status?refresh=true").json()
        assert found["docker"]["available"] is True
        assert found["docker"]["version"]
        assert found["defaultProvider"] == "postgres_docker"
        assert http.post(place).status_code == 404
        make_project(http, project)
        made = http.post(place, json={"provider": "postgres_docker"})
        assert made.status_code == 201
        body: dict[str, Any] = made.json()
        assert (body["provider"], body["status"]) == ("postgres_docker", "running")
        assert body["containerId"] == f"quaymaster-db-{project}"
        assert "********" in body["url"]
        assert "********" not in http.get(f"{place}?reveal=true").json()["url"]
        assert http.post(f"{place}/stop").status_code == 204
        assert http.get(place).json()["status"] == "stopped"
        assert http.post(f"{place}/start").json()["status"] == "running"
        planned = http.delete(place)
        assert (planned.status_code, planned.json()["status"]) == (202, "planned")
        token = planned.json()["plan_token"]
        assert http.delete(f"{place}?plan_token=wrong").status_code == 409
        assert http.delete(f"{place}?plan_token={token}").status_code == 204
        assert http.get(place).status_code == 404
        assert http.post(place, content=b"{").status_code == 400
        assert http.post(place, json={"engine": "oracle"}).status_code == 400


def make_project(http: httpx2.Client, name: str) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    arguments = {"name": "create_project", "arguments": {"name": name}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": arguments}
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "create_project",
    }
    assert http.post("/mcp?toolsets=all", json=message, headers=headers).status_code == 200


def test_without_an_engine_the_status_says_why_and_what_is_made_then(home: Path, tmp_path: Path) -> None:
    settings = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    with (
        ServerProcess.serve("--toolsets", "all", home=home, settings=settings) as server,
        client(server, make_key(home, **settings)) as http,
    ):
        found = http.get("/api/database/status").json()
        assert found["docker"]["available"] is False
        assert "Docker" in found["docker"]["error"]
        assert found["defaultProvider"] == "sqlite"
        make_project(http, "shop")
        made = http.post("/api/projects/shop/database").json()
        assert (made["provider"], made["status"]) == ("sqlite", "running")
        assert "no Docker socket" in made["fallback"]


def test_doctor_says_what_is_missing_and_how_to_get_it(home: Path, tmp_path: Path) -> None:
    settings = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    done = run_quaymaster("doctor", home=home, settings=settings)
    assert done.returncode == 0, done.stdout
    line = next(line for line in done.stdout.splitlines() if "Docker" in line)
    assert line.startswith("note")
    assert "SQLite" in done.stdout
    assert "set DOCKER_HOST" in done.stdout
