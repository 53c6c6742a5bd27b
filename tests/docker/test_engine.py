"""The adapter on a real engine. What the engine then has, the harness asks it by itself."""

import asyncio
import io
import json
import os
import resource
import secrets
import socket
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from pydantic import SecretBytes, SecretStr

from mcp_server.adapters.docker.engine import Engine
from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.domain import scram
from mcp_server.domain.errors import Conflict, Invalid, NotFound, Unavailable
from mcp_server.domain.our_workloads import database_workload, slot_workload
from mcp_server.domain.workloads import (
    Attachment,
    File,
    Limits,
    Mount,
    Network,
    Owner,
    PublishedPort,
    Ref,
    Volume,
    Workload,
)
from tests.services.engine import DockerEngine, EngineError
from tests.services.ports import ReservedPort

Name = Callable[[str], str]
Images = Callable[[str], str]


@pytest.fixture
def name(owner: Owner) -> Name:
    """`name("db")`: a name that no other test uses."""
    mark = owner.installation[-8:]
    return lambda part: f"qt-{mark}-{part}"


@pytest.fixture
def sleeper(image: Images, owner: Owner, name: Name) -> Callable[..., Workload]:
    """A workload that does what its command says, by default nothing."""

    def made(**changes: Any) -> Workload:
        wanted: dict[str, Any] = {
            "name": name("w"),
            "owner": owner,
            "image": image("busybox"),
            "command": ("sleep", "600"),
            "init": True,
            "restart": "no",
            "stop_grace": 1,
        }
        return Workload(**{**wanted, **changes})

    return made


@pytest.fixture
def other(owner: Owner) -> Owner:
    """Another installation on the same engine; what it makes goes with the test, too."""
    return owner.change(home="home-b")


async def running(orchestrator: DockerOrchestrator, workload: Workload) -> Ref:
    await orchestrator.create(workload)
    await orchestrator.start(workload.ref)
    return workload.ref


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses at the moment."""
    reserved = ReservedPort()
    reserved.release()
    return reserved.number


async def eventually(ask: Callable[[], Any], *, seconds: float = 15) -> Any:
    """The first truthy answer of an async question."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := await ask():
            return answer
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.05)


# -- a database ----------------------------------------------------------------------------------------


async def login(port: int, password: str, role: str = "shop") -> asyncpg.Connection:
    deadline = time.monotonic() + 30
    while True:
        try:
            return await asyncpg.connect(
                host="127.0.0.1", port=port, user=role, password=password, database=role, timeout=5
            )
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, TimeoutError):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_a_database_answers_on_loopback_only_and_no_password_can_be_seen(
    orchestrator: DockerOrchestrator, engine: DockerEngine, image: Images, owner: Owner, name: Name
) -> None:
    password, root_password = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    role = scram.verifier(password, secrets.token_bytes(16))
    await orchestrator.ensure_network(Network(name=name("net"), owner=owner))
    await orchestrator.ensure_volume(Volume(name=name("data"), owner=owner))
    port = free_port()
    workload = database_workload(
        name=name("db"),
        owner=owner,
        image=image("postgres"),
        volume=name("data"),
        port=port,
        superuser_verifier=scram.verifier(root_password, secrets.token_bytes(16)),
        first_steps=f"CREATE ROLE shop LOGIN PASSWORD '{role}';\nCREATE DATABASE shop OWNER shop;\n",
        networks=[Attachment(network=name("net"), aliases=("database",))],
    )
    await running(orchestrator, workload)
    connection = await login(port, password)
    assert await connection.fetchval("SELECT current_user") == "shop"
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await login(port, "wrong")
    superuser = await asyncpg.connect(
        host="127.0.0.1", port=port, user="postgres", password=root_password, database="postgres"
    )
    assert await superuser.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    await superuser.execute("CREATE EXTENSION vector")
    await superuser.close()

    seen = json.dumps(engine.find(f"/containers/{name('db')}/json"))
    seen += json.dumps(engine.ask("GET", f"/containers/{name('db')}/top?ps_args=-eo%20pid,args"))
    seen += (await orchestrator.logs(workload.ref, tail=5000)).text
    for secret in (password, root_password, role, role.split("$")[2]):
        assert secret not in seen
    _refused_elsewhere(port)
    await eventually(lambda: _healthy(orchestrator, workload), seconds=60)


