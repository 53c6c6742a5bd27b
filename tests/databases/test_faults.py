"""A real server is killed at every named step; the next start leaves nothing behind and tells the truth."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.wire import call, receive, send
from tests.databases.conftest import free_range
from tests.databases.yards import run_on
from tests.services.engine import DockerEngine
from tests.services.processes import ServerProcess
from tests.services.waiting import wait_until

KILLED = -9
COLD = ["reserved", "prepared", "created", "started", "ready", "made"]


@dataclass
class Berth:
    """A home whose servers come and go. `shop` and `web` are its projects' names."""

    home: Path
    engine: DockerEngine
    settings: dict[str, str]
    mark: str
    opened: list[ServerProcess] = field(default_factory=list)

    @property
    def shop(self) -> str:
        return f"shop-{self.mark}"

    @property
    def web(self) -> str:
        return f"web-{self.mark}"

    def server(self, fault: str = "", **more: str) -> ServerProcess:
        settings = {**self.settings, **more, **({"QUAYMASTER_FAULT": f"{fault}:KILL"} if fault else {})}
        opened = ServerProcess.stdio("--toolsets", "all", home=self.home, settings=settings)
        self.opened.append(opened)
        return opened

    @property
    def installation(self) -> str:
        found: dict[str, Any] = json.loads((self.home / "home.json").read_text())
        return str(found["home"])

    def things(self) -> list[str]:
        return self.engine.things(self.installation)

    def dies(self, fault: str, tool: str, /, **arguments: Any) -> None:
        """The call reaches the step, and the server is killed there."""
        with self.server(fault) as server:
            ask(server, "create_project", name=self.shop)
            send(server, call(9, tool, **arguments))
            assert server.wait_ended(60) == KILLED

    def settled(self, server: ServerProcess, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, seconds=45, what=what)


def ask(server: ServerProcess, tool: str, /, **arguments: Any) -> dict[str, Any]:
    """The structured content of a call, be it a refusal."""
    send(server, call(1, tool, **arguments))
    found: dict[str, Any] = receive(server)["result"]["structuredContent"]
    return found


@pytest.fixture
def berth(
    home: Path, engine: DockerEngine, image: Callable[[str], str], request: pytest.FixtureRequest
) -> Iterator[Berth]:
    mark, ports = secrets.token_hex(4), free_range(12)
    made = Berth(
        home,
        engine,
        {
            "DOCKER_HOST": engine.address,
            "QUAYMASTER_POSTGRES_IMAGE": image("postgres"),
            "QUAYMASTER_POSTGRES_VECTOR_IMAGE": image("postgres"),
            "QUAYMASTER_DATABASE_PORTS": f"{ports.start}-{ports.stop - 1}",
            "QUAYMASTER_WARM_POOL": "0",
        },
        mark,
    )
    yield made
    for server in made.opened:
        server.close()
    engine.clear(made.installation)


def answers(url: str) -> bool:
    return bool(asyncio.run(run_on(url, "SELECT 1")))


@pytest.mark.parametrize("step", COLD)
def test_a_creation_that_dies_leaves_nothing(berth: Berth, step: str) -> None:
    berth.dies(f"databases.create.{step}", "create_database", project=berth.shop, engine="postgres")
    with berth.server() as server:
        berth.settled(server, lambda: nothing(berth, server), "nothing to be left")
        made = ask(server, "create_database", project=berth.shop, engine="postgres")
        assert made["state"] == "running"
        assert answers(ask(server, "get_database", project=berth.shop, reveal=True)["url"])


def test_a_creation_that_dies_after_it_settled_stands(berth: Berth) -> None:
    berth.dies("databases.create.settled", "create_database", project=berth.shop, engine="postgres")
    with berth.server() as server:
        assert ask(server, "get_database", project=berth.shop)["state"] == "running"
        assert answers(ask(server, "get_database", project=berth.shop, reveal=True)["url"])


@pytest.mark.parametrize("step", ["create.fell_back", "create.file", "left.removed"])
def test_a_fallback_that_dies_leaves_nothing(berth: Berth, image: Callable[[str], str], step: str) -> None:
    berth.settings["QUAYMASTER_POSTGRES_IMAGE"] = image("busybox")
    berth.dies(f"databases.{step}", "create_database", project=berth.shop)
    with berth.server() as server:
        berth.settled(server, lambda: berth.things() == [], "the engine to be empty")
        berth.settled(server, lambda: ask(server, "list_databases")["items"] == [], "the record to be gone")
        assert not list((berth.home / "databases").rglob("*.db"))
        assert ask(server, "create_database", project=berth.shop)["engine"] == "sqlite"


