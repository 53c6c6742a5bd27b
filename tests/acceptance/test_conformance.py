"""The official conformance suite and the inspector against the real server, behind its gate."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.acceptance.wire import make_key
from tests.services.node_tools import NodeTools
from tests.services.ports import ReservedPort
from tests.services.processes import CHECKOUT, ServerProcess, quaymaster_environment
from tests.services.waiting import wait_until

FIXTURES = CHECKOUT / "tests" / "acceptance" / "conformance_server.py"


@contextlib.contextmanager
def fixture_server(home: Path) -> Iterator[str]:
    """The address of the endpoint."""
    key, port = make_key(home), ReservedPort()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(FIXTURES), str(port.number), key],
        env=quaymaster_environment(home),
        cwd=home,
    )
    url = f"http://127.0.0.1:{port.number}"
    try:
        wait_until(lambda: _answers(f"{url}/health"), seconds=30, what="the server")
        yield f"{url}/mcp"
    finally:
        process.terminate()
        assert process.wait(20) == 0
        port.release()


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return httpx2.get(url).status_code == 200
    return False


def run(command: list[str], tools: NodeTools, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=tools.environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize("requirements", ["2025-11-25", "2026-07-28"])
def test_the_official_suite_passes(tmp_path, node_tools, requirements):
    with fixture_server(tmp_path) as url:
        arguments = ("server", "--url", url, "--requirements", requirements, "-o", str(tmp_path / "out"))
        ended = run(node_tools.conformance(*arguments), node_tools, tmp_path)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    checks = [
        check for path in (tmp_path / "out").rglob("checks.json") for check in json.loads(path.read_text())
    ]
    assert sum(check["status"] == "SUCCESS" for check in checks) >= 60


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_the_inspector_finds_no_fault_with_any_schema(tmp_path, node_tools, era):
    key = make_key(tmp_path)
    with ServerProcess.serve("--toolsets", "all", home=tmp_path) as server:
        target = [
            "--transport",
            "http",
            "--server-url",
            f"{server.url}/mcp",
            "--header",
            f"Authorization: Bearer {key}",
        ]
        common = [*target, "--protocol-era", era, "--format", "json"]
        listed = run(
            node_tools.inspector(*common, "--method", "tools/list", "--strict"), node_tools, tmp_path
        )
        assert listed.returncode == 0, listed.stdout + listed.stderr
        create = ["--method", "tools/call", "--tool-name", "create_project", "--tool-arg", "name=shop"]
        assert run(node_tools.inspector(*common, *create), node_tools, tmp_path).returncode == 0
        missing = ["--method", "tools/call", "--tool-name", "get_project", "--tool-arg", "name=none"]
        assert run(node_tools.inspector(*common, *missing), node_tools, tmp_path).returncode == 5
        read = ["--method", "resources/read", "--uri", "quaymaster://projects/shop"]
        assert run(node_tools.inspector(*common, *read), node_tools, tmp_path).returncode == 0
