"""`quaymaster stdio` as a process: what it writes, how it ends, and two of them on one home."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.acceptance.wire import ERAS, call, done, make_key, over_stdio, receive, refused, request, send
from tests.services.processes import ServerProcess, run_quaymaster
from tests.services.waiting import wait_until

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def answered(server: ServerProcess, *, name: str = "infrastructure_status") -> dict[str, object]:
    send(server, call(1, name))
    return receive(server)


def hold(server: ServerProcess) -> None:
    """Make a call that waits three seconds for a lock that stays held, and return while it waits."""
    send(server, call(10, "create_project", name="shop"))
    receive(server)
    send(server, call(11, "lock_files", project="shop", paths=["a"], agent="bo"))
    receive(server)
    send(server, call(12, "lock_files", project="shop", paths=["a"], agent="cy", wait_seconds=3))
    send(server, call(13, "infrastructure_status"))
    assert receive(server)["id"] == 13


def test_the_end_of_input_ends_the_process_cleanly(tmp_path):
    with ServerProcess.stdio(home=tmp_path) as server:
        answered(server)
        server.stdin.close()
        assert server.wait_ended(10) == 0


@pytest.mark.parametrize(
    ("line", "code", "number"),
    [
        (b"{bad", -32700, None),
        (b"\xff\xfe", -32700, None),
        (b"[" * 100_000, -32700, None),
        (b"[]", -32600, None),
        (b'{"jsonrpc":"2.0","id":1}', -32600, None),
        (b'{"jsonrpc":"1.0","id":7,"method":"ping"}', -32600, 7),
    ],
)
def test_a_line_that_is_no_message_is_answered_and_harms_nothing(tmp_path, line, code, number):
    with ServerProcess.stdio(home=tmp_path) as server:
        server.stdin.write(line + b"\n")
        server.stdin.flush()
        answer = receive(server)
        assert (answer["error"]["code"], answer["id"]) == (code, number)
        assert answered(server)["id"] == 1
        server.stdin.close()
        assert server.wait_ended(10) == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_process_cleanly_while_stdin_stays_open(tmp_path, number):
    with ServerProcess.stdio(home=tmp_path) as server:
        answered(server)
        os.kill(server.pid, number)
        assert server.wait_ended(10) == 0
        assert "Traceback" not in server.stderr


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_before_the_first_message_ends_the_process_too(tmp_path, number):
    with ServerProcess.stdio(
        "--toolsets", "all", home=tmp_path, settings={"QUAYMASTER_LOG_LEVEL": "debug"}
    ) as server:
        wait_until(lambda: (tmp_path / "api-keys.json").exists() or None, seconds=20, what="the home")
        send(server, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        time.sleep(0.5)  # until the loop reads: there is nothing to see from outside
        os.kill(server.pid, number)
        assert server.wait_ended(10) == 0


def test_a_running_call_is_answered_after_the_end_of_input(tmp_path):
    with ServerProcess.stdio(home=tmp_path) as server:
        hold(server)
        server.stdin.close()
        answer = receive(server)
        assert answer["id"] == 12
        assert answer["result"]["structuredContent"]["code"] == "LOCKED"
        assert server.stdout.readline() == b""
        assert server.wait_ended(10) == 0


def test_a_running_call_is_answered_after_sigterm_and_a_second_signal_does_not_wait(tmp_path):
    with ServerProcess.stdio(home=tmp_path) as server:
        hold(server)
        os.kill(server.pid, signal.SIGTERM)
        assert receive(server)["result"]["structuredContent"]["code"] == "LOCKED"
        assert server.wait_ended(10) == 0
    with ServerProcess.stdio(home=tmp_path) as server:
        send(server, call(12, "lock_files", project="shop", paths=["a"], agent="cy", wait_seconds=40))
        send(server, call(13, "infrastructure_status"))
        receive(server)
        os.kill(server.pid, signal.SIGTERM)
        time.sleep(0.3)  # two signals at once are one
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_ended(5) == 0


def test_nothing_but_the_protocol_reaches_stdout(tmp_path):
    with ServerProcess.stdio(home=tmp_path, settings={"QUAYMASTER_LOG_LEVEL": "debug"}) as server:
        server.stdin.write(b"this is no message\n\n{}\n[1]\n\xff\xfe\n")
        send(server, request(1, "tools/list"), call(2, "no_such_tool"), call(3, "infrastructure_status"))
        numbers = [receive(server)["id"] for _ in range(4 + 3)]
        assert (numbers.count(None), {*numbers}) == (4, {None, 1, 2, 3})
        server.stdin.close()
        rest = server.stdout.read()
        assert [json.loads(line)["jsonrpc"] for line in rest.splitlines()] == ["2.0"] * len(rest.splitlines())
        assert server.wait_ended(10) == 0


@pytest.mark.parametrize("era", ERAS)
async def test_the_local_user_owns_the_embedded_store(tmp_path, era):
    async with over_stdio(tmp_path, era=era) as client:
        assert (await done(client, "create_project", name="shop"))["name"] == "shop"
        assert (await done(client, "get_team"))["id"] == "local"


@pytest.mark.parametrize("era", ERAS)
async def test_what_only_a_process_could_release_is_released_when_it_ends(tmp_path, era):
    async with over_stdio(tmp_path, era=era) as client:
        await done(client, "create_project", name="shop")
        await done(client, "lock_files", project="shop", paths=["a", "b/"])
        await done(client, "lock_files", project="shop", paths=["c"], agent="ann")
    async with over_stdio(tmp_path, era=era) as again:
        held = await done(again, "list_locks", project="shop")
        assert [lock["path"] for lock in held["locks"]] == ["c"], "ann's own next process can release hers"


@pytest.mark.parametrize("era", ERAS)
async def test_two_processes_on_one_home_see_each_other_and_are_two_holders(tmp_path, era):
    async with over_stdio(tmp_path, era=era) as one, over_stdio(tmp_path, era=era) as two:
        await done(one, "create_project", name="shop")
        mine = await done(one, "lock_files", project="shop", paths=["src/a.py"])
        error = await refused(two, "lock_files", project="shop", paths=["src/"])
        assert error["code"] == "LOCKED"
        assert error["conflicts"][0]["holder"] == mine["holder"]
        await done(one, "release_files", project="shop")
        theirs = await done(two, "lock_files", project="shop", paths=["src/"])
        assert theirs["holder"] != mine["holder"]
        assert theirs["fence"] > mine["fence"]


async def test_a_key_says_who_the_caller_is_until_it_is_revoked(tmp_path):
    key = make_key(tmp_path, role="viewer")
    async with over_stdio(tmp_path, QUAYMASTER_API_KEY=key) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert "get_project" in names
        assert "create_project" not in names
        listed = json.loads(run_quaymaster("keys", "list", "--json", home=tmp_path).stdout)
        assert run_quaymaster("keys", "revoke", listed[0]["id"], home=tmp_path).returncode == 0
        with pytest.raises(Exception, match="not valid"):
            await client.call_tool("list_projects", {})


def test_a_wrong_key_stops_the_start_with_a_sentence(tmp_path):
    wrong = "qm_local_owner_" + "x" * 24
    ended = run_quaymaster("stdio", home=tmp_path, settings={"QUAYMASTER_API_KEY": wrong})
    assert (ended.returncode, ended.stdout) == (4, "")
    assert "the key is not valid. Set QUAYMASTER_API_KEY" in ended.stderr
    assert "Bearer" not in ended.stderr
    assert wrong not in ended.stderr


def test_unknown_toolsets_stop_the_start_with_their_names(tmp_path):
    ended = run_quaymaster("stdio", "--toolsets", "wrk", home=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "work, teams, audit, system, default, all" in ended.stderr
