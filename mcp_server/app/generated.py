"""The files that are written from code: `python -m mcp_server.app.generated --write | --check`, in a checkout.

They are docs/settings.md and .env.example (from the settings), docs/tools.md (from the tools), and registry/schemas (from
the records).
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from mcp_server.adapters.registry import schemas
from mcp_server.app.house import open_app
from mcp_server.app.tooling import make_server
from mcp_server.config import load, render_example, render_markdown
from mcp_server.tools.reference import render

SCHEMAS = Path("registry/schemas")


async def tools_page() -> str:
    """The text of docs/tools.md. Neither this machine's settings nor its Docker engine are used."""
    with TemporaryDirectory() as folder:
        environ = {"QUAYMASTER_HOME": folder, "DOCKER_HOST": f"unix://{folder}/no-engine.sock"}
        async with open_app(load(environ, Path(folder))) as house:
            return render(make_server(house).catalogue)


def pages() -> dict[str, str]:
    """Path below the checkout to text; the registry's schemas know for themselves what they are."""
    return {
        ".env.example": render_example(),
        "docs/settings.md": render_markdown(),
        "docs/tools.md": anyio.run(tools_page),
    }


def write(root: Path) -> None:
    for name, text in pages().items():
        (root / name).write_text(text, encoding="utf-8")
    schemas.write(root / SCHEMAS)


def stale(root: Path) -> list[str]:
    """The files that are missing, differ, or are too many."""
    found = [name for name, text in pages().items() if _read(root / name) != text]
    return [*found, *(str(SCHEMAS / name) for name in schemas.differences(root / SCHEMAS))]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def main(arguments: list[str]) -> int:
    root = Path(__file__).resolve().parents[2]
    if arguments == ["--write"]:
        write(root)
        return 0
    if arguments == ["--check"]:
        names = stale(root)
        for name in names:
            sys.stderr.write(f"{name} is not what the code says; run: make generate\n")
        return 1 if names else 0
    sys.stderr.write("usage: python -m mcp_server.app.generated --write | --check\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
