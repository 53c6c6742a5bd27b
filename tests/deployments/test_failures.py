"""Images that misbehave, callers that give up, versions that are gone: traffic stays where it was."""

from __future__ import annotations

import base64
import io
import tarfile
from datetime import timedelta
from typing import Any

import anyio
import pytest

from mcp_server.domain.callers import Caller
from mcp_server.ports.store import Intent, Transaction
from tests.deployments.conftest import Harbour
from tests.deployments.truth import at_rest, told_truly
from tests.tools.desk import OWNER, Desk

TEST = Intent("deploy_project", "test")
CANARY = "s3cret-c4nary-77"


async def active_v1(desk: Desk, harbour: Harbour) -> None:
    await desk.done("create_project", {"name": harbour.project})
    await desk.done("deploy_project", harbour.deploy())
    await desk.done("promote", {"project": harbour.project})


async def refusal(desk: Desk, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await desk.call(tool, arguments)
    assert result.is_error, result.structured_content
    return dict(result.structured_content or {})


def packed(files: dict[str, str]) -> str:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return base64.b64encode(archive.getvalue()).decode()


async def variables(desk: Desk, harbour: Harbour, **values: str) -> None:
    await desk.done("set_environment", {"project": harbour.project, "variables": values})


ENDED = "Correct the image or its variables; deployment_logs shows more"
NOT_HEALTHY = "Look at health_path and container_port, or give it more time with health_timeout"
ADVICE = {"the application ended": ENDED} | dict.fromkeys(
    ("status 503", "redirect", "status 404", "nothing listens"), NOT_HEALTHY
)


@pytest.mark.timeout(300)
async def test_a_version_that_does_not_become_healthy_fails_with_its_last_words_and_leaves_nothing(
    harbour: Harbour,
) -> None:
    async with harbour.server() as desk:
        await active_v1(desk, harbour)
        cases: list[tuple[str, dict[str, str], dict[str, Any], str]] = [
            ("demo-v2", {"CRASH_AFTER": "0", "CRASH_CODE": "7"}, {}, "the application ended"),
            ("demo-plain", {"UNHEALTHY": "1"}, {"health_timeout": 15}, "status 503"),
            ("demo-plain", {"REDIRECT": "1"}, {"health_timeout": 15}, "redirect"),
            (
                "demo-plain",
                {"LEAK": "8"},
                {"resources": {"memory": 48}, "health_path": "/never"},
                "the application ended",
            ),
            ("demo-plain", {}, {"health_timeout": 15, "health_path": "/nowhere"}, "status 404"),
            (
                "demo-plain",
                {"START_DELAY": "60"},
                {"health_timeout": 15, "health_path": ""},
                "nothing listens",
            ),
        ]
        for image, settings, fields, words in cases:
            await variables(desk, harbour, TOKEN=CANARY, **settings)
            failed = await desk.done("deploy_project", harbour.deploy(image, **fields))
            assert failed["status"] == "failed", words
            assert words in failed["error"], failed["error"]
            assert CANARY not in str(failed)
            assert failed["steps"][-1]["status"] == "failed"
            assert failed["next"] == f"{ADVICE[words]}; traffic is where it was"
            status = await told_truly(desk, harbour)
            assert (status["active"], status["green"]["state"]) == ("blue", "empty")
            await desk.done("unset_environment", {"project": harbour.project, "names": [*settings, "TOKEN"]})
        assert harbour.version() == "v1"
        plain = await desk.done("deploy_project", harbour.deploy("demo-plain", health_path=""))
        assert plain["status"] == "success", "a TCP connect is enough where no path is given"


@pytest.mark.timeout(200)
async def test_a_health_check_that_writes_a_secret_is_told_without_it(harbour: Harbour) -> None:
    ann = {"project": harbour.project}
    check = "wget -q -O /dev/null http://127.0.0.1:$PORT/health 2>&1 || { echo with $TOKEN; exit 1; }"
    recipe = f"FROM {harbour.image('demo-plain')}\nHEALTHCHECK --interval=1s --retries=1 CMD {check}\n"
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        await variables(desk, harbour, TOKEN=CANARY)
        code = {"version": "tells", "archive_content": packed({"Dockerfile": recipe})}
        image = (await desk.done("build_image", {**ann, **code}))["image"]
        assert (await desk.done("deploy_project", harbour.deploy() | {"image": image}))["status"] == "success"
        await desk.done("promote", ann)
        harbour.ask("/unhealthy")
        with anyio.fail_after(20):
            while (await at_rest(desk, harbour))["blue"]["health"] != "unhealthy":
                await anyio.sleep(0.2)
        await variables(desk, harbour, UNHEALTHY="1")
        failing = harbour.deploy(health_timeout=10) | {"image": image}
        failed = await desk.done("deploy_project", failing)
        assert "HTTP/1.1 503 Service Unavailable with [redacted]; its last lines" in failed["error"], failed
        told = f"{await at_rest(desk, harbour)}{failed}"
        assert told.count("with [redacted]") >= 3
        assert CANARY not in told


@pytest.mark.timeout(200)
async def test_a_version_that_eats_its_memory_is_ended_by_its_limit_and_the_status_tells(
    harbour: Harbour,
) -> None:
    ann = {"project": harbour.project}
    async with harbour.server() as desk:
        await active_v1(desk, harbour)
        await desk.done("deploy_project", harbour.deploy("demo-v2", resources={"memory": 48}))
        await desk.done("promote", ann)
        harbour.ask("/leak/8")
        with anyio.fail_after(60):
            while not any("started again" in one for one in (await at_rest(desk, harbour))["warnings"]):
                await anyio.sleep(0.2)
        warnings = (await at_rest(desk, harbour))["warnings"]
        assert any("green ended by itself" in one and "48 MB of memory" in one for one in warnings), warnings
        back = await desk.done("rollback", {**ann, "reason": "it eats memory"})
        assert (back["version"], harbour.version()) == ("v1", "v1")


@pytest.mark.timeout(200)
async def test_a_version_is_told_to_end_and_killed_when_it_does_not(
    harbour: Harbour,
) -> None:
    ann = {"project": harbour.project}
    async with harbour.server(drain_seconds="2") as desk:
        await active_v1(desk, harbour)
        await variables(desk, harbour, IGNORE_TERM="1")
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        plan = await desk.done("cleanup_slot", ann)
        container = f"/containers/quaymaster-{harbour.project}-staging-green/logs?stdout=1&stderr=1"
        async with anyio.create_task_group() as group:
            group.start_soon(desk.done, "cleanup_slot", {**ann, "plan_token": plan["plan_token"]})
            with anyio.fail_after(30):
                while "SIGTERM ignored" not in harbour.engine.ask("GET", container):
                    await anyio.sleep(0.05)
        status = await told_truly(desk, harbour)
        assert (status["active"], status["green"]["state"], harbour.version()) == ("blue", "empty", "v1")


@pytest.mark.timeout(200)
async def test_a_cancelled_deploy_is_settled_and_the_next_one_goes(harbour: Harbour) -> None:
    async with harbour.server() as desk, harbour.server() as other:
        await desk.done("create_project", {"name": harbour.project})
        await variables(desk, harbour, START_DELAY="60")
        slow = await desk.done("deploy_project", harbour.deploy(wait_seconds=2))
        assert (slow["status"], slow["next"] is not None) == ("running", True)
        busy = await refusal(other, "deploy_project", harbour.deploy())
        assert (busy["code"], busy["by"], busy["deployment"]) == ("CONFLICT", "ann", slow["id"])
        asked = await other.done("cancel_deployment", {"deployment_id": slow["id"]})
        assert (asked["status"], asked["error"]) == ("failed", "cancelled by ann")
        assert asked["next"] == "Deploy again; traffic is where it was"
        silent = await refusal(other, "deployment_logs", {"project": harbour.project, "slot": "blue"})
        assert (silent["code"], "no container runs in blue" in silent["message"]) == ("NOT_FOUND", True)
        await desk.done("unset_environment", {"project": harbour.project, "names": ["START_DELAY"]})
        again = await other.done("deploy_project", harbour.deploy())
        assert again["status"] == "success"
        await told_truly(desk, harbour)


@pytest.mark.timeout(200)
async def test_a_lost_caller_ends_nothing_and_the_same_key_finds_the_same_deployment(
    harbour: Harbour,
) -> None:
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        with anyio.move_on_after(0.5):
            await desk.call("deploy_project", harbour.deploy(idempotency_key="once"))
        found = await desk.done("deploy_project", harbour.deploy(idempotency_key="once"))
        assert found["status"] == "success"
        listed = await desk.done("list_deployments", {"project": harbour.project})
        assert [one["id"] for one in listed["deployments"]] == [found["id"]]


@pytest.mark.timeout(300)
async def test_a_rollback_over_a_deploy_is_cold_and_runs_with_the_variables_of_then(harbour: Harbour) -> None:
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        await variables(desk, harbour, COLOUR="red")
        await desk.done("deploy_project", harbour.deploy())
        await desk.done("promote", {"project": harbour.project})
        await variables(desk, harbour, COLOUR="blue")
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        await desk.done("promote", {"project": harbour.project})
        over = await desk.done("deploy_project", harbour.deploy("demo-v2"))
        assert any("starts version v1" in notice for notice in over["notices"])
        status = await told_truly(desk, harbour)
        assert (status["rollback"], status["rollback_version"]) == ("cold", "v1")
        back = await desk.done("rollback", {"project": harbour.project, "reason": "red was better"})
        assert (back["cold"], back["version"]) == (True, "v1")
        assert harbour.version() == "v1"
        assert harbour.ask("/env/COLOUR").body == "red\n"
        status = await told_truly(desk, harbour)
        assert any("version 1 of the variables" in warning for warning in status["warnings"])


@pytest.mark.timeout(200)
async def test_a_cold_rollback_whose_variables_do_not_open_any_more_is_refused_and_costs_nothing(
    harbour: Harbour,
) -> None:
    ann = {"project": harbour.project}
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        await variables(desk, harbour, COLOUR="red")
        for image in ("demo", "demo-v2"):
            await desk.done("deploy_project", harbour.deploy(image))
            await desk.done("promote", ann)
        await desk.done("deploy_project", harbour.deploy("demo-v2", version="v3"))
    (harbour.home / "secret.key").unlink()
    async with harbour.server() as desk:
        status = await desk.done("slot_status", ann)
        assert (status["rollback"], status["blue"]["state"]) == (None, "deployed")
        told = [one for one in status["warnings"] if "secret.key" in one]
        assert [one.partition(":")[0] for one in told] == [
            "nothing can be deployed",
            "version v1 cannot be started for a rollback",
        ]
        refused = await refusal(desk, "rollback", {**ann, "reason": "x"})
        assert (refused["code"], "secret.key" in refused["next"]) == ("UNAVAILABLE", True)
        after = await desk.done("slot_status", ann)
        assert (after["blue"], after["last_switch"]) == (status["blue"], status["last_switch"])
        assert harbour.version() == "v2"
        await desk.done("promote", ann)
        back = await desk.done("rollback", {**ann, "reason": "what still runs needs no key"})
        assert (back["cold"], back["version"]) == (False, "v2")


@pytest.mark.timeout(200)
async def test_grace_ends_by_itself_and_an_ended_one_is_no_way_back(harbour: Harbour) -> None:
    async with harbour.server() as desk:
        await active_v1(desk, harbour)
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        await desk.done("promote", {"project": harbour.project})

        async def run_out(tx: Transaction) -> None:
            pair = await tx.slots.hold(f"{harbour.project}/staging")
            assert pair is not None
            await tx.slots.save(pair.change(grace_expires_at=await tx.now() - timedelta(seconds=1)))

        await desk.house.store.run(run_out, TEST)
        late = await refusal(desk, "rollback", {"project": harbour.project, "reason": "late"})
        assert (late["code"], "Deploy that version again" in late["next"]) == ("CONFLICT", True)
        status = await told_truly(desk, harbour)
        assert (status["active"], status["blue"]["state"], status["rollback"]) == ("green", "empty", None)
        assert harbour.version() == "v2"


@pytest.mark.timeout(200)
async def test_the_grace_slot_is_the_lifeboat_of_an_unhealthy_active_one(harbour: Harbour) -> None:
    async with harbour.server() as desk:
        await active_v1(desk, harbour)
        await desk.done("deploy_project", harbour.deploy("demo-checked"))
        await desk.done("promote", {"project": harbour.project})
        harbour.ask("/unhealthy")
        with anyio.fail_after(20):
            while (await at_rest(desk, harbour))["green"]["health"] != "unhealthy":
                await anyio.sleep(0.2)
        refused = await refusal(desk, "deploy_project", harbour.deploy())
        assert (refused["code"], "rollback" in refused["next"]) == ("CONFLICT", True)
        back = await desk.done("rollback", {"project": harbour.project, "reason": "sick"})
        assert (back["version"], harbour.version()) == ("v1", "v1")


@pytest.mark.timeout(200)
async def test_a_promote_whose_container_died_changes_nothing(harbour: Harbour) -> None:
    async with harbour.server() as desk:
        await active_v1(desk, harbour)
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        name = f"quaymaster-{harbour.project}-staging-green"
        await desk.done("promote", {"project": harbour.project})
        await desk.done("rollback", {"project": harbour.project, "reason": "drill"})
        harbour.engine.ask("DELETE", f"/containers/{name}?force=1")
        failed = await refusal(desk, "promote", {"project": harbour.project})
        assert (failed["code"], "not there any more" in failed["message"]) == ("CONFLICT", True)
        assert failed["next"] == "Deploy that version again."
        assert failed.get("receipt") is None, "nothing was sent: the receipt is of the promote before"
        assert harbour.version() == "v1"
        status = await told_truly(desk, harbour)
        assert (status["active"], status["green"]["state"]) == ("blue", "empty")


@pytest.mark.timeout(200)
async def test_what_has_the_traffic_is_started_again_when_its_container_is_gone(harbour: Harbour) -> None:
    ann, name = {"project": harbour.project}, f"quaymaster-{harbour.project}-staging-blue"
    image = f"{harbour.image('demo').partition(':')[0]}:{harbour.project}"
    tagged = f"/images/{harbour.image('demo')}/tag?repo={image.partition(':')[0]}&tag={harbour.project}"
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        await variables(desk, harbour, COLOUR="red")
        harbour.engine.ask("POST", tagged)
        try:
            await desk.done("deploy_project", harbour.deploy(version="v1") | {"image": image})
            await desk.done("promote", ann)
        finally:
            harbour.engine.ask("DELETE", f"/images/{image}")
        await variables(desk, harbour, COLOUR="blue")
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        harbour.engine.ask("DELETE", f"/containers/{name}?force=1")
        lost = await desk.done("slot_status", ann)
        assert (lost["blue"]["health"], harbour.ask().status) == ("missing", 502)

        found = await desk.house.hosting.recovery.run_once()
        assert (found.revived, found.slots, found.containers) == (1, 0, 0)
        with anyio.fail_after(30):
            while harbour.ask("/env/COLOUR").body != "red\n":
                await anyio.sleep(0.1)
        assert harbour.version() == "v1"
        with anyio.fail_after(30):
            while (await at_rest(desk, harbour))["blue"]["health"] != "healthy":
                await anyio.sleep(0.1)
        assert (await told_truly(desk, harbour))["active"] == "blue"
        assert (await desk.house.hosting.recovery.run_once()).nothing
        await desk.done("promote", ann)
        assert harbour.version() == "v2"


@pytest.mark.timeout(200)
async def test_what_has_the_traffic_and_whose_image_is_gone_stays_told_as_missing(harbour: Harbour) -> None:
    async with harbour.server() as desk:
        await active_v1(desk, harbour)
        harbour.engine.ask("DELETE", f"/containers/quaymaster-{harbour.project}-staging-blue?force=1")

        async def forget_image(tx: Transaction) -> None:
            pair = await tx.slots.get(f"{harbour.project}/staging")
            held = None if pair is None else await tx.deployments.hold(pair.blue.deployment or "")
            assert held is not None
            assert held.release is not None
            gone = held.release.change(image_id=f"sha256:{'0' * 64}", image_digest=None)
            await tx.deployments.save(held.change(release=gone))

        await desk.house.store.run(forget_image, TEST)
        for _ in range(2):
            assert (await desk.house.hosting.recovery.run_once()).revived == 0
        status = await at_rest(desk, harbour)
        assert (status["active"], status["blue"]["health"]) == ("blue", "missing")
        assert any("blue (active) is missing" in warning for warning in status["warnings"])
        assert harbour.containers() == {}
        again = await desk.done("deploy_project", harbour.deploy("demo-v2"))
        assert again["status"] == "success"
        await desk.done("promote", {"project": harbour.project})
        assert harbour.version() == "v2"


@pytest.mark.timeout(200)
async def test_a_version_that_does_not_answer_through_the_proxy_gives_the_traffic_back_by_itself(
    harbour: Harbour,
) -> None:
    """Its own health check passes; the port that it was deployed with is another than it listens on."""
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        await variables(desk, harbour, PORT="8080")
        await desk.done("deploy_project", harbour.deploy("demo-checked", container_port=9999))
        first = await refusal(desk, "promote", {"project": harbour.project})
        assert (first["code"], "did not answer" in first["message"]) == ("CONFLICT", True)
        status = await told_truly(desk, harbour)
        assert (status["active"], status["blue"]["state"]) == (None, "deployed")
        await desk.done("deploy_project", harbour.deploy())
        await desk.done("promote", {"project": harbour.project})
        await desk.done("deploy_project", harbour.deploy("demo-checked", container_port=9999))
        failed = await refusal(desk, "promote", {"project": harbour.project})
        assert failed["receipt"]["after_failed"] > 0
        assert harbour.version() == "v1"
        status = await told_truly(desk, harbour)
        assert (status["active"], "did not happen" in status["last_switch"]) == ("blue", True)


@pytest.mark.timeout(200)
async def test_a_switch_that_the_proxys_directory_refuses_says_what_to_do_and_goes_once_it_is_done(
    harbour: Harbour,
) -> None:
    async with harbour.server() as desk:
        await active_v1(desk, harbour)
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        trap = harbour.home / "edge" / "switch" / "routes" / f"{harbour.project}.staging" / "green" / "others"
        trap.mkdir(parents=True)
        failed = await refusal(desk, "promote", {"project": harbour.project})
        assert "The edge's directory cannot be changed" in failed["message"]
        assert failed["next"].startswith("Make ")
        assert harbour.version() == "v1"
        status = await desk.done("slot_status", {"project": harbour.project})
        assert status["last_switch"].endswith(f"changed: Is a directory. {failed['next']}")
        trap.rmdir()
        await desk.done("promote", {"project": harbour.project})
        assert harbour.version() == "v2"


@pytest.mark.timeout(200)
async def test_a_team_that_promotes_by_itself_has_its_deploys_promoted(harbour: Harbour) -> None:
    async with harbour.server() as desk:
        await desk.done("update_team", {"settings": {"deploymentDefaults": {"autoPromote": True}}})
        await desk.done("create_project", {"name": harbour.project})
        up = await desk.done("deploy_project", harbour.deploy())
        assert (up["status"], up["promoted_by"], harbour.version()) == ("success", "ann", "v1")


@pytest.mark.timeout(200)
async def test_a_deploy_that_could_not_be_promoted_by_itself_says_why(harbour: Harbour) -> None:
    ann = {"project": harbour.project}
    bob = Caller(team_id="local", role="member", user="bob", key_id="k-bob")
    async with harbour.server() as desk:
        await active_v1(desk, harbour)
        await desk.done("update_team", {"settings": {"deploymentDefaults": {"autoPromote": True}}})
        await desk.call("lock_files", {**ann, "paths": ["docs/"], "agent": "b"}, caller=bob)
        up = await desk.done("deploy_project", harbour.deploy("demo-v2", changed_paths=["docs/x.md"]))
        assert (up["status"], up["promoted_at"], harbour.version()) == ("success", None, "v1")
        assert (up["steps"][-1]["name"], up["steps"][-1]["status"]) == ("promote", "failed")
        assert "docs/x.md" in up["steps"][-1]["detail"], up["steps"][-1]
        assert up["next"].startswith("Work on other files, wait until the lease expires")
        assert f". Then promote('{harbour.project}', 'staging')" in up["next"]
        await desk.call("release_files", {**ann, "agent": "b"}, caller=bob)
        await desk.done("promote", ann)
        assert (await desk.done("get_deployment", {"deployment_id": up["id"]}))["next"] is None
        assert (await told_truly(desk, harbour))["active"] == "green"


@pytest.mark.timeout(200)
async def test_an_edge_that_lost_its_directory_or_was_tampered_with_is_put_right_from_the_store(
    harbour: Harbour,
) -> None:
    async with harbour.server() as desk:
        await active_v1(desk, harbour)
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        await desk.done("promote", {"project": harbour.project})
        edge, route = desk.house.hosting.edge, f"{harbour.project}.staging"
        slots = desk.house.hosting.slots
        found = next(one for one in await edge.routes() if one.name == route)
        assert found.target is not None
        await edge.forget(route)
        assert harbour.ask().status == 404
        assert (await desk.house.hosting.recovery.run_once()).routes > 0
        assert harbour.version() == "v2"
        wrong = slots.edge.target(f"quaymaster-{harbour.project}-staging-blue", 8080, 0)
        await edge.point(route, "blue", wrong)
        assert harbour.version() == "v1"
        status = await desk.done("slot_status", {"project": harbour.project})
        assert any("proxy sends traffic to blue" in one for one in status["warnings"])
        await desk.house.hosting.recovery.run_once()
        assert harbour.version() == "v2"
        assert (await desk.house.hosting.recovery.run_once()).nothing


@pytest.mark.timeout(200)
async def test_a_promote_waits_for_the_locks_of_others_and_ends_its_own_task(harbour: Harbour) -> None:
    ann = {"project": harbour.project}
    bob = Caller(team_id="local", role="member", user="bob", key_id="k-bob")
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        mine = (await desk.done("create_task", {**ann, "title": "Basket"}))["id"]
        await desk.done("update_task", {"task_id": mine, "status": "in-progress"})
        lock = await desk.done("lock_files", {**ann, "paths": ["src/a.py"], "task_id": mine})
        await desk.call("lock_files", {**ann, "paths": ["docs/"], "agent": "b"}, caller=bob)
        touching = {"task_id": mine, "changed_paths": ["src/a.py", "docs/x.md"]}
        await desk.done("deploy_project", harbour.deploy(**touching))
        held = await refusal(desk, "promote", {**ann, "task_id": mine})
        assert (held["code"], [one["path"] for one in held["conflicts"]]) == ("LOCKED", ["docs/x.md"])
        await desk.call("release_files", {**ann, "agent": "b"}, caller=bob)
        stale = await refusal(desk, "promote", {**ann, "task_id": mine, "fence": lock["fence"] + 7})
        assert stale["code"] == "CONFLICT"
        await desk.done("promote", {**ann, "task_id": mine, "fence": lock["fence"]})
        task = await desk.done("get_task", {"task_id": mine})
        assert (task["status"], task["deploy_id"] is not None) == ("deployed", True)
        assert (await desk.done("list_locks", ann))["locks"] == []


@pytest.mark.timeout(200)
async def test_a_promote_ends_no_task_of_another_project_or_team(harbour: Harbour) -> None:
    ann, beside = {"project": harbour.project}, {"project": f"{harbour.project}b"}
    async with harbour.server() as desk:
        stranger = await desk.other_team()
        theirs = {"project": f"{harbour.project}c"}
        await desk.done("create_project", {"name": theirs["project"]}, caller=stranger)
        foreign = (await desk.done("create_task", {**theirs, "title": "Theirs"}, caller=stranger))["id"]
        await desk.done("create_project", {"name": harbour.project})
        await desk.done("create_project", {"name": beside["project"]})
        other = (await desk.done("create_task", {**beside, "title": "Other"}))["id"]
        await desk.done("deploy_project", harbour.deploy())
        for task, code in ((foreign, "NOT_FOUND"), (other, "INVALID"), ("no-such-task", "NOT_FOUND")):
            assert (await refusal(desk, "promote", {**ann, "task_id": task}))["code"] == code, task
        assert (await told_truly(desk, harbour))["active"] is None
        await desk.done("promote", ann)
        for task, caller in ((foreign, stranger), (other, OWNER)):
            assert (await desk.done("get_task", {"task_id": task}, caller=caller))["status"] == "draft"


@pytest.mark.timeout(200)
async def test_words_of_callers_reach_no_shell_and_no_configuration(harbour: Harbour) -> None:
    nasty = "a'\"; $(touch /tmp/x) `id` {$HOME} }\nrespond 200"
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        await variables(desk, harbour, NASTY=nasty)
        for image in ("$(id)", "a b", "-x", "../x", "A:1", "x;y", "x\ny", "{image}"):
            assert (await refusal(desk, "deploy_project", harbour.deploy() | {"image": image}))[
                "code"
            ] == "INVALID"
        for path in ("health", "/a b", "/\n", "/x\r\nHost: y"):
            assert (await refusal(desk, "deploy_project", harbour.deploy(health_path=path)))[
                "code"
            ] == "INVALID"
        version = "v'\"$(id){}; DROP TABLE deployments;--"
        up = await desk.done("deploy_project", harbour.deploy(version=version))
        assert (up["status"], up["version"]) == ("success", version)
        await desk.done("promote", {"project": harbour.project})
        assert harbour.ask("/env/NASTY").body == nasty + "\n"
        logs = await desk.done("deployment_logs", {"project": harbour.project})
        assert "listening" in logs["text"]
        assert logs["text"].startswith("[untrusted application output begins]")


@pytest.mark.timeout(200)
async def test_a_deleted_project_takes_containers_routes_ports_and_network_with_it(harbour: Harbour) -> None:
    async with harbour.server() as desk:
        await active_v1(desk, harbour)
        plan = await desk.done("delete_project", {"name": harbour.project})
        await desk.done("delete_project", {"name": harbour.project, "plan_token": plan["plan_token"]})
        assert (harbour.containers(), harbour.ask().status) == ({}, 404)
        networks = [one["Name"] for one in harbour.engine.networks(harbour.owner.installation)]
        assert not [name for name in networks if harbour.project in name]
