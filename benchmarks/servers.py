"""Starting the servers to measure, and clients of them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(arguments: list[str], port: int, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """A server of our own on a loopback port; ends with the block. Yields its process id."""
    running = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if time.monotonic() > deadline or running.poll() is not None:
                raise RuntimeError(f"{arguments} did not start")
            time.sleep(0.05)
        yield running.pid
    finally:
        running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextmanager
def yardstick(url: str | None = None) -> Iterator[int]:
    """The echo server; yields its port. With `url` behind a verifier that asks PostgreSQL."""
    port = free_port()
    with process(["-m", "benchmarks.yardstick", "http", str(port), *([url] if url else [])], port):
        yield port


def environment(home: Path, url: str | None) -> dict[str, str]:
    found = {
        "QUAYMASTER_HOME": str(home),
        "QUAYMASTER_RATE_LIMIT": "1000000",
        "QUAYMASTER_QUOTA_PROJECTS": "1000000",
    }
    found["QUAYMASTER_TOOLSETS"] = "all"
    return found | ({"QUAYMASTER_DATABASE_URL": url} if url else {})


@contextmanager
def quaymaster(
    url: str | None, home: Path, more: Mapping[str, str] | None = None
) -> Iterator[tuple[int, str]]:
    """A served Quaymaster; yields its port and an owner key."""
    settings = environment(home, url) | dict(more or {})
    made = subprocess.run(
        [sys.executable, "-m", "mcp_server", "keys", "create", "--team", "local", "--role", "owner"],
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise RuntimeError(made.stderr)
    port = free_port()
    with process(["-m", "mcp_server", "serve", "--port", str(port)], port, settings):
        yield port, made.stdout.strip()


@contextmanager
def new_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qm-bench-") as folder:
        yield Path(folder) / "home"


@asynccontextmanager
async def http_client(port: int, key: str = "none") -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key}"}
    limits = httpx2.Limits(max_connections=200, max_keepalive_connections=200)
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, limits=limits) as http,
        Client(streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)) as client,
    ):
        await client.list_tools()
        yield client


@asynccontextmanager
async def stdio_client(
    arguments: list[str], settings: Mapping[str, str] | None = None
) -> AsyncIterator[Client]:
    parameters = StdioServerParameters(
        command=sys.executable, args=arguments, cwd=ROOT, env={**os.environ, **(settings or {})}
    )
    async with Client(parameters) as client:
        await client.list_tools()
        yield client
