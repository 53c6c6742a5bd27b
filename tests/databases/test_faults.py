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
WHOLE = pytest.mark.soak
COLD = [
    "databases.create.reserved",
    pytest.param("databases.create.prepared", marks=WHOLE),
    "databases.create.created",
    pytest.param("databases.create.started", marks=WHOLE),
    pytest.param("databases.create.ready", marks=WHOLE),
    "databases.create.made",
]


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
    berth.dies(step, "create_database", project=berth.shop, engine="postgres")
    with berth.server() as server:
        berth.settled(server, lambda: nothing(berth, server), "nothing to be left")
        made = ask(server, "create_database", project=berth.shop, engine="postgres")
        assert made.get("state") == "running", made
        assert answers(ask(server, "get_database", project=berth.shop, reveal=True)["url"])


@pytest.mark.parametrize("step", ["databases.create.settled"])
def test_a_creation_that_dies_after_it_settled_stands(berth: Berth, step: str) -> None:
    berth.dies(step, "create_database", project=berth.shop, engine="postgres")
    with berth.server() as server:
        assert ask(server, "get_database", project=berth.shop)["state"] == "running"
        assert answers(ask(server, "get_database", project=berth.shop, reveal=True)["url"])


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("databases.create.reserved", marks=WHOLE),
        "databases.create.file",
        pytest.param("databases.create.made", marks=WHOLE),
    ],
)
def test_a_file_whose_creation_dies_goes_and_can_be_made_anew(berth: Berth, step: str) -> None:
    berth.dies(step, "create_database", project=berth.shop, engine="sqlite")
    with berth.server() as server:
        berth.settled(server, lambda: nothing(berth, server), "nothing to be left")
        assert not list((berth.home / "databases").rglob("*.db*"))
        assert ask(server, "create_database", project=berth.shop, engine="sqlite")["state"] == "running"


@pytest.mark.parametrize(
    "step",
    [
        "databases.create.fell_back",
        pytest.param("databases.create.file", marks=WHOLE),
        pytest.param("databases.left.removed", marks=WHOLE),
    ],
)
def test_a_fallback_that_dies_leaves_nothing(berth: Berth, image: Callable[[str], str], step: str) -> None:
    berth.settings["QUAYMASTER_POSTGRES_IMAGE"] = image("busybox")
    berth.dies(step, "create_database", project=berth.shop)
    with berth.server() as server:
        berth.settled(server, lambda: berth.things() == [], "the engine to be empty")
        berth.settled(server, lambda: ask(server, "list_databases")["items"] == [], "the record to be gone")
        assert not list((berth.home / "databases").rglob("*.db"))
        assert ask(server, "create_database", project=berth.shop)["engine"] == "sqlite"


@pytest.mark.parametrize(
    "step", [pytest.param("databases.create.given_up", marks=WHOLE), "databases.left.removed"]
)
def test_giving_up_is_ended_by_the_next_start(berth: Berth, image: Callable[[str], str], step: str) -> None:
    berth.settings["QUAYMASTER_POSTGRES_IMAGE"] = image("busybox")
    berth.dies(step, "create_database", project=berth.shop, engine="postgres")
    with berth.server() as server:
        berth.settled(server, lambda: nothing(berth, server), "nothing to be left")


@pytest.mark.parametrize(
    "step", ["databases.claim.renamed", pytest.param("databases.claim.password", marks=WHOLE)]
)
def test_a_claim_that_dies_leaves_nothing_of_the_standby(berth: Berth, step: str) -> None:
    berth.settings["QUAYMASTER_WARM_POOL"] = "1"
    with berth.server() as server:
        ask(server, "create_project", name=berth.web)
        assert ask(server, "create_database", project=berth.web, engine="postgres")["state"] == "running"
        berth.settled(server, lambda: warm(server) == "1 of 1 ready", "a standby")
    berth.dies(step, "create_database", project=berth.shop, engine="postgres")
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


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("databases.pool.reserved", marks=WHOLE),
        "databases.pool.created",
        pytest.param("databases.pool.made", marks=WHOLE),
    ],
)
def test_a_standby_whose_making_dies_is_cleared_and_made_anew(berth: Berth, step: str) -> None:
    with berth.server(step, QUAYMASTER_WARM_POOL="1") as server:
        ask(server, "create_project", name=berth.shop)
        send(server, call(9, "create_database", project=berth.shop, engine="postgres"))
        assert server.wait_ended(60) == KILLED
    with berth.server(QUAYMASTER_WARM_POOL="1") as server:
        berth.settled(server, lambda: warm(server) == "1 of 1 ready", "a standby")
        assert len([thing for thing in berth.things() if thing.startswith("volume")]) == 2
        assert ask(server, "get_database", project=berth.shop)["state"] == "running"