async def _healthy(orchestrator: DockerOrchestrator, workload: Workload) -> bool:
    observed = await orchestrator.inspect(workload.name)
    return observed is not None and observed.health == "healthy"


def _refused_elsewhere(port: int) -> None:
    """The port answers on 127.0.0.1 and on no other address of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address = probe.getsockname()[0]
    assert not address.startswith("127.")
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection((address, port), timeout=1)
    socket.create_connection(("127.0.0.1", port), timeout=1).close()


async def test_a_database_keeps_its_data_and_passwords_when_its_container_is_made_anew(
    orchestrator: DockerOrchestrator, image: Images, owner: Owner, name: Name
) -> None:
    password = secrets.token_urlsafe(24)
    await orchestrator.ensure_volume(Volume(name=name("data"), owner=owner))
    port = free_port()
    for _ in range(2):
        workload = database_workload(
            name=name("db"),
            owner=owner,
            image=image("postgres"),
            volume=name("data"),
            port=port,
            superuser_verifier=scram.verifier(password, secrets.token_bytes(16)),
        )
        await running(orchestrator, workload)
        connection = await login(port, password, "postgres")
        await connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS one")
        assert await connection.fetchval("SELECT count(*) FROM kept") == 1
        await connection.close()
        await orchestrator.stop(workload.ref)
        await orchestrator.remove(workload.ref)
    assert [kept.name for kept in await orchestrator.volumes(owner.labels())] == [name("data")]


async def test_a_dump_and_a_restore_pass_through_a_command_inside(
    orchestrator: DockerOrchestrator, image: Images, owner: Owner, name: Name
) -> None:
    await orchestrator.ensure_volume(Volume(name=name("data"), owner=owner))
    port = free_port()
    password = secrets.token_urlsafe(24)
    verifier = scram.verifier(password, secrets.token_bytes(16))
    workload = database_workload(
        name=name("db"),
        owner=owner,
        image=image("postgres"),
        volume=name("data"),
        port=port,
        superuser_verifier=verifier,
    )
    ref = await running(orchestrator, workload)
    connection = await login(port, password, "postgres")
    await connection.execute(
        "CREATE TABLE numbers AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n"
    )
    before = await connection.fetchval("SELECT md5(string_agg(md5, '' ORDER BY n)) FROM numbers")
    pieces: list[bytes] = []

    async def keep(piece: bytes) -> None:
        pieces.append(piece)

    dumped = await orchestrator.exec(ref, ["pg_dump", "-U", "postgres", "-Fc", "postgres"], stdout=keep)
    assert (dumped.exit_code, dumped.stdout) == (0, b"")
    await connection.execute("CREATE DATABASE copy")

    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    restored = await orchestrator.exec(ref, ["pg_restore", "-U", "postgres", "-d", "copy"], stdin=source())
    assert restored.exit_code == 0, restored.stderr
    await connection.close()
    copy = await asyncpg.connect(
        host="127.0.0.1", port=port, user="postgres", password=password, database="copy"
    )
    assert await copy.fetchval("SELECT md5(string_agg(md5, '' ORDER BY n)) FROM numbers") == before
    await copy.close()


# -- a slot ----------------------------------------------------------------------------------------------


async def test_a_slot_runs_by_its_image_id_and_is_found_by_its_labels(
    orchestrator: DockerOrchestrator, image: Images, owner: Owner, name: Name
) -> None:
    found = await orchestrator.ensure_image(image("demo-checked"))
    assert (found.user, found.has_health_check, found.ports, found.digest) == ("app", True, (8080,), None)
    await orchestrator.ensure_network(Network(name=name("net"), owner=owner))
    greeting = 'it\'s $(whoami) "x" `y` {{z}} ${HOME}'
    workload = slot_workload(
        project=name("shop"),
        environment="staging",
        slot="green",
        owner=owner,
        image=found,
        container_port=8080,
        host_port=0,
        network=name("net"),
        variables={"GREETING": greeting},
    )
    ref = await running(orchestrator, workload)
    await eventually(lambda: _healthy(orchestrator, workload))
    observed = await orchestrator.inspect(ref.name)
    assert observed is not None
    assert observed.image_id == found.id
    assert (observed.owner, observed.kind, observed.running) == (owner, "slot", True)
    assert observed.networks == (name("net"),)
    reader, writer = await asyncio.open_connection("127.0.0.1", observed.ports[8080])
    writer.write(b"GET /env/GREETING HTTP/1.0\r\n\r\n")
    assert (await reader.read()).decode().endswith(f"\r\n\r\n{greeting}\n")
    writer.close()
    listed = await orchestrator.list({**owner.labels(), "quaymaster.slot": "green"})
    assert [(one.name, one.health, one.ports) for one in listed] == [
        (workload.name, "healthy", observed.ports)
    ]
    usage = await orchestrator.usage(ref)
    assert usage is not None
    assert 0 < usage.memory < usage.memory_limit == 512 * 1024 * 1024


async def test_neighbours_find_each_other_by_alias_and_a_rename_keeps_labels(
    orchestrator: DockerOrchestrator, sleeper: Callable[..., Workload], owner: Owner, name: Name
) -> None:
    for part in ("a", "b"):
        await orchestrator.ensure_network(Network(name=name(part), owner=owner))
    both = (Attachment(network=name("a"), aliases=("one",)), Attachment(network=name("b"), aliases=("two",)))
    first = await running(orchestrator, sleeper(name=name("first"), networks=both))
    second = await running(orchestrator, sleeper(name=name("second"), networks=both[1:]))
    assert (await orchestrator.exec(second, ["nslookup", "two"])).exit_code == 0
    assert (await orchestrator.exec(second, ["nslookup", "one"])).exit_code != 0
    network = Ref(name=name("a"), owner=owner)
    await orchestrator.connect(second, network, ["late"])
    await orchestrator.connect(second, network, ["late"])
    assert (await orchestrator.exec(first, ["nslookup", "late"])).exit_code == 0
    await orchestrator.connect(second, network, ["later"])
    assert (await orchestrator.exec(first, ["nslookup", "later"])).exit_code == 0
    await orchestrator.disconnect(second, network)
    await orchestrator.disconnect(second, network)
    await orchestrator.rename(second, name("claimed"))
    claimed = await orchestrator.inspect(name("claimed"))
    assert claimed is not None
    assert (claimed.owner, claimed.networks, claimed.running) == (owner, (name("b"),), True)
    assert await orchestrator.inspect(name("second")) is None
    with pytest.raises(Conflict) as refused:
        await orchestrator.rename(Ref(name=name("claimed"), owner=owner), name("first"))
    assert refused.value.details == {"owner": "ours"}


async def test_a_workload_waits_until_a_network_that_was_made_twice_is_one_again(
    orchestrator: DockerOrchestrator,
    sleeper: Callable[..., Workload],
    owner: Owner,
    name: Name,
    engine: DockerEngine,
) -> None:
    """Two servers look, find none, and make one each: the engine keeps both until the second one is removed."""
    network = Network(name=name("net"), owner=owner)
    await orchestrator.ensure_network(network)
    double = {"Name": network.name, "CheckDuplicate": False, "Labels": network.labels()}
    try:
        second = engine.ask("POST", "/networks/create", double)["Id"]
    except EngineError:
        pytest.skip("this engine never keeps two networks of one name")
    workload = sleeper(networks=(Attachment(network=network.name),))
    async with anyio.create_task_group() as group:
        group.start_soon(running, orchestrator, workload)
        with anyio.fail_after(20):
            while (tried := await orchestrator.inspect(workload.name)) is None:
                await anyio.sleep(0.05)
        await anyio.sleep(0.3)
        assert not tried.running
        engine.ask("DELETE", f"/networks/{second}")
    found = await orchestrator.inspect(workload.name)
    assert found is not None
    assert found.running


async def test_two_servers_on_one_host_port_is_a_conflict_that_names_the_port(
    orchestrator: DockerOrchestrator, sleeper: Callable[..., Workload], name: Name
) -> None:
    port = free_port()
    published = (PublishedPort(container=80, host=port),)
    await running(orchestrator, sleeper(name=name("a"), ports=published))
    second = sleeper(name=name("b"), ports=published)
    await orchestrator.create(second)
    with pytest.raises(Conflict) as refused:
        await orchestrator.start(second.ref)
    assert refused.value.details == {"port": port}
    observed = await orchestrator.inspect(second.name)
    assert observed is not None
    assert not observed.running
    await orchestrator.remove(second.ref)


# -- whose -----------------------------------------------------------------------------------------------


async def test_what_belongs_to_another_home_is_never_touched(
    orchestrator: DockerOrchestrator,
    engine: DockerEngine,
    sleeper: Callable[..., Workload],
    owner: Owner,
    other: Owner,
    name: Name,
) -> None:
    await orchestrator.ensure_network(Network(name=name("net"), owner=other))
    await orchestrator.ensure_volume(Volume(name=name("vol"), owner=other))
    await running(orchestrator, sleeper(owner=other))
    before = engine.things(owner.installation)
    ours = sleeper()
    network, volume = Ref(name=name("net"), owner=owner), Ref(name=name("vol"), owner=owner)
    attempts: list[Callable[[], Any]] = [
        lambda: orchestrator.create(ours),
        lambda: orchestrator.start(ours.ref),
        lambda: orchestrator.stop(ours.ref),
        lambda: orchestrator.remove(ours.ref),
        lambda: orchestrator.rename(ours.ref, name("stolen")),
        lambda: orchestrator.logs(ours.ref),
        lambda: orchestrator.exec(ours.ref, ["true"]),
        lambda: orchestrator.wait_exit(ours.ref, timeout=1),
        lambda: orchestrator.connect(ours.ref, network),
        lambda: orchestrator.ensure_network(Network(name=name("net"), owner=owner)),
        lambda: orchestrator.remove_network(network),
        lambda: orchestrator.ensure_volume(Volume(name=name("vol"), owner=owner)),
        lambda: orchestrator.remove_volume(volume),
        lambda: orchestrator.create(
            sleeper(name=name("thief"), mounts=(Mount(source=name("vol"), target="/data"),))
        ),
        lambda: orchestrator.create(sleeper(name=name("guest"), networks=(Attachment(network=name("net")),))),
    ]
    for attempt in attempts:
        with pytest.raises(Conflict) as refused:
            await attempt()
        assert refused.value.details == {"owner": "foreign"}
    assert engine.things(owner.installation) == before
    observed = await orchestrator.inspect(ours.name)
    assert observed is not None
    assert (observed.running, observed.owner) == (True, other)
    assert await orchestrator.list(owner.labels()) == []


async def test_another_project_of_the_same_home_is_foreign_as_well(
    orchestrator: DockerOrchestrator, sleeper: Callable[..., Workload], owner: Owner
) -> None:
    await orchestrator.create(sleeper(owner=owner.change(project="p2")))
    with pytest.raises(Conflict):
        await orchestrator.remove(sleeper().ref)


async def test_a_workload_is_not_found_by_a_part_of_its_id(
    orchestrator: DockerOrchestrator, sleeper: Callable[..., Workload], owner: Owner
) -> None:
    made = await orchestrator.create(sleeper())
    with pytest.raises(NotFound):
        await orchestrator.stop(Ref(name=made[:12], owner=owner))


# -- making and unmaking -----------------------------------------------------------------------------------


async def test_creating_needs_image_network_and_volume_and_leaves_nothing_when_one_is_missing(
    orchestrator: DockerOrchestrator,
    engine: DockerEngine,
    sleeper: Callable[..., Workload],
    owner: Owner,
    name: Name,
) -> None:
    for change in (
        {"image": "quaymaster-test/never-built:1"},
        {"mounts": (Mount(source=name("no"), target="/data"),)},
        {"networks": (Attachment(network=name("no")),)},
    ):
        with pytest.raises(NotFound):
            await orchestrator.create(sleeper(**change))
    assert engine.things(owner.installation) == []
    assert engine.find(f"/volumes/{name('no')}") is None


async def test_a_creation_that_fails_after_the_first_step_is_undone(
    orchestrator: DockerOrchestrator, engine: DockerEngine, sleeper: Callable[..., Workload], owner: Owner
) -> None:
    blocked = File(path="/bin/busybox/x", content=SecretBytes(b"x"))
    with pytest.raises((Invalid, Unavailable, Conflict)):
        await orchestrator.create(sleeper(files=(blocked,)))
    assert engine.things(owner.installation) == []


@pytest.mark.parametrize("after", [0.0, 0.001, 0.003, 0.006, 0.01, 0.02, 0.04])
async def test_a_cancelled_creation_leaves_nothing(
    orchestrator: DockerOrchestrator,
    engine: DockerEngine,
    sleeper: Callable[..., Workload],
    owner: Owner,
    after: float,
) -> None:
    file = File(path="/x", content=SecretBytes(b"x" * 100_000))
    creating = asyncio.create_task(orchestrator.create(sleeper(files=(file,))))
    await asyncio.sleep(after)
    if creating.cancel():
        with pytest.raises(asyncio.CancelledError):
            await creating
        assert engine.things(owner.installation) == []


@pytest.fixture
async def late(engine: DockerEngine, tmp_path: Path) -> AsyncIterator[DockerOrchestrator]:
    """An adapter to whom the engine's answers come half a second late; the engine itself acts at once."""
    place = tmp_path / "late.sock"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(engine.address.removeprefix("unix://"))
        await asyncio.gather(_pass_on(reader, far_writer, 0), _pass_on(far_reader, writer, 0.5))

    server = await asyncio.start_unix_server(serve, str(place))
    adapter = DockerOrchestrator(f"unix://{place}")
    yield adapter
    await adapter.close()
    server.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            await asyncio.sleep(delay)
            writer.write(piece)
    if not delay:  # who stops asking still lets the engine finish what it began
        return
    writer.close()


