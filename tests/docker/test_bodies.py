"""What is sent to the engine, whole: a change of a body is a change of what runs."""

import io
import tarfile
from ipaddress import IPv4Network
from typing import Any

import pytest
from pydantic import SecretBytes, SecretStr, ValidationError

from mcp_server.adapters.docker.bodies import archive_of, network_body, volume_body, workload_body
from mcp_server.domain.our_workloads import database_workload, slot_workload
from mcp_server.domain.workloads import (
    Attachment,
    File,
    HealthCheck,
    Image,
    Limits,
    Mount,
    Network,
    Owner,
    PublishedPort,
    Volume,
    Workload,
)

OWNER = Owner(installation="i-1", home="h-1", project="p-1")
VERIFIER = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"


def database(**changes: Any) -> Workload:
    wanted: dict[str, Any] = {
        "name": "quaymaster-db-shop",
        "owner": OWNER,
        "image": "postgres:16-alpine",
        "volume": "quaymaster-data-shop",
        "port": 5432,
        "superuser_verifier": VERIFIER,
        "first_steps": "CREATE ROLE shop LOGIN",
        "networks": [Attachment(network="quaymaster-net-shop", aliases=("database",))],
        "settings": {"max_connections": "50"},
    }
    return database_workload(**{**wanted, **changes})


def slot(image: Image, **changes: Any) -> Workload:
    wanted: dict[str, Any] = {
        "project": "shop",
        "environment": "production",
        "slot": "blue",
        "owner": OWNER,
        "image": image,
        "container_port": 3000,
        "host_port": 4100,
        "network": "quaymaster-net-shop",
        "variables": {"GREETING": "it's $(whoami)\n{{x}}"},
    }
    return slot_workload(**{**wanted, **changes})


def test_a_database_runs_with_few_capabilities_bounded_and_on_loopback_only() -> None:
    assert workload_body(database()) == {
        "Image": "postgres:16-alpine",
        "Cmd": ["postgres", "-c", "max_connections=50"],
        "Env": [
            "PGDATA=/var/lib/postgresql/data",
            "POSTGRES_PASSWORD_FILE=/etc/quaymaster/superuser",
        ],
        "Labels": {
            "quaymaster.installation": "i-1",
            "quaymaster.home": "h-1",
            "quaymaster.project": "p-1",
            "quaymaster.kind": "database",
        },
        "ExposedPorts": {"5432/tcp": {}},
        "StopSignal": "SIGINT",
        "StopTimeout": 30,
        "Healthcheck": {
            "Test": ["CMD", "pg_isready", "-q", "-h", "127.0.0.1", "-p", "5432", "-U", "postgres"],
            "Interval": 30_000_000_000,
            "Timeout": 3_000_000_000,
            "Retries": 2,
            "StartPeriod": 30_000_000_000,
        },
        "HostConfig": {
            "NetworkMode": "quaymaster-net-shop",
            "PortBindings": {"5432/tcp": [{"HostIp": "127.0.0.1", "HostPort": "5432"}]},
            "Mounts": [
                {
                    "Type": "volume",
                    "Source": "quaymaster-data-shop",
                    "Target": "/var/lib/postgresql/data",
                    "ReadOnly": False,
                }
            ],
            "Tmpfs": {},
            "ReadonlyRootfs": False,
            "Init": False,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "CapAdd": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
            "SecurityOpt": ["no-new-privileges"],
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10485760", "max-file": "3"}},
            "Memory": 536870912,
            "MemorySwap": 536870912,
            "NanoCpus": 1_000_000_000,
            "PidsLimit": 200,
            "ShmSize": 134217728,
        },
        "NetworkingConfig": {"EndpointsConfig": {"quaymaster-net-shop": {"Aliases": ["database"]}}},
    }


def test_a_deployed_slot_of_an_image_with_its_own_user_gets_no_capability() -> None:
    image = Image(name="shop:1", id="sha256:" + "a" * 64, user="app")
    assert workload_body(slot(image)) == {
        "Image": "sha256:" + "a" * 64,
        "Env": ["GREETING=it's $(whoami)\n{{x}}", "PORT=3000"],
        "Labels": {
            "quaymaster.installation": "i-1",
            "quaymaster.home": "h-1",
            "quaymaster.project": "p-1",
            "quaymaster.kind": "slot",
            "quaymaster.name": "shop",
            "quaymaster.environment": "production",
            "quaymaster.slot": "blue",
        },
        "ExposedPorts": {"3000/tcp": {}},
        "StopTimeout": 30,
        "HostConfig": {
            "NetworkMode": "quaymaster-net-shop",
            "PortBindings": {"3000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4100"}]},
            "Mounts": [],
            "Tmpfs": {},
            "ReadonlyRootfs": False,
            "Init": True,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "CapAdd": [],
            "SecurityOpt": ["no-new-privileges"],
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10485760", "max-file": "3"}},
            "Memory": 536870912,
            "MemorySwap": 536870912,
            "NanoCpus": 1_000_000_000,
            "PidsLimit": 512,
        },
        "NetworkingConfig": {"EndpointsConfig": {"quaymaster-net-shop": {"Aliases": ["production-blue"]}}},
    }