@pytest.mark.parametrize(
    "step",
    [
        "databases.delete.noted",
        "databases.delete.removed",
        pytest.param("databases.delete.forgotten", marks=WHOLE),
    ],
)
def test_a_deletion_that_dies_is_ended_by_the_next_start(berth: Berth, step: str) -> None:
    with berth.server() as server:
        ask(server, "create_project", name=berth.shop)
        ask(server, "create_database", project=berth.shop, engine="postgres")
        token = ask(server, "delete_database", project=berth.shop, final_backup=False)["plan_token"]
    berth.dies(step, "delete_database", project=berth.shop, final_backup=False, plan_token=token)
    with berth.server() as server:
        berth.settled(server, lambda: berth.things() == [], "the engine to be empty")
        berth.settled(server, lambda: ask(server, "list_databases")["items"] == [], "the record to be gone")


@pytest.mark.parametrize(
    ("engine_kind", "step"),
    [
        pytest.param("sqlite", "databases.delete.noted", marks=WHOLE),
        pytest.param("sqlite", "databases.delete.backed_up", marks=WHOLE),
        pytest.param("sqlite", "databases.delete.removed", marks=WHOLE),
        pytest.param("postgres", "databases.delete.noted", marks=WHOLE),
        ("postgres", "databases.delete.backed_up"),
    ],
)
def test_a_deletion_that_dies_keeps_one_final_backup_that_comes_back(
    berth: Berth, engine_kind: str, step: str
) -> None:
    with berth.server() as server:
        ask(server, "create_project", name=berth.shop)
        ask(server, "create_database", project=berth.shop, engine=engine_kind)
        write(server, berth, "CREATE TABLE kept AS SELECT 7 AS n")
        token = ask(server, "delete_database", project=berth.shop)["plan_token"]
    berth.dies(step, "delete_database", project=berth.shop, plan_token=token)
    with berth.server() as server:
        berth.settled(server, lambda: nothing(berth, server), "the deletion to end")
        (backup,) = ask(server, "list_backups")["items"]
        assert (backup["reason"], backup["state"]) == ("deletion", "verified")
        ask(server, "create_database", project=berth.shop, engine=engine_kind)
        plan = ask(server, "restore_database", backup_id=backup["id"], project=berth.shop)["plan_token"]
        done = ask(server, "restore_database", backup_id=backup["id"], project=berth.shop, plan_token=plan)
        assert done.get("status") == "done", done
        assert rows(server, berth, "SELECT n FROM kept") == [[7]]


@pytest.mark.parametrize("step", ["databases.start.created"])
def test_a_server_whose_making_anew_dies_starts_on_its_data(berth: Berth, step: str) -> None:
    with berth.server() as server:
        ask(server, "create_project", name=berth.shop)
        made = ask(server, "create_database", project=berth.shop, engine="postgres")
        write(server, berth, "CREATE TABLE kept AS SELECT 7 AS n")
    berth.engine.ask("DELETE", f"/containers/{made['container']}?force=1")
    berth.dies(step, "start_database", project=berth.shop)
    with berth.server() as server:
        assert ask(server, "get_database", project=berth.shop)["state"] != "running"
        started = ask(server, "start_database", project=berth.shop)
        assert started.get("state") == "running", started
        assert rows(server, berth, "SELECT n FROM kept") == [[7]]
        assert answers(ask(server, "get_database", project=berth.shop, reveal=True)["url"])
        assert len(berth.things()) == 3


def write(server: ServerProcess, berth: Berth, sql: str) -> None:
    done = ask(server, "query_database", project=berth.shop, sql=sql, write=True)
    assert done.get("status") == "done", done