async def test_a_creation_whose_answer_is_still_on_its_way_is_undone_as_well(
    late: DockerOrchestrator, engine: DockerEngine, sleeper: Callable[..., Workload], owner: Owner
) -> None:
    creating = asyncio.create_task(late.create(sleeper()))

    async def made() -> bool:
        return bool(engine.things(owner.installation))

    await eventually(made)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    assert engine.things(owner.installation) == []


async def test_a_creation_in_a_cancelled_scope_leaves_nothing(
    orchestrator: DockerOrchestrator, engine: DockerEngine, sleeper: Callable[..., Workload], owner: Owner
) -> None:
    with anyio.move_on_after(0.004) as scope:
        await orchestrator.create(sleeper())
        await anyio.sleep(5)
        pytest.fail("not cut")
    assert scope.cancelled_caught
    left = engine.things(owner.installation)
    assert left in ([], [f"container {sleeper().name}"])
    if left:  # it was made before the cut: then it is the caller's
        await orchestrator.remove(sleeper().ref)
    assert engine.things(owner.installation) == []


async def test_ensuring_and_removing_may_be_repeated(
    orchestrator: DockerOrchestrator,
    engine: DockerEngine,
    sleeper: Callable[..., Workload],
    owner: Owner,
    name: Name,
) -> None:
    network, volume = Network(name=name("n"), owner=owner), Volume(name=name("v"), owner=owner)
    for _ in range(2):
        await orchestrator.ensure_network(network)
    assert [await orchestrator.ensure_volume(volume) for _ in range(2)] == [True, False]
    workload = sleeper(mounts=(Mount(source=name("v"), target="/data"),))
    await orchestrator.create(workload)
    with pytest.raises(Conflict) as taken:
        await orchestrator.create(workload)
    assert taken.value.details == {"owner": "ours"}
    for _ in range(2):
        await orchestrator.start(workload.ref)
    with pytest.raises(Conflict):
        await orchestrator.remove_volume(volume)
    for _ in range(2):
        await orchestrator.stop(workload.ref)
    for _ in range(2):
        await orchestrator.remove(workload.ref)
        await orchestrator.remove_volume(volume)
        await orchestrator.remove_network(network)
    assert engine.things(owner.installation) == []
    with pytest.raises(NotFound):
        await orchestrator.start(workload.ref)


