"""`quaymaster serve` as a process: who is let in, what is open, how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx2
import pytest

from tests.acceptance.wire import ERAS, META, done, make_key, over_http, refused, request
from tests.services.processes import (
    ServerProcess,
    quaymaster_command,
    quaymaster_environment,
    run_quaymaster,
)

HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
LIST = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def key(home: Path) -> str:
    return make_key(home)


@pytest.fixture(scope="module")
def server(home: Path, key: str) -> Iterator[ServerProcess]:
    settings = {
        "QUAYMASTER_ALLOWED_HOSTS": "quay.example",
        "QUAYMASTER_PUBLIC_URL": "https://public.example/quay",
        "QUAYMASTER_TRUSTED_PROXIES": "127.0.0.1",
        "QUAYMASTER_LOG_FORMAT": "json",
    }
    with ServerProcess.serve(home=home, settings=settings) as running:
        yield running


def post(server: ServerProcess, query: str = "", **headers: str) -> httpx2.Response:
    named = HEADERS | LIST | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.post(f"{server.url}/mcp{query}", json=request(1, "tools/list"), headers=named, timeout=30)


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_of_either_era_works_with_its_key(server, key, era):
    async with over_http(server, key, era=era) as client:
        assert client.protocol_version == {"auto": "2026-07-28", "legacy": "2025-11-25"}[era]
        await done(client, "create_project", name=f"shop-{era}")
        assert (await done(client, "get_project", name=f"shop-{era}"))["name"] == f"shop-{era}"
        assert (await refused(client, "get_project", name="none"))["code"] == "NOT_FOUND"


def test_a_key_is_taken_as_bearer_and_as_x_api_key(server, key):
    assert post(server, authorization=f"Bearer {key}").status_code == 200
    assert post(server, authorization=f"bearer {key}").status_code == 200
    assert post(server, x_api_key=key).status_code == 200


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer no-key"}, {"authorization": "Basic eDp5"}, {"x_api_key": "no"}]
)
def test_without_a_good_key_the_answer_is_401_and_says_how_to_send_one(server, headers):
    answer = post(server, **headers, x_forwarded_for="192.0.2.1")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["code"] == "UNAUTHENTICATED"
    assert "Authorization: Bearer" in answer.json()["next"]


def test_a_path_that_does_not_exist_asks_for_a_key_first(server, key):
    assert httpx2.get(f"{server.url}/api/none").status_code == 401
    assert httpx2.get(f"{server.url}/api/none", headers={"x-api-key": key}).status_code == 404


def test_failed_attempts_are_limited_by_the_clients_address_and_not_the_proxys(server, key):
    def attempt(address: str) -> int:
        return post(server, x_api_key="qm_local_owner_" + "x" * 24, x_forwarded_for=address).status_code

    statuses = [attempt("198.51.100.7, 127.0.0.1") for _ in range(25)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert attempt("198.51.100.8") == 401
    assert attempt("1.2.3.4, 198.51.100.7") == 429, "what a stranger says of others does not count"
    assert post(server, x_api_key=key).status_code == 200


def test_forwarding_headers_of_a_stranger_are_not_believed(tmp_path):
    with ServerProcess.serve(home=tmp_path) as server:
        wrong = "qm_local_owner_" + "x" * 24
        statuses = [
            post(server, x_api_key=wrong, x_forwarded_for=f"198.51.100.{number}").status_code
            for number in range(25)
        ]
        assert statuses[-1] == 429


@pytest.mark.parametrize("path", ["/mcp", "/health", "/metrics", "/none"])
@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("quay.example", True),
        ("public.example", True),
        ("localhost:1", True),
        ("quay.example:81", False),
    ],
)
def test_only_known_hosts_are_answered_on_every_route(server, path, host, answered):
    status = httpx2.get(f"{server.url}{path}", headers={"host": host}).status_code
    assert (status != 421) == answered


def test_a_page_of_another_origin_is_refused(server, key):
    assert post(server, x_api_key=key, origin="https://evil.example").status_code == 403
    assert post(server, x_api_key=key, origin="https://public.example").status_code == 200


def test_toolsets_are_chosen_in_the_address(server, key):
    answer = post(server, "?toolsets=audit,system", x_api_key=key).json()
    names = [tool["name"] for tool in answer["result"]["tools"]]
    assert names == ["infrastructure_status", "list_conflicts", "resolve_conflict", "query_audit"]
    assert post(server, "?toolsets=none", x_api_key=key).status_code == 400
    assert post(server, "?toolsets=", x_api_key=key).status_code == 400


@pytest.mark.parametrize("path", ["/health", "/api/health"])
def test_health_says_the_parts_without_a_key_and_without_reasons(server, home, path):
    answer = httpx2.get(f"{server.url}{path}")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["mode"]) == ("healthy", "embedded")
    stores = {"registry": "healthy", "postgresql": "off", "cache": "healthy", "trail": "healthy"}
    assert stores.items() <= body["parts"].items()
    assert body["parts"]["edge"] == "off", "nothing is deployed yet"
    assert str(home) not in answer.text


def test_metrics_count_calls_by_tool_and_outcome(server, key):
    post(server, x_api_key=key)
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    params = {"name": "get_project", "arguments": {"name": 'none"}\n'}, "_meta": META}
    httpx2.post(
        f"{server.url}/mcp",
        json=call | {"params": params},
        headers=HEADERS | LIST | {"mcp-method": "tools/call", "mcp-name": "get_project", "x-api-key": key},
    )
    text = httpx2.get(f"{server.url}/metrics").text
    assert 'quaymaster_calls_total{tool="get_project",outcome="INVALID"}' in text
    assert 'quaymaster_store_mode{mode="embedded"} 1' in text


def test_log_lines_are_json_and_hold_no_key(server, key):
    lines = [json.loads(line) for line in server.stderr.splitlines()]
    assert any(line["message"] == "ready" and line["address"].endswith("/mcp") for line in lines)
    assert key not in server.stderr


@pytest.mark.parametrize("era", ERAS)
async def test_a_running_call_is_answered_before_the_server_stops(tmp_path, era):
    key = make_key(tmp_path)
    answers = []
    with ServerProcess.serve(home=tmp_path) as server:
        async with over_http(server, key, era=era) as client:
            await done(client, "create_project", name="shop")
            await done(client, "lock_files", project="shop", paths=["a"], agent="bo")

            async def wait() -> None:
                arguments = {"project": "shop", "paths": ["a"], "agent": "cy", "wait_seconds": 3}
                answers.append(await refused(client, "lock_files", **arguments))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.sleep(
                    0.5
                )  # the call has begun when it waits: there is nothing to see from outside
                os.kill(server.pid, signal.SIGTERM)
                await anyio.sleep(0.5)
                async with httpx2.AsyncClient() as http:
                    with pytest.raises(httpx2.ConnectError):
                        await http.get(f"{server.url}/health")
            assert [answer["code"] for answer in answers] == ["LOCKED"]
        assert await anyio.to_thread.run_sync(server.wait_ended, 20) == 0
        assert "Traceback" not in server.stderr


async def test_an_open_subscription_does_not_hold_up_the_stop(tmp_path):
    key = make_key(tmp_path)
    with ServerProcess.serve(home=tmp_path) as server:
        async with over_http(server, key) as client, client.listen(tools_list_changed=True):
            os.kill(server.pid, signal.SIGTERM)
            assert await anyio.to_thread.run_sync(server.wait_ended, 4) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once_with_exit_code_0(tmp_path, number):
    with ServerProcess.serve(home=tmp_path) as server:
        os.kill(server.pid, number)
        assert server.wait_ended(5) == 0


CALLED_BY_NAME = "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: "


@pytest.mark.parametrize(
    "head",
    [
        "mcp-protocol-version: 2025-11-25\r\n",
        f"{CALLED_BY_NAME}create_task\r\n",
        f"{CALLED_BY_NAME}lock_files\r\n",
        f"{CALLED_BY_NAME}deploy_project\r\n",
    ],
)
def test_a_client_that_goes_away_within_its_request_is_no_failure_of_the_server(tmp_path, head):
    key = make_key(tmp_path)
    with ServerProcess.serve(home=tmp_path, settings={"QUAYMASTER_LOG_LEVEL": "debug"}) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(
                f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\nauthorization: Bearer {key}\r\n{head}"
                "accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n"
                'content-length: 1000\r\n\r\n{"jsonrpc": "2.0", '.encode()
            )
        server.wait_for_stderr("a client went away in the middle of its request")
        assert server.terminate() == 0
    assert "Traceback" not in server.stderr
    assert "ERROR" not in server.stderr


def test_another_address_than_loopback_needs_a_word(tmp_path):
    ended = run_quaymaster("serve", "--host", "0.0.0.0", "--port", "0", home=tmp_path)
    assert ended.returncode == 2
    assert "--allow-remote" in ended.stderr
    with ServerProcess.serve("--host", "0.0.0.0", "--allow-remote", home=tmp_path) as server:
        server.wait_for_stderr("without TLS")


def test_the_first_start_without_a_terminal_says_how_to_make_a_key(tmp_path):
    with ServerProcess.serve(home=tmp_path) as server:
        server.wait_for_stderr("keys create --team local --role owner")
        assert "qm_local" not in server.stderr
        answer = post(server, x_api_key=make_key(tmp_path))
        assert answer.status_code == 200, "a key made beside a running server is good at once"


def test_the_first_start_on_a_terminal_shows_an_owner_key_once(tmp_path):
    shown = on_terminal("serve", "--port", "0", home=tmp_path)
    [key] = re.findall(r"qm_local_owner_[\w-]{24}", shown)
    assert "qm_local" not in on_terminal("serve", "--port", "0", home=tmp_path)
    with ServerProcess.serve(home=tmp_path) as server:
        assert post(server, x_api_key=key).status_code == 200


def on_terminal(*arguments: str, home: Path) -> str:
    """What a server says on a terminal until it is ready; then it is stopped."""
    reading, writing = os.openpty()
    process = subprocess.Popen(
        quaymaster_command(*arguments), env=quaymaster_environment(home), cwd=home, stderr=writing
    )
    os.close(writing)
    said = b""
    while b"ready" not in said:
        said += os.read(reading, 4096)
    process.terminate()
    assert process.wait(20) == 0
    os.close(reading)
    return said.decode()


def test_a_port_that_is_taken_is_a_sentence(tmp_path):
    with ServerProcess.serve(home=tmp_path) as server:
        ended = run_quaymaster("serve", "--port", str(server.port), home=tmp_path)
        assert ended.returncode == 2
        assert f"cannot listen on 127.0.0.1 port {server.port}" in ended.stderr
        assert "Traceback" not in ended.stderr