def rows(server: ServerProcess, berth: Berth, sql: str) -> Any:
    found = ask(server, "query_database", project=berth.shop, sql=sql)
    return found.get("rows", found)


# -- on the shared server


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("databases.shared.prepared", marks=WHOLE),
        pytest.param("databases.shared.created", marks=WHOLE),
        "databases.shared.up",
    ],
)
def test_a_shared_server_whose_making_dies_is_cleared_and_made_anew(berth: Berth, step: str) -> None:
    berth.settings["QUAYMASTER_DATABASE_ISOLATION"] = "shared"
    berth.dies(step, "create_database", project=berth.shop, engine="postgres")
    with berth.server() as server:
        berth.settled(server, lambda: nothing(berth, server), "nothing to be left")
        assert ask(server, "create_database", project=berth.shop, engine="postgres")["state"] == "running"
        assert answers(ask(server, "get_database", project=berth.shop, reveal=True)["url"])


@pytest.mark.parametrize(
    ("step", "tool"),
    [
        pytest.param("databases.create.prepared", "create_database", marks=WHOLE),
        ("databases.create.created", "create_database"),
        pytest.param("databases.create.ready", "create_database", marks=WHOLE),
        pytest.param("databases.delete.noted", "delete_database", marks=WHOLE),
        pytest.param("databases.delete.removed", "delete_database", marks=WHOLE),
    ],
)
def test_work_that_dies_on_the_shared_server_leaves_its_neighbour_and_nothing_else(
    berth: Berth, step: str, tool: str
) -> None:
    berth.settings["QUAYMASTER_DATABASE_ISOLATION"] = "shared"
    arguments: dict[str, Any] = {"engine": "postgres"}
    with berth.server() as server:
        for project in (berth.shop, berth.web):
            ask(server, "create_project", name=project)
        assert ask(server, "create_database", project=berth.web, engine="postgres")["state"] == "running"
        if tool == "delete_database":
            ask(server, "create_database", project=berth.shop, engine="postgres")
            arguments = {"final_backup": False}
            token = ask(server, tool, project=berth.shop, **arguments)["plan_token"]
            arguments["plan_token"] = token
    berth.dies(step, tool, project=berth.shop, **arguments)
    with berth.server() as server:
        url = ask(server, "get_database", project=berth.web, reveal=True)["url"]
        berth.settled(server, lambda: on_shared(url) == (1, 2), "the neighbour to be alone")
        berth.settled(server, lambda: listed(server) == [(berth.web, "running")], "the record to be gone")
        assert ask(server, "create_database", project=berth.shop, engine="postgres")["state"] == "running"
        assert on_shared(url) == (2, 4)


def listed(server: ServerProcess) -> list[tuple[str, str]]:
    return [(one["project"], one["state"]) for one in ask(server, "list_databases")["items"]]


def on_shared(url: str) -> tuple[int, int]:
    """How many databases and roles of projects the server has."""
    sql = (
        r"SELECT (SELECT count(*) FROM pg_database WHERE datname LIKE 'db\_%') AS databases,"
        r" (SELECT count(*) FROM pg_roles WHERE rolname ~ '^[ur]_') AS roles"
    )
    (row,) = asyncio.run(run_on(url, sql))
    return row["databases"], row["roles"]


# -- passwords


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("databases.rotate.noted", marks=WHOLE),
        "databases.rotate.altered",
        pytest.param("databases.rotate.settled", marks=WHOLE),
    ],
)
def test_a_rotation_that_dies_ends_with_a_password_that_works(berth: Berth, step: str) -> None:
    with berth.server() as server:
        ask(server, "create_project", name=berth.shop)
        ask(server, "create_database", project=berth.shop, engine="postgres")
        before = ask(server, "get_database", project=berth.shop, reveal=True)["url"]
    berth.dies(step, "rotate_database_password", project=berth.shop)
    with berth.server() as server:

        def rotated() -> bool:
            return bool(ask(server, "get_database", project=berth.shop, reveal=True)["url"] != before)

        berth.settled(server, rotated, "the rotation to end")
        assert answers(ask(server, "get_database", project=berth.shop, reveal=True)["url"])
        with pytest.raises(Exception, match="password authentication failed"):
            answers(before)