async def test_many_servers_make_one_network_and_one_volume(
    engine: DockerEngine, owner: Owner, name: Name
) -> None:
    servers = [DockerOrchestrator(engine.address) for _ in range(6)]
    network, volume = Network(name=name("n"), owner=owner), Volume(name=name("v"), owner=owner)
    await asyncio.gather(*(server.ensure_network(network) for server in servers))
    made = await asyncio.gather(*(server.ensure_volume(volume) for server in servers))
    assert sum(made) == 1
    assert engine.things(owner.installation) == [f"network {name('n')}", f"volume {name('v')}"]
    for server in servers:
        await server.close()


async def test_networks_take_their_subnets_from_the_range_and_a_full_range_says_so(
    engine: DockerEngine, owner: Owner, name: Name
) -> None:
    block = IPv4Network((int(IPv4Network("10.90.0.0/16").network_address) + secrets.randbelow(200) * 256, 24))
    small = DockerOrchestrator(engine.address, subnets=block, prefix=26)
    await asyncio.gather(*(small.ensure_network(Network(name=name(f"n{n}"), owner=owner)) for n in range(4)))
    kept = await small.networks(owner.labels())
    assert {IPv4Network(str(one.subnet)) for one in kept} == set(block.subnets(new_prefix=26))
    with pytest.raises(Unavailable, match="No free subnet"):
        await small.ensure_network(Network(name=name("n5"), owner=owner))
    await small.close()