@pytest.mark.parametrize("step", ["databases.create.given_up", "databases.left.removed"])
def test_giving_up_is_ended_by_the_next_start(berth: Berth, image: Callable[[str], str], step: str) -> None:
    berth.settings["QUAYMASTER_POSTGRES_IMAGE"] = image("busybox")
    berth.dies(step, "create_database", project=berth.shop, engine="postgres")
    with berth.server() as server:
        berth.settled(server, lambda: nothing(berth, server), "nothing to be left")


@pytest.mark.parametrize("step", ["renamed", "password"])
def test_a_claim_that_dies_leaves_nothing_of_the_standby(berth: Berth, step: str) -> None:
    berth.settings["QUAYMASTER_WARM_POOL"] = "1"
    with berth.server() as server:
        ask(server, "create_project", name=berth.web)
        assert ask(server, "create_database", project=berth.web, engine="postgres")["state"] == "running"
        berth.settled(server, lambda: warm(server) == "1 of 1 ready", "a standby")
    berth.dies(f"databases.claim.{step}", "create_database", project=berth.shop, engine="postgres")
    with berth.server() as server:
        berth.settled(
            server,
            lambda: [each["project"] for each in ask(server, "list_databases")["items"]] == [berth.web],
            "the claim to be undone",
        )
        berth.settled(server, lambda: warm(server) == "1 of 1 ready", "another standby")
        containers = [thing for thing in berth.things() if thing.startswith("container")]
        assert len(containers) == 2
        assert answers(ask(server, "get_database", project=berth.web, reveal=True)["url"])
        volumes = [thing for thing in berth.things() if thing.startswith("volume")]
        assert len(volumes) == 2


def nothing(berth: Berth, server: ServerProcess) -> bool:
    return berth.things() == [] and ask(server, "list_databases")["items"] == []


def warm(server: ServerProcess) -> str | None:
    parts = ask(server, "infrastructure_status")["parts"]
    found: str | None = next(part["reason"] for part in parts if part["name"] == "warm_pool")
    return found


@pytest.mark.parametrize("step", ["reserved", "created", "made"])
def test_a_standby_whose_making_dies_is_cleared_and_made_anew(berth: Berth, step: str) -> None:
    with berth.server(f"databases.pool.{step}", QUAYMASTER_WARM_POOL="1") as server:
        ask(server, "create_project", name=berth.shop)
        send(server, call(9, "create_database", project=berth.shop, engine="postgres"))
        assert server.wait_ended(60) == KILLED
    with berth.server(QUAYMASTER_WARM_POOL="1") as server:
        berth.settled(server, lambda: warm(server) == "1 of 1 ready", "a standby")
        assert len([thing for thing in berth.things() if thing.startswith("volume")]) == 2
        assert ask(server, "get_database", project=berth.shop)["state"] == "running"


@pytest.mark.parametrize("step", ["noted", "removed", "forgotten"])
def test_a_deletion_that_dies_is_ended_by_the_next_start(berth: Berth, step: str) -> None:
    with berth.server() as server:
        ask(server, "create_project", name=berth.shop)
        ask(server, "create_database", project=berth.shop, engine="postgres")
        token = ask(server, "delete_database", project=berth.shop, final_backup=False)["plan_token"]
    berth.dies(
        f"databases.delete.{step}",
        "delete_database",
        project=berth.shop,
        final_backup=False,
        plan_token=token,
    )
    with berth.server() as server:
        berth.settled(server, lambda: berth.things() == [], "the engine to be empty")
        berth.settled(server, lambda: ask(server, "list_databases")["items"] == [], "the record to be gone")


@pytest.mark.parametrize("step", ["noted", "altered", "settled"])
def test_a_rotation_that_dies_ends_with_a_password_that_works(berth: Berth, step: str) -> None:
    with berth.server() as server:
        ask(server, "create_project", name=berth.shop)
        ask(server, "create_database", project=berth.shop, engine="postgres")
        before = ask(server, "get_database", project=berth.shop, reveal=True)["url"]
    berth.dies(f"databases.rotate.{step}", "rotate_database_password", project=berth.shop)
    with berth.server() as server:

        def rotated() -> bool:
            return bool(ask(server, "get_database", project=berth.shop, reveal=True)["url"] != before)

        berth.settled(server, rotated, "the rotation to end")
        assert answers(ask(server, "get_database", project=berth.shop, reveal=True)["url"])
        with pytest.raises(Exception, match="password authentication failed"):
            answers(before)


def test_every_named_step_of_databases_is_among_these() -> None:
    source = "\n".join(
        path.read_text()
        for path in (Path(__file__).resolve().parents[2] / "mcp_server/services/databases").glob("*.py")
    )
    known = Path(__file__).read_text()
    steps = {part.split('"')[0] for part in source.split('_step("databases.')[1:]}
    unshared = {step for step in steps if not step.startswith(("shared.", "start.", "delete.backed_up"))}
    for step in unshared:
        assert step in known or f'"{step.partition(".")[2]}"' in known, step
