"""What goes on by itself, beside the calls."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import pytest

from mcp_server.app import chores
from tests.tools.desk import opened


async def test_a_fault_that_nobody_foresaw_in_one_chore_ends_neither_the_others_nor_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(chores, "AGAIN_SECONDS", 0.01)
    looks: list[str] = []

    async def broken() -> None:
        looks.append("broken")
        raise KeyError("nobody foresaw this")

    async def well() -> None:
        looks.append("well")
        await anyio.sleep_forever()

    async with opened(tmp_path) as desk:
        monkeypatch.setattr(desk.house.branches, "lead", broken)
        monkeypatch.setattr(desk.house.domains, "lead", well)
        async with anyio.create_task_group() as beside:
            beside.start_soon(chores.lead, desk.house)
            with anyio.fail_after(30):
                while looks.count("broken") < 3:
                    await anyio.sleep(0.01)
            await desk.done("create_project", {"name": "shop"})
            beside.cancel_scope.cancel()
    assert looks.count("well") == 1
    told = [row for row in caplog.records if row.levelno == logging.ERROR and "broke off" in row.message]
    assert told
    assert told[0].exc_info