# -- files, commands, logs, endings ------------------------------------------------------------------------


async def test_a_file_is_there_before_the_start_with_its_mode_and_owner(
    orchestrator: DockerOrchestrator, engine: DockerEngine, sleeper: Callable[..., Workload]
) -> None:
    file = File(path="/etc/quaymaster/deep/secret", content=SecretBytes(b"canary-3"), mode=0o400, uid=1234)
    workload = sleeper(
        command=(
            "sh",
            "-c",
            "stat -c '%a %u %g' /etc/quaymaster/deep/secret; cat /etc/quaymaster/deep/secret",
        ),
        files=(file,),
        capabilities=("DAC_OVERRIDE",),
    )
    ref = await running(orchestrator, workload)
    assert await orchestrator.wait_exit(ref, timeout=20) == 0
    assert (await orchestrator.logs(ref)).text == "400 1234 1234\ncanary-3"
    assert "canary-3" not in json.dumps(engine.find(f"/containers/{ref.name}/json"))


async def test_commands_get_input_and_give_output_errors_and_exit_code(
    orchestrator: DockerOrchestrator, sleeper: Callable[..., Workload]
) -> None:
    ref = await running(orchestrator, sleeper())
    script = 'cat; echo "$A" >&2; id -u >&2; exit 7'
    done = await orchestrator.exec(
        ref, ["sh", "-c", script], stdin=b"x" * 300_000, environment={"A": "it's"}, user="65534"
    )
    assert (done.exit_code, len(done.stdout), done.stderr, done.truncated) == (
        7,
        300_000,
        "it's\n65534\n",
        False,
    )
    cut = await orchestrator.exec(ref, ["sh", "-c", "yes | head -c 5000"], max_output=10)
    assert (cut.exit_code, cut.stdout, cut.truncated) == (0, b"y\n" * 5, True)
    assert (await orchestrator.exec(ref, ["no-such-program"])).exit_code in (126, 127)
    assert (await orchestrator.exec(ref, ["true"], stdin=b"y" * 5_000_000)).exit_code == 0
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await orchestrator.exec(ref, ["sleep", "30"], timeout=0.3)
    assert time.monotonic() - began < 3


