"""`python -m mcp_server.app.reference --write | --check`: docs/tools.md from the catalogue of a server on an empty home."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from mcp_server.app.house import open_app
from mcp_server.app.tooling import make_server
from mcp_server.config import load
from mcp_server.tools.reference import render

PAGE = Path("docs/tools.md")


async def page() -> str:
    """The text of docs/tools.md. Neither this machine's settings nor its Docker engine are used."""
    with TemporaryDirectory() as folder:
        environ = {"QUAYMASTER_HOME": folder, "DOCKER_HOST": f"unix://{folder}/no-engine.sock"}
        async with open_app(load(environ, Path(folder))) as house:
            return render(make_server(house).catalogue)


def main(arguments: list[str]) -> int:
    if arguments not in (["--write"], ["--check"]):
        sys.stderr.write("usage: python -m mcp_server.app.reference --write | --check\n")
        return 2
    text = anyio.run(page)
    if arguments == ["--write"]:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{PAGE} differs from the tools; run: make generate\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