@pytest.mark.parametrize("user", ["", "root", "0", "0:0", "root:app"])
def test_an_image_that_begins_as_root_gets_what_it_needs_to_give_root_up(user: str) -> None:
    image = Image(name="shop:1", id="sha256:" + "a" * 64, user=user)
    host = workload_body(slot(image))["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert "SETUID" in host["CapAdd"]
    assert not {"SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE"} & set(host["CapAdd"])


def test_a_variable_of_the_caller_wins_over_the_port_that_would_be_set() -> None:
    image = Image(name="shop:1", id="sha256:" + "a" * 64, user="app")
    assert workload_body(slot(image, variables={"PORT": "8080"}))["Env"] == ["PORT=8080"]


def test_everything_else_that_can_be_asked_for_is_asked_for() -> None:
    workload = Workload(
        name="w",
        owner=OWNER,
        image="busybox:1",
        user="1000:1000",
        mounts=(Mount(source="/srv/files", target="/srv", read_only=True),),
        tmpfs=("/tmp",),
        limits=Limits(cpus=0.5),
        read_only=True,
        restart="on-failure",
        ports=(PublishedPort(container=80, host=0),),
        health=HealthCheck(command=("true",), start_period=0.001),
        extra_labels={"quaymaster.installation": "forged", "note": "x"},
    )
    body = workload_body(workload)
    assert body["User"] == "1000:1000"
    assert "Cmd" not in body
    assert body["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": "/srv/files", "Target": "/srv", "ReadOnly": True}
    ]
    assert body["HostConfig"]["Tmpfs"] == {"/tmp": "rw,noexec,nosuid,size=64m"}
    assert body["HostConfig"]["ReadonlyRootfs"] is True
    assert body["HostConfig"]["NanoCpus"] == 500_000_000
    assert body["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert body["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    assert body["Healthcheck"]["StartPeriod"] == 1_000_000
    assert body["Labels"]["quaymaster.installation"] == "i-1"
    assert body["Labels"]["note"] == "x"


def test_a_client_of_a_server_of_the_host_shares_its_network_and_joins_none() -> None:
    body = workload_body(Workload(name="c", owner=OWNER, image="postgres:16", host_network=True))
    assert body["HostConfig"]["NetworkMode"] == "host"
    assert body["NetworkingConfig"] == {"EndpointsConfig": {}}


def test_a_network_has_its_own_subnet_and_publishes_on_loopback() -> None:
    assert network_body(Network(name="n", owner=OWNER), IPv4Network("10.64.0.64/26")) == {
        "Name": "n",
        "CheckDuplicate": True,
        "Driver": "bridge",
        "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.64.0.64/26"}]},
        "Options": {"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"},
        "Labels": {**OWNER.labels(), "quaymaster.kind": "project"},
    }


def test_a_volume_is_local_and_labelled() -> None:
    assert volume_body(Volume(name="v", owner=OWNER)) == {
        "Name": "v",
        "Driver": "local",
        "Labels": {**OWNER.labels(), "quaymaster.kind": "data"},
    }


def test_files_travel_in_an_archive_with_their_mode_and_owner_and_stand_in_no_body() -> None:
    workload = database()
    with tarfile.open(fileobj=io.BytesIO(archive_of(workload.files))) as archive:
        entries = archive.getmembers()
        assert [(one.name, one.mode, one.uid) for one in entries] == [
            ("etc/quaymaster/superuser", 0o444, 0),
            ("docker-entrypoint-initdb.d/10-quaymaster.sql", 0o444, 0),
        ]
        first = archive.extractfile(entries[0])
        assert first is not None
        assert first.read() == VERIFIER.encode()
    assert VERIFIER not in str(workload_body(workload))
    assert VERIFIER not in repr(workload)


def test_an_archive_entry_cannot_leave_the_root() -> None:
    file = File(path="/a/../../../etc/passwd", content=SecretBytes(b"x"))
    with tarfile.open(fileobj=io.BytesIO(archive_of((file,)))) as archive:
        assert archive.getnames() == ["etc/passwd"]


def test_values_of_variables_are_hidden_when_a_workload_is_printed() -> None:
    workload = Workload(name="w", owner=OWNER, image="b", environment={"TOKEN": SecretStr("canary-1")})
    assert "canary-1" not in repr(workload)
    assert "canary-1" not in str(workload.model_dump())


def test_a_read_only_workload_takes_files_in_writable_volumes_only() -> None:
    files = (File(path="/data/x", content=SecretBytes(b"x")),)
    place = Mount(source="v", target="/data")
    Workload(name="w", owner=OWNER, image="b", read_only=True, files=files, mounts=(place,))
    with pytest.raises(ValidationError):
        Workload(name="w", owner=OWNER, image="b", read_only=True, files=files)


@pytest.mark.parametrize("name", ["../x", "a b", "", "-a", "a/b", "a\n", "ä"])
def test_names_that_mean_something_else_to_the_engine_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Volume(name=name, owner=OWNER)