async def test_a_source_of_input_that_fails_ends_the_command_and_is_the_error(
    orchestrator: DockerOrchestrator, sleeper: Callable[..., Workload]
) -> None:
    ref = await running(orchestrator, sleeper())

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError("the backup is gone")

    with pytest.raises(LookupError):
        await orchestrator.exec(ref, ["cat"], stdin=broken(), timeout=10)


async def test_a_slow_reader_of_output_holds_the_command_back_and_not_the_memory(
    orchestrator: DockerOrchestrator, sleeper: Callable[..., Workload]
) -> None:
    ref = await running(orchestrator, sleeper())
    total, most = 0, 0

    async def slow(piece: bytes) -> None:
        nonlocal total, most
        total += len(piece)
        if total < 20_000_000:
            await asyncio.sleep(0.0005)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = await orchestrator.exec(ref, ["sh", "-c", "head -c 100000000 /dev/zero"], stdout=slow, timeout=60)
    assert (done.exit_code, total) == (0, 100_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


async def test_logs_are_the_newest_lines_within_bounds(
    orchestrator: DockerOrchestrator, sleeper: Callable[..., Workload]
) -> None:
    script = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done"
    ref = await running(orchestrator, sleeper(command=("sh", "-c", script)))
    await orchestrator.wait_exit(ref, timeout=20)
    text = (await orchestrator.logs(ref)).text
    assert sorted(text.splitlines()) == sorted(f"{kind} {n}" for kind in ("out", "err") for n in range(1, 6))
    assert len((await orchestrator.logs(ref, tail=3)).text.splitlines()) == 3
    cut = await orchestrator.logs(ref, max_bytes=6)
    assert (len(cut.text), cut.truncated) == (6, True)
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert (await orchestrator.logs(ref, since=later)).text == ""


async def test_endings_are_told_with_exit_code_and_cause(
    orchestrator: DockerOrchestrator, sleeper: Callable[..., Workload], name: Name
) -> None:
    failed = await running(orchestrator, sleeper(name=name("a"), command=("sh", "-c", "exit 3")))
    assert await orchestrator.wait_exit(failed, timeout=20) == 3
    observed = await orchestrator.inspect(failed.name)
    assert observed is not None
    assert (observed.state, observed.exit_code, observed.out_of_memory) == ("exited", 3, False)
    greedy = sleeper(
        name=name("b"), command=("sh", "-c", "tail /dev/zero"), limits=Limits(memory=16 * 1024 * 1024)
    )
    ref = await running(orchestrator, greedy)
    await orchestrator.wait_exit(ref, timeout=30)
    observed = await orchestrator.inspect(ref.name)
    assert observed is not None
    assert observed.out_of_memory or observed.exit_code == 137
    wrong = sleeper(name=name("c"), command=("no-such-program",), init=False)
    await orchestrator.create(wrong)
    with pytest.raises(Invalid):
        await orchestrator.start(wrong.ref)
    patient = await running(orchestrator, sleeper(name=name("d")))
    with pytest.raises(Unavailable, match="has not ended"):
        await orchestrator.wait_exit(patient, timeout=0.2)


async def test_a_workload_that_ignores_the_request_to_end_is_killed_after_its_grace(
    orchestrator: DockerOrchestrator, image: Images, sleeper: Callable[..., Workload]
) -> None:
    stubborn = sleeper(
        image=image("demo-plain"), command=None, environment={"IGNORE_TERM": SecretStr("1")}, stop_grace=1
    )
    ref = await running(orchestrator, stubborn)

    async def listens() -> bool:
        return "listening" in (await orchestrator.logs(ref)).text

    await eventually(listens)
    began = time.monotonic()
    await orchestrator.stop(ref)
    assert 0.5 < time.monotonic() - began < 10
    observed = await orchestrator.inspect(ref.name)
    assert observed is not None
    assert not observed.running


async def test_no_call_keeps_a_connection(engine: DockerEngine, sleeper: Callable[..., Workload]) -> None:
    """With three connections at most, a single one that stays would soon make every call hang."""
    adapter = DockerOrchestrator(engine.address)
    adapter._engine = Engine(engine.address, connections=3)
    script = "while :; do echo line; usleep 1000; done"
    ref = await running(adapter, sleeper(command=("sh", "-c", script)))
    follow = {"follow": True, "stdout": True}
    left: list[Any] = []
    for _ in range(8):
        async with adapter._engine.answer("GET", f"containers/{ref.name}/logs", params=follow) as answer:
            left.append(answer)
            await answer.content.readexactly(8)
        await adapter.logs(ref, tail=10)
        await adapter.exec(ref, ["echo", "x"], stdin=b"y")
        with pytest.raises(Unavailable):
            await adapter.exec(ref, ["yes"], timeout=0.05)
        with pytest.raises(Unavailable):
            await adapter.wait_exit(ref, timeout=0.02)
        reading = asyncio.create_task(adapter.exec(ref, ["sleep", "3"]))
        await asyncio.sleep(0.03)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    async with asyncio.timeout(5):
        assert await adapter.inspect(ref.name)
    connector = adapter._engine._connector
    assert connector is not None
    assert len(connector._acquired) == 0
    await adapter.close()


# -- images ------------------------------------------------------------------------------------------------


async def test_an_image_that_is_neither_here_nor_to_be_had_says_both(
    orchestrator: DockerOrchestrator,
) -> None:
    nowhere = f"127.0.0.1:{free_port()}/shop:1"
    with pytest.raises(Unavailable) as refused:
        await orchestrator.ensure_image(nowhere)
    assert "is not on this engine and could not be pulled" in refused.value.message
    assert nowhere in refused.value.message
    assert "Load the image" in refused.value.next


class Registry:
    """A registry that knows nothing, or never answers."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(1)
        if first == b"\x16":  # TLS is tried first
            writer.close()
            return
        line = (first + await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0]
        if self._silent:
            await asyncio.sleep(30)
        known = line.split()[1] == "/v2/"
        body = (
            b"{}" if known else b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
        )
        status = "200 OK" if known else "404 Not Found"
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(
            f"{head}Docker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        writer.close()


async def test_an_image_that_its_registry_does_not_know_is_not_found(
    orchestrator: DockerOrchestrator,
) -> None:
    server = await asyncio.start_server(Registry(silent=False).serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(NotFound, match="does not know it"):
        await orchestrator.ensure_image(f"127.0.0.1:{port}/shop:1")
    server.close()


async def test_a_cancelled_pull_ends_at_once(orchestrator: DockerOrchestrator) -> None:
    server = await asyncio.start_server(Registry(silent=True).serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    began = time.monotonic()
    with anyio.move_on_after(0.3):
        await orchestrator.ensure_image(f"127.0.0.1:{port}/shop:1")
    assert time.monotonic() - began < 3
    server.close()


def context(dockerfile: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile.encode())
        archive.addfile(entry, io.BytesIO(dockerfile.encode()))
    return buffer.getvalue()


async def test_an_image_is_built_from_an_archive_and_belongs_to_its_owner(
    orchestrator: DockerOrchestrator, image: Images, owner: Owner, other: Owner, name: Name
) -> None:
    tag = f"quaymaster-test/{name('built')}:1"
    lines: list[str] = []

    async def note(line: str) -> None:
        lines.append(line)

    archive = context(f"FROM {image('busybox')}\nRUN echo hello > /made\nUSER 1000\n")

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(archive), 1000):
            yield archive[start : start + 1000]

    built = await orchestrator.build_image(tag, pieces(), owner=owner, progress=note)
    assert built.user == "1000"
    assert lines
    assert await orchestrator.ensure_image(tag) == built
    with pytest.raises(Conflict):
        await orchestrator.remove_image(tag, other)
    for _ in range(2):
        await orchestrator.remove_image(tag, owner)


async def test_a_build_that_fails_tells_the_step_and_leaves_no_container(
    orchestrator: DockerOrchestrator, engine: DockerEngine, image: Images, owner: Owner, name: Name
) -> None:
    archive = context(f"FROM {image('busybox')}\nRUN echo reason-{name('x')}; exit 9\n")
    with pytest.raises(Invalid) as refused:
        await orchestrator.build_image(f"quaymaster-test/{name('bad')}:1", archive, owner=owner)
    assert f"reason-{name('x')}" in refused.value.details["output"]
    assert "9" in refused.value.message
    with pytest.raises(Invalid):
        await orchestrator.build_image(f"quaymaster-test/{name('bad')}:1", context("NONSENSE"), owner=owner)
    assert engine.things(owner.installation) == []


# -- the harness -----------------------------------------------------------------------------------------


async def test_detection_tells_version_and_size_of_the_real_engine(
    orchestrator: DockerOrchestrator, engine: DockerEngine
) -> None:
    status = await orchestrator.detect()
    version = engine.ask("GET", "/version")
    assert (status.available, status.version, status.api_version) == (
        True,
        version["Version"],
        version["ApiVersion"],
    )
    assert status.cpus == os.cpu_count() or status.cpus
    assert (status.memory or 0) > 100_000_000


def test_an_image_that_is_there_is_found_quickly(image: Images) -> None:
    for part in ("busybox", "demo"):
        image(part)
    began = time.monotonic()
    for part in ("busybox", "demo"):
        image(part)
    assert time.monotonic() - began < 2
