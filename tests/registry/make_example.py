"""Writes `registry/example`, the small home of the documentation: `python -m tests.registry.make_example`."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.ports.store import Intent
from tests.registry.samples import Clock, key, lock, project, row, task, team

EXAMPLE = Path(__file__).resolve().parents[2] / "registry" / "example"
HOME = "00000000-0000-4000-8000-000000000001"


async def make(root: Path) -> None:
    """A team, a project and a key inside a snapshot; a task and a lock in the journal behind it."""
    clock = Clock()
    mirror = await RegistryMirror.open(root, clock=clock, home=HOME)

    async def first(tx: Any) -> None:
        await tx.teams.add(team("local", name="Local"))
        await tx.projects.add(project("shop", "local"))
        await tx.keys.add(key("key-1", text="an example", team_id="local", role="owner"))
        await tx.audit.add(row("audit-1", team_id="local", action="create_project", resource="project"))

    async def second(tx: Any) -> None:
        await tx.tasks.add(task("task-1", team_id="local", title="Sell tea"))
        await tx.locks.add(lock("lock-1", "src/tea.py", "key-1/agent:ann", team_id="local", task_id="task-1"))
        await tx.audit.add(row("audit-2", clock(), team_id="local", action="lock_files", resource="lock"))

    await mirror.run(first, Intent("create_project", "key-1"), line_id="line-1", pending=False)
    clock.forward(minutes=1)
    await mirror.compact()
    await mirror.run(second, Intent("lock_files", "key-1"), line_id="line-2", pending=False)
    mirror.close()
    for path in [*root.glob("*.lock"), *root.glob("*.turn")]:
        path.unlink()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "home"
        asyncio.run(make(root))
        shutil.rmtree(EXAMPLE, ignore_errors=True)
        EXAMPLE.mkdir(parents=True)
        for path in root.iterdir():
            (EXAMPLE / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
