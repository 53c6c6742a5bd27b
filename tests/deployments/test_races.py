"""Many callers over two servers of one home: one wins, the others hear who and since when."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.deployments.conftest import Harbour
from tests.deployments.truth import told_truly
from tests.tools.desk import Desk

CALLS = 6


async def all_at_once(desks: list[Desk], tool: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []

    async def one(desk: Desk) -> None:
        result = await desk.call(tool, arguments)
        answers.append({"error": result.is_error, **dict(result.structured_content or {})})

    async with anyio.create_task_group() as group:
        for number in range(CALLS):
            group.start_soon(one, desks[number % len(desks)])
    return answers


@pytest.mark.timeout(300)
async def test_of_many_deploys_and_promotes_at_one_time_one_wins_and_the_others_are_told_who(
    harbour: Harbour, rounds
) -> None:
    async with harbour.server() as one, harbour.server() as two:
        await one.done("create_project", {"name": harbour.project})
        for number in range(rounds(2, 10)):
            deploys = await all_at_once(
                [one, two], "deploy_project", harbour.deploy("demo-v2" if number % 2 else "demo")
            )
            won = [each for each in deploys if not each["error"]]
            assert len(won) == 1, deploys
            assert won[0]["status"] == "success"
            for each in deploys:
                if each["error"]:
                    assert (each["code"], each["by"], each["deployment"]) == ("CONFLICT", "ann", won[0]["id"])
                    assert each["since"]
            promotes = await all_at_once([one, two], "promote", {"project": harbour.project})
            won = [each for each in promotes if not each["error"]]
            assert len(won) == 1, promotes
            assert {each["code"] for each in promotes if each["error"]} == {"CONFLICT"}
            await told_truly(one, harbour)
            assert harbour.version() == ("v2" if number % 2 else "v1")


@pytest.mark.timeout(300)
async def test_environments_deployed_at_one_time_get_ports_of_their_own(harbour: Harbour) -> None:
    async with harbour.server() as one, harbour.server() as two:
        await one.done("create_project", {"name": harbour.project})
        made: list[dict[str, Any]] = []

        async def deploy(desk: Desk, environment: str) -> None:
            made.append(await desk.done("deploy_project", harbour.deploy(environment=environment)))

        async with anyio.create_task_group() as group:
            for desk, environment in ((one, "production"), (two, "staging"), (one, "preview")):
                group.start_soon(deploy, desk, environment)
        assert [(each["status"], each["error"]) for each in made] == [("success", None)] * 3
        for environment, own in harbour.ports.items():
            arguments = {"project": harbour.project, "environment": environment}
            assert (await two.done("slot_status", arguments))["blue"]["port"] in own
