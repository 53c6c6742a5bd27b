"""Databases with a server of their own, on a real engine."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import asyncpg
import pytest

from mcp_server.domain.databases import PortAllocation
from mcp_server.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    PlanStale,
    QuaymasterError,
    QuotaExceeded,
    Unavailable,
)
from mcp_server.domain.workloads import Owner, Ref, Volume
from tests.databases.conftest import MakeYard, free_range
from tests.databases.yards import EVE, SET_UP, VIC, Yard, run_on
from tests.services.engine import DockerEngine


async def nothing_left(yard: Yard, engine: DockerEngine, owner: Owner) -> None:
    assert engine.things(owner.installation) == []
    assert await yard.records() == []
    assert await yard.ports() == []
    assert await yard.servers() == []


async def test_a_created_database_takes_a_login_and_a_deleted_one_leaves_nothing(
    yard: Yard, engine: DockerEngine, owner: Owner
) -> None:
    made = await yard.create()
    assert (made.engine, made.state, made.isolation) == ("postgres", "running", "container")
    assert "********" in made.url
    url = await yard.url()
    assert [tuple(row) for row in await run_on(url, "SELECT current_user, current_database()")] == [
        ("app", "app")
    ]
    done = await yard.delete()
    assert done.status == "done"
    await nothing_left(yard, engine, owner)


async def test_what_the_engine_shows_holds_no_password_and_is_on_loopback_with_least_rights(
    yard: Yard, engine: DockerEngine
) -> None:
    made = await yard.create()
    password = (await yard.url()).split(":")[2].split("@")[0]
    shown = engine.find(f"/containers/{made.container}/json")
    assert password not in json.dumps(shown)
    host = shown["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Memory"], host["PidsLimit"]) == (512 * 1024 * 1024, 200)
    assert [one["HostIp"] for one in host["PortBindings"]["5432/tcp"]] == ["127.0.0.1"]
    processes = json.dumps(engine.ask("GET", f"/containers/{made.container}/top"))
    assert password not in processes
    assert shown["Config"]["Labels"]["quaymaster.project"] == "p-shop"


async def test_concurrent_calls_make_one_database(yard: Yard, engine: DockerEngine, owner: Owner) -> None:
    views = await asyncio.gather(*(yard.create() for _ in range(8)))
    assert len({view.address for view in views}) == 1
    assert len(engine.containers(owner.installation)) == 1
    assert len(await yard.ports()) == 1


async def test_a_repeated_key_answers_with_the_same_database_and_a_plain_repeat_too(yard: Yard) -> None:
    first = await yard.create(key="k")
    assert (await yard.create(key="k")).address == first.address
    assert (await yard.create()).address == first.address
    with pytest.raises(Conflict, match="it is on postgres"):
        await yard.create(engine="sqlite")


async def test_the_password_is_shown_to_members_who_ask_and_to_nobody_else(yard: Yard) -> None:
    await yard.create()
    assert "********" in (await yard.get(caller=VIC)).url
    with pytest.raises(Forbidden):
        await yard.get(caller=VIC, reveal=True)
    with pytest.raises(NotFound):
        await yard.get(caller=EVE)
    assert "********" not in await yard.url()


async def test_a_stopped_database_keeps_its_port_and_its_data(yard: Yard) -> None:
    first = await yard.create()
    await run_on(await yard.url(), "CREATE TABLE kept AS SELECT 7 AS n")
    stopped = await yard.ask("stop_database", project="shop")
    assert stopped.state == "stopped"
    assert (await yard.ask("list_databases")).items[0].state == "stopped"
    with pytest.raises(ConnectionRefusedError):
        await run_on(await yard.url(), "SELECT 1")
    started = await yard.ask("start_database", project="shop")
    assert (started.state, started.address) == ("running", first.address)
    assert [row["n"] for row in await run_on(await yard.url(), "SELECT n FROM kept")] == [7]


async def test_a_rotated_password_works_and_the_old_one_does_not(yard: Yard, tmp_path: Path) -> None:
    await yard.add_project("web", str(tmp_path))
    (tmp_path / ".env").write_text("A=1\n# mine\nB='x y'")
    await yard.create("web")
    old = await yard.url("web")
    text = (tmp_path / ".env").read_text()
    assert text.startswith("A=1\n# mine\nB='x y'\n")
    assert f'DATABASE_URL="{old}"' in text
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    await yard.ask("rotate_database_password", project="web")
    new = await yard.url("web")
    assert new != old
    assert await run_on(new, "SELECT 1")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await run_on(old, "SELECT 1")
    assert f'DATABASE_URL="{new}"' in (tmp_path / ".env").read_text()
    await yard.delete("web")
    assert (tmp_path / ".env").read_text() == "A=1\n# mine\nB='x y'\n"


async def test_a_container_that_is_gone_is_told_and_made_anew_on_its_data_with_a_new_password(
    yard: Yard, engine: DockerEngine
) -> None:
    made = await yard.create()
    old = await yard.url()
    await run_on(old, "CREATE TABLE kept AS SELECT 7 AS n")
    engine.ask("DELETE", f"/containers/{made.container}?force=1")
    assert (await yard.get()).state == "error"
    assert (await yard.ask("start_database", project="shop")).state == "running"
    new = await yard.url()
    assert new != old
    assert [row["n"] for row in await run_on(new, "SELECT n FROM kept")] == [7]


async def test_a_volume_that_outlived_its_record_is_taken_over_and_a_failure_leaves_it(
    make_yard: MakeYard, engine: DockerEngine, owner: Owner
) -> None:
    yard: Yard = await make_yard()
    made = await yard.create()
    await run_on(await yard.url(), "CREATE TABLE kept AS SELECT 7 AS n")
    record = await yard.record()
    assert record is not None
    engine.ask("DELETE", f"/containers/{made.container}?force=1")
    await forget(yard)
    failing: Yard = await make_yard(image="quaymaster-test/busybox:1", ready_seconds=3)
    with pytest.raises(QuaymasterError):
        await failing.create(engine="postgres")
    assert [thing for thing in engine.things(owner.installation) if thing.startswith("volume")]
    assert (await yard.create()).state == "running"
    assert [row["n"] for row in await run_on(await yard.url(), "SELECT n FROM kept")] == [7]


async def forget(yard: Yard) -> None:
    """As a registry that was restored from before the creation."""

    async def transaction(tx) -> None:
        record = await tx.databases.hold(f"{yard.named('shop')}/all")
        await tx.databases.remove(record)
        await tx.ports.remove(await tx.ports.hold(f"{record.host}/{record.place.port}"))

    await yard.store.run(transaction, SET_UP)


async def test_the_volume_and_the_container_of_another_installation_are_never_touched(
    yard: Yard, orchestrator, engine: DockerEngine, owner: Owner
) -> None:
    other = owner.change(home="another-home")
    volume = Volume(name=f"qt-{yard.mark}-data-{yard.named('shop')}", owner=other)
    await orchestrator.ensure_volume(volume)
    made = await yard.create(engine="postgres")
    assert (made.engine, made.fallback) == ("postgres", None)
    await yard.databases.recovery.run()
    await yard.delete()
    assert engine.things(owner.installation) == [f"volume {volume.name}"]


async def test_a_port_taken_between_probe_and_start_is_left_for_another(
    make_yard: MakeYard, engine: DockerEngine
) -> None:
    class Blind:
        """A machine on which every port seems free."""

        def port_is_free(self, port: int) -> bool:
            return True

        def free_memory(self) -> int | None:
            return None

    ports = free_range(5)
    yard: Yard = await make_yard(machine=Blind(), ports=ports)
    with Squatters(ports[1:]):
        made = await yard.create()
    assert made.state == "running"
    assert await run_on(await yard.url(), "SELECT 1")
    assert [one.port for one in await yard.ports()] == [int(made.address.split(":")[1].split("/")[0])]


class Squatters:
    """Somebody listens on these ports."""

    def __init__(self, ports) -> None:
        self._sockets = [socket.socket() for _ in ports]
        for one, port in zip(self._sockets, ports, strict=True):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", port))
            one.listen(1)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()


async def test_a_full_range_is_a_clear_error_and_auto_falls_back(make_yard: MakeYard) -> None:
    yard: Yard = await make_yard()
    site, ports = yard.databases.parts.site, yard.databases.parts.options.ports

    async def fill(tx) -> None:
        for port in ports:
            await tx.ports.add(
                PortAllocation(
                    host=site.host, port=port, holder="x", purpose="test", created_at=await tx.now()
                )
            )

    await yard.store.run(fill, SET_UP)
    with pytest.raises(QuotaExceeded, match="no port"):
        await yard.create(engine="postgres")
    made = await yard.create()
    assert (made.engine, "no port" in made.fallback) == ("sqlite", True)


async def test_a_creation_that_fails_leaves_nothing_and_may_be_tried_again_with_its_key(
    make_yard: MakeYard, engine: DockerEngine, owner: Owner, image
) -> None:
    failing: Yard = await make_yard(image=image("busybox"), ready_seconds=3)
    with pytest.raises(QuaymasterError):
        await failing.create(engine="postgres", key="k")
    await nothing_left(failing, engine, owner)
    fell = await failing.create()
    assert fell.engine == "sqlite"
    assert fell.fallback
    assert engine.things(owner.installation) == []
    assert await failing.ports() == []
    await failing.delete()
    good: Yard = await make_yard()
    assert (await good.create(engine="postgres", key="k")).state == "running"


async def test_an_image_that_is_nowhere_is_an_error_or_a_fallback(make_yard: MakeYard) -> None:
    yard: Yard = await make_yard(image="localhost:1/none/such:1")
    with pytest.raises(Unavailable, match="could not be pulled"):
        await yard.create(engine="postgres")
    made = await yard.create()
    assert (made.engine, "could not be pulled" in made.fallback) == ("sqlite", True)


async def test_an_impatient_caller_cancels_nothing_and_a_stopping_server_leaves_nothing(
    make_yard: MakeYard, engine: DockerEngine, owner: Owner
) -> None:
    yard: Yard = await make_yard()
    view = await yard.create(wait_seconds=0)
    assert view.state == "creating"
    assert view.next
    assert (await yard.get(wait_seconds=30)).state == "running"
    await yard.delete()
    begun = asyncio.create_task(yard.create())
    while not engine.containers(owner.installation):
        await asyncio.sleep(0.02)
    begun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun
    assert (await yard.get(wait_seconds=30)).state == "running"


async def test_extensions_are_made_where_the_image_has_them_and_named_where_not(
    yard: Yard, engine: DockerEngine, owner: Owner
) -> None:
    with pytest.raises(Invalid, match="does not have the extension hstore"):
        await yard.create(extensions=("hstore",))
    await nothing_left(yard, engine, owner)
    with pytest.raises(Invalid, match="extensions"):
        await yard.create(extensions=("dblink",))
    with pytest.raises(Invalid, match="only with PostgreSQL"):
        await yard.create(extensions=("vector",), engine="sqlite")
    await yard.create(extensions=("vector",))
    rows = await run_on(await yard.url(), "SELECT '[1,2,3]'::vector <-> '[1,2,5]'::vector AS d")
    assert rows[0]["d"] == 2


async def test_the_reader_reads_what_the_role_makes_and_writes_nothing(yard: Yard) -> None:
    await yard.create()
    url = await yard.url()
    await run_on(url, "CREATE SCHEMA other")
    await run_on(url, "CREATE TABLE other.t AS SELECT 1 AS n")
    record = await yard.record()
    assert record is not None
    login = yard.databases.parts.passwords.login_of(record, reader=True)
    reader = f"postgresql://{login.role}:{login.password.get_secret_value()}@127.0.0.1:{login.port}/app"
    assert [row["n"] for row in await run_on(reader, "SELECT n FROM other.t")] == [1]
    for statement in (
        "INSERT INTO other.t VALUES (2)",
        "CREATE TABLE mine (n int)",
        "CREATE TEMP TABLE mine (n int)",
        "SELECT rolpassword FROM pg_authid",
    ):
        with pytest.raises(asyncpg.PostgresError):
            await run_on(reader, statement)
        with pytest.raises(asyncpg.PostgresError):
            await run_on(f"{reader}?options=-cdefault_transaction_read_only%3Doff", statement)


async def test_a_plan_speaks_of_a_dotenv_file_only_where_there_is_one(yard: Yard, tmp_path: Path) -> None:
    await yard.add_project("web", str(tmp_path))
    spoken_of = []
    for project in ("web", "shop"):
        await yard.create(project, engine="sqlite")
        plan = await yard.ask("delete_database", project=project)
        spoken_of.append("DATABASE_URL" in " ".join(plan.effects))
    assert spoken_of == [True, False]


async def test_a_plan_for_a_running_database_does_not_delete_a_stopped_one(yard: Yard) -> None:
    await yard.create()
    plan = await yard.ask("delete_database", project="shop")
    assert plan.status == "planned"
    await yard.ask("stop_database", project="shop")
    with pytest.raises(PlanStale):
        await yard.ask("delete_database", project="shop", token=plan.plan_token)
    assert (await yard.get()).state == "stopped"


async def test_without_its_final_backup_a_database_is_not_deleted(make_yard: MakeYard) -> None:
    backed_up: list[str] = []

    async def backup(database) -> str:
        backed_up.append(database.key)
        if len(backed_up) == 1:
            raise Unavailable("the disk is full")
        return "b1"

    yard: Yard = await make_yard(final_backup=backup)
    await yard.create()
    with pytest.raises(Conflict, match="the final backup failed"):
        await yard.delete()
    assert (await yard.get()).state == "running"
    await yard.delete()
    assert len(backed_up) == 2
    assert await yard.records() == []


async def test_a_team_has_at_most_its_quota_of_databases(make_yard: MakeYard) -> None:
    yard: Yard = await make_yard(quota=1)
    await yard.create(engine="sqlite", environment="staging")
    with pytest.raises(QuotaExceeded):
        await yard.create(engine="sqlite", environment="production")


async def test_environments_have_their_own_or_the_one_for_all(yard: Yard) -> None:
    await yard.create(engine="sqlite", environment="staging")
    await yard.create(engine="sqlite", environment="production")
    with pytest.raises(Conflict, match="production, staging"):
        await yard.get()
    with pytest.raises(NotFound):
        await yard.get(environment="preview")
    await yard.create(engine="sqlite")
    assert (await yard.get(environment="preview")).environment is None
    assert (await yard.get(environment="staging")).environment == "staging"


async def test_a_project_is_created_with_its_database_and_keeps_standing_without(
    make_yard: MakeYard, image, tmp_path: Path
) -> None:
    yard: Yard = await make_yard()
    made = await yard.ask("create_project", name="web", database="postgres", path=str(tmp_path))
    assert made.database.startswith("postgres (running)")
    with pytest.raises(Conflict, match="has a database"):
        await yard.ask("delete_project", name="web")
    failing: Yard = await make_yard(image=image("busybox"), ready_seconds=2)
    made = await failing.ask("create_project", name="api", database="postgres")
    assert made.database is None
    assert "its database is not" in made.notices[0]


async def test_a_workload_on_the_projects_network_reaches_the_database_by_name(
    yard: Yard, engine: DockerEngine
) -> None:
    made = await yard.create()
    reach = await yard.databases.parts.injection.for_workload(yard.named("shop"), "staging")
    assert reach is not None
    assert f"@{made.container}:5432/app" in reach.url.get_secret_value()
    joined = engine.find(f"/containers/{made.container}/json")["NetworkSettings"]["Networks"]
    assert reach.network in joined
    assert made.container in joined[reach.network]["Aliases"]


async def test_generated_passwords_are_in_no_file_of_the_home_and_in_no_audit_row(
    yard: Yard, home: Path
) -> None:
    await yard.create()
    await yard.ask("rotate_database_password", project="shop")
    await yard.url()
    record = await yard.record()
    assert record is not None
    parts = yard.databases.parts.passwords
    canaries = [
        parts.login_of(record).password.get_secret_value(),
        parts.login_of(record, reader=True).password.get_secret_value(),
    ]
    await yard.trail.flush()
    for path in home.rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode(errors="replace")
            assert not [canary for canary in canaries if canary in text], path
    logs = await yard.ask("database_logs", project="shop")
    assert logs.text
    assert not [canary for canary in canaries if canary in logs.text]


async def test_removing_a_network_that_a_neighbour_uses_is_not_tried(
    yard: Yard, orchestrator, engine: DockerEngine, owner: Owner, image
) -> None:
    from mcp_server.domain.workloads import Attachment, Workload

    await yard.create()
    record = await yard.record()
    assert record is not None
    assert record.place is not None
    neighbour = Workload(
        name=f"qt-{yard.mark}-app",
        owner=record.place.owner,
        image=image("busybox"),
        command=("sleep", "600"),
        init=True,
        restart="no",
        stop_grace=1,
        networks=(Attachment(network=record.place.network),),
    )
    await orchestrator.create(neighbour)
    await orchestrator.start(neighbour.ref)
    await yard.delete()
    assert engine.things(owner.installation) == [
        f"container {neighbour.name}",
        f"network {record.place.network}",
    ]
    await orchestrator.remove(Ref(name=neighbour.name, owner=record.place.owner))
